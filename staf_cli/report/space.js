"use strict";

/**
 * The people in 3D, drawn by three.js. Metres; x right, y up, z towards the camera, which filmed
 * from the origin. `turned` is called when the view is dragged away from that of any button.
 */
function makeSpace(canvas, scene3d, turned) {
  const FREE_ANGLE = 40; // degrees from top to bottom, in every view but the camera's own
  const ONE_REACH = 1.15; // m from the pelvis of the person who is looked at
  const STEEPEST = 0.01; // radians from straight up or down, where "up" loses its meaning
  const DIRECTIONS = { free: [0.6, 0.35, 1], side: [1, 0.12, 0], top: [0, 1, 0.02] };

  const renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true });
  renderer.outputEncoding = THREE.sRGBEncoding;
  const scene = new THREE.Scene();
  const camera = new THREE.PerspectiveCamera(FREE_ANGLE, 1, 0.05, 500);
  const lamp = new THREE.DirectionalLight(0xffffff, 0.9);
  lamp.position.set(0.5, 1, 1);
  camera.add(lamp);
  scene.add(camera, new THREE.HemisphereLight(0xffffff, 0x8a8a92, 0.75));

  const controls = new THREE.TrackballControls(camera, canvas);
  controls.staticMoving = true;
  controls.rotateSpeed = 2.5;
  controls.keys = ["", "", ""]; // the page has its own keys

  const middle = new THREE.Vector3(...scene3d.middle);
  const people = new Map(); // number: its mesh and its pelvis
  let mixer = null;
  let motion = null;
  let time = 0;
  let chosen = null;
  let view = "free"; // a button's, or null after dragging
  let filmed = false; // the view is that of the camera that filmed
  let floor = null;
  let changed = true;

  /** Keep the horizon level: dragging orbits, and never rolls. */
  function level() {
    const eye = camera.position.clone().sub(controls.target);
    const around = new THREE.Spherical().setFromVector3(eye);
    around.phi = Math.min(Math.PI - STEEPEST, Math.max(STEEPEST, around.phi));
    camera.position.setFromSpherical(around).add(controls.target);
    camera.up.set(0, 1, 0);
    camera.lookAt(controls.target);
  }

  function setAngle() {
    const half = Math.tan(THREE.MathUtils.degToRad(scene3d.yfov / 2));
    const wide = Math.max(1, scene3d.aspect / camera.aspect); // so that the whole picture fits in
    camera.fov = filmed ? 2 * THREE.MathUtils.radToDeg(Math.atan(half * wide)) : FREE_ANGLE;
    camera.updateProjectionMatrix();
  }

  function look(name) {
    view = name;
    filmed = name === "filmed";
    setAngle();
    if (filmed) {
      camera.position.set(0, 0, 0);
      controls.target.set(0, 0, middle.z);
    } else {
      const focus = placeOf(chosen) ?? middle;
      const reach = chosen === null ? scene3d.reach : ONE_REACH;
      const narrow = Math.min(1, camera.aspect);
      const away = reach / Math.sin(THREE.MathUtils.degToRad(FREE_ANGLE / 2)) / narrow;
      controls.target.copy(focus);
      camera.position
        .set(...DIRECTIONS[name])
        .setLength(away)
        .add(focus);
    }
    level();
    changed = true;
  }

  function placeOf(number) {
    const person = people.get(number);
    if (!person) return null;
    person.pelvis.updateWorldMatrix(true, false);
    return new THREE.Vector3().setFromMatrixPosition(person.pelvis.matrixWorld);
  }

  function pose() {
    if (!mixer) return;
    const before = placeOf(chosen);
    motion.time = Math.min(time, motion.getClip().duration);
    mixer.update(0);
    const after = placeOf(chosen);
    if (before && after && !filmed) {
      const moved = after.sub(before); // the view goes with the person who is looked at
      camera.position.add(moved);
      controls.target.add(moved);
    }
    changed = true;
  }

  function drawFloor() {
    const style = getComputedStyle(document.documentElement);
    const line = new THREE.Color(style.getPropertyValue("--floor").trim()).convertSRGBToLinear();
    if (floor) scene.remove(floor);
    const metres = 2 * Math.ceil(scene3d.reach + 3);
    floor = new THREE.GridHelper(metres, metres, line, line);
    floor.position.set(Math.round(middle.x), scene3d.floor, Math.round(middle.z));
    scene.add(floor);
    changed = true;
  }

  function fit() {
    const { clientWidth: width, clientHeight: height } = canvas.parentElement;
    if (!width || !height) return;
    renderer.setPixelRatio(Math.min(2, window.devicePixelRatio));
    renderer.setSize(width, height, false);
    camera.aspect = width / height;
    setAngle();
    controls.handleResize();
    changed = true;
  }

  function draw() {
    requestAnimationFrame(draw);
    controls.update();
    if (!changed) return;
    changed = false;
    level();
    renderer.render(scene, camera);
  }

  controls.addEventListener("change", () => {
    changed = true;
  });
  controls.addEventListener("start", () => {
    view = null;
    turned();
  });

  const bytes = Uint8Array.from(atob(scene3d.glb), (letter) => letter.charCodeAt(0));
  const loaded = new Promise((done, fail) =>
    new THREE.GLTFLoader().parse(bytes.buffer, "", done, fail),
  ).then((gltf) => {
    scene.add(gltf.scene);
    for (const number of scene3d.people) {
      const body = gltf.scene.getObjectByName(`person_${number}_body`);
      body.frustumCulled = false; // its bounds are those of the T-pose
      people.set(number, { body, pelvis: body.skeleton.bones[0] });
    }
    mixer = new THREE.AnimationMixer(gltf.scene);
    motion = mixer.clipAction(gltf.animations[0]);
    motion.setLoop(THREE.LoopOnce);
    motion.clampWhenFinished = true;
    motion.play();
    drawFloor();
    new ResizeObserver(fit).observe(canvas.parentElement);
    fit();
    pose();
    look("free");
    draw();
  });

  return {
    loaded,
    look,
    drawFloor,
    get view() {
      return view;
    },
    setTime(next) {
      time = next;
      pose();
    },
    choose(number) {
      chosen = people.has(number) ? number : null;
      for (const [own, person] of people) {
        person.body.visible = number === null || own === number;
      }
      if (view && !filmed) look(view);
      changed = true;
    },
  };
}
