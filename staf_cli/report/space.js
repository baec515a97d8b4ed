"use strict";

/**
 * The people in 3D, drawn by three.js. Metres; x right, y up, z towards the camera that filmed, in
 * the world or, where none is known, from that camera. `colours` are people's, by number; `turned`
 * is called when the view is dragged away from that of any button.
 */
function makeSpace(canvas, scene3d, colours, turned) {
  const FREE_ANGLE = 40; // degrees from top to bottom, in every view but the camera's own
  const ONE_REACH = 1.15; // m from the pelvis of the person who is looked at
  const PATH_STEP = 0.05; // m between corners of a path: less is swaying on the spot
  const PATH_WIDTH = 0.05; // m
  const GAP = 0.2; // s, beside the usual steps, for which a person must be gone to break a path
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

  const stage = new THREE.Group(); // people and floor
  scene.add(stage);
  const middle = new THREE.Object3D(); // of all that people do
  middle.position.set(...scene3d.middle);
  stage.add(middle);
  const people = new Map(); // number: its mesh, its pelvis and its path
  let mixer = null;
  let motion = null;
  let time = 0;
  let chosen = null;
  let view = "free"; // a button's, or null after dragging
  let filmed = false; // the angle of view is that of the camera that filmed
  let eye = null; // that camera
  let inWorld = scene3d.world; // or in the axes of that camera
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

  /** Put the stage as the world has it, or so that the camera that filmed is the origin. */
  function settle() {
    stage.position.set(0, 0, 0);
    stage.quaternion.identity();
    if (!inWorld && eye) {
      eye.updateWorldMatrix(true, false);
      const back = new THREE.Quaternion().setFromRotationMatrix(eye.matrixWorld).conjugate();
      stage.quaternion.copy(back);
      stage.position.setFromMatrixPosition(eye.matrixWorld).negate().applyQuaternion(back);
    }
  }

  function centre() {
    return middle.getWorldPosition(new THREE.Vector3());
  }

  /** Look through the camera that filmed, wherever it is and however it is tilted. */
  function followEye() {
    eye.updateWorldMatrix(true, false);
    camera.position.setFromMatrixPosition(eye.matrixWorld);
    camera.quaternion.setFromRotationMatrix(eye.matrixWorld);
    const away = camera.position.distanceTo(centre());
    controls.target.set(0, 0, -away).applyQuaternion(camera.quaternion).add(camera.position);
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
    if (!filmed) {
      const focus = placeOf(chosen) ?? centre();
      const reach = chosen === null ? scene3d.reach : ONE_REACH;
      const narrow = Math.min(1, camera.aspect);
      const away = reach / Math.sin(THREE.MathUtils.degToRad(FREE_ANGLE / 2)) / narrow;
      controls.target.copy(focus);
      camera.position
        .set(...DIRECTIONS[name])
        .setLength(away)
        .add(focus);
      level();
    }
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
    settle();
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
    if (floor) stage.remove(floor);
    const metres = 2 * Math.ceil(scene3d.reach + 3);
    floor = new THREE.GridHelper(metres, metres, line, line);
    const { x, z } = middle.position;
    floor.position.set(Math.round(x), scene3d.floor, Math.round(z));
    stage.add(floor);
    changed = true;
  }

  /** A stripe on the ground below a pelvis that moves by a track of three.js; it breaks at gaps. */
  function drawPath(track, colour) {
    const { times, values } = track;
    const usual = times.length > 1 ? (times[times.length - 1] - times[0]) / (times.length - 1) : 0;
    const corners = [];
    let last = null;
    times.forEach((now, k) => {
      const [x, z] = [values[3 * k], values[3 * k + 2]];
      const broken = last && now - last.seen > GAP + 2 * usual;
      if (last) last.seen = now;
      const length = last ? Math.hypot(x - last.x, z - last.z) : 0;
      if (last && !broken && length < PATH_STEP) return;
      if (last && !broken) {
        const [along, across] = [x - last.x, z - last.z].map((d) => (d * PATH_WIDTH) / 2 / length);
        const [a, b] = [-1, 1].map((side) => [last.x - side * across, 0, last.z + side * along]);
        const [c, d] = [-1, 1].map((side) => [x - side * across, 0, z + side * along]);
        corners.push(...a, ...b, ...c, ...c, ...b, ...d);
      }
      last = { x, z, seen: now };
    });
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.Float32BufferAttribute(corners, 3));
    const material = new THREE.MeshBasicMaterial({
      color: new THREE.Color(colour).convertSRGBToLinear(),
      side: THREE.DoubleSide,
    });
    const path = new THREE.Mesh(geometry, material);
    path.position.y = scene3d.floor + 0.005; // over the grid
    stage.add(path);
    return path;
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
    if (view === "filmed") followEye();
    else level();
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
    stage.add(gltf.scene);
    eye = gltf.scene.getObjectByName("camera");
    for (const number of scene3d.people) {
      const body = gltf.scene.getObjectByName(`person_${number}_body`);
      body.frustumCulled = false; // its bounds are those of the T-pose
      const pelvis = body.skeleton.bones[0];
      const places = gltf.animations[0].tracks.find(({ name }) => name === `${pelvis.name}.position`);
      const path = scene3d.world && places ? drawPath(places, colours[number]) : null;
      people.set(number, { body, pelvis, path });
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
    get inWorld() {
      return inWorld;
    },
    setWorld(whether) {
      inWorld = whether;
      settle();
      look(view ?? "free");
    },
    setTime(next) {
      time = next;
      pose();
    },
    choose(number) {
      chosen = people.has(number) ? number : null;
      for (const [own, person] of people) {
        person.body.visible = number === null || own === number;
        if (person.path) person.path.visible = person.body.visible;
      }
      if (view && !filmed) look(view);
      changed = true;
    },
  };
}
