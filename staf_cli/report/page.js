"use strict";

/* Assembles the page. All text is set as text, never as HTML: names are untrusted. */

const report = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);

function make(name, text, ...children) {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

/** A time in words: 3.20 s, or 1:03.20 from a minute on. */
function readableTime(time) {
  const minutes = Math.floor(time / 60 + 1e-9);
  const seconds = (time - 60 * minutes).toFixed(2);
  return minutes ? `${minutes}:${seconds.padStart(5, "0")}` : `${seconds} s`;
}

function dot(number) {
  const mark = make("span");
  mark.className = "dot";
  mark.style.background = colours[number] ?? "var(--soft)";
  return mark;
}

const { clip, people } = report;
const colours = Object.fromEntries(people.map((person) => [person.number, person.colour]));
const video = at("video");
const clock = makeClock(video, clip);
let chosen = null;
let space = null;
const plots = [];

at("title").textContent = report.title;
at("subtitle").textContent = report.subtitle;
at("headline").textContent = report.verdict.headline;
at("headline").dataset.grade = report.verdict.grade;

// ── light and dark ──────────────────────────────────────────────────────────────────────────

const dark = matchMedia("(prefers-color-scheme: dark)");
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  space?.drawFloor();
}
setTheme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
at("theme").addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
});

// ── overlay and 3D ──────────────────────────────────────────────────────────────────────────

function noOverlay() {
  at("no-video").textContent =
    `${clip.overlay} cannot be shown here: it belongs beside this page, ` +
    "in a format that your browser knows. Everything else works without it.";
  at("no-video").hidden = false;
  clock.runWithoutVideo();
}

function showStill() {
  const picture = make("img");
  picture.id = "still";
  picture.alt = "The picture with the bodies drawn on it";
  picture.addEventListener("error", noOverlay);
  picture.addEventListener("load", () => {
    at("overlay").style.setProperty("--aspect", `${picture.naturalWidth} / ${picture.naturalHeight}`);
  });
  picture.src = clip.overlay;
  video.replaceWith(picture);
  for (const id of ["scrub", "back", "play", "forth", "now"]) at(id).hidden = true;
  at("rate").parentElement.hidden = true;
  clock.runWithoutVideo();
}

video.addEventListener("error", noOverlay);
video.addEventListener("loadedmetadata", () => {
  at("overlay").style.setProperty("--aspect", `${video.videoWidth} / ${video.videoHeight}`);
});
for (const event of ["seeking", "seeked"]) {
  video.addEventListener(event, () => at("overlay").classList.toggle("seeking", video.seeking));
}
video.addEventListener("click", () => (clock.playing ? clock.pause() : clock.play()));
if (clip.still) showStill();
else video.src = clip.overlay;

// ── with or without bodies ──────────────────────────────────────────────────────────────────

const original = followPicture(at("original"), video, clip, clock, () => {
  at("bodies-label").hidden = false;
  at("original").hidden = false;
});

function showBodies(share) {
  if (at("bodies-label").hidden) return;
  at("bodies").value = share;
  at("overlay").style.setProperty("--bodies", share);
  original.want(share < 1);
}
at("bodies").addEventListener("input", () => showBodies(Number(at("bodies").value)));

function markView() {
  for (const button of at("views").children) {
    button.setAttribute("aria-pressed", String(button.dataset.view === space.view));
  }
  at("world").hidden = !report.space.world;
  at("world").setAttribute("aria-pressed", String(space.inWorld));
}

function look(view) {
  space?.look(view);
  if (space) markView();
}

function switchWorld() {
  if (!space || at("world").hidden) return;
  space.setWorld(!space.inWorld);
  markView();
}
at("world").addEventListener("click", switchWorld);

function noSpace(reason) {
  at("no-space").textContent = `The 3D view cannot be shown: ${reason}`;
  at("no-space").hidden = false;
  at("world").hidden = true;
  space = null;
}

try {
  space = makeSpace(at("canvas"), report.space, colours, () => markView());
  space.loaded.then(markView).catch((error) => noSpace(error.message));
  clock.listen(() => space?.setTime(clock.shown)); // never another moment than the picture's
} catch (error) {
  noSpace(error.message); // no WebGL
}
for (const button of at("views").children) {
  button.addEventListener("click", () => look(button.dataset.view));
}

// ── playing, and the person shown ───────────────────────────────────────────────────────────

function choose(number) {
  chosen = number;
  at("person").value = number ?? "";
  space?.choose(number);
  plots.forEach((plot) => plot.choose(number));
  for (const button of at("tracks").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.value) === number));
  }
}

at("person").append(new Option("everyone", ""));
for (const { number, name } of people) at("person").append(new Option(name, number));
at("person").addEventListener("change", (event) => {
  choose(event.target.value === "" ? null : Number(event.target.value));
});
at("play").addEventListener("click", () => (clock.playing ? clock.pause() : clock.play()));
at("back").addEventListener("click", () => clock.step(-1));
at("forth").addEventListener("click", () => clock.step(1));
at("rate").addEventListener("change", (event) => clock.setRate(Number(event.target.value)));

const scrub = at("scrub");
scrub.min = clip.start;
scrub.max = clip.end;
scrub.addEventListener("input", () => clock.seek(Number(scrub.value)));
clock.listen(() => {
  scrub.value = clock.time;
  scrub.setAttribute("aria-valuetext", readableTime(clock.time));
  at("now").textContent = `${readableTime(clock.time)} of ${readableTime(clip.end)}`;
  at("play").textContent = clock.playing ? "❚❚" : "▶";
  at("play").setAttribute("aria-label", clock.playing ? "Pause" : "Play");
});

function press(id, pressed) {
  at(id).setAttribute("aria-pressed", String(pressed));
}

const SWITCHES = {
  loop() {
    clock.setLoop(!clock.loop);
    press("loop", clock.loop);
  },
  mute() {
    video.muted = !video.muted;
    press("mute", video.muted);
  },
  full() {
    if (document.fullscreenElement) document.exitFullscreen();
    else at("stage").requestFullscreen?.();
  },
  ask() {
    if (at("help").open) at("help").close();
    else at("help").showModal();
  },
};
for (const [id, act] of Object.entries(SWITCHES)) at(id).addEventListener("click", act);

const KEYS = {
  " ": () => (clock.playing ? clock.pause() : clock.play()),
  ArrowLeft: (event) => (event.shiftKey ? clock.seek(clock.time - 1) : clock.step(-1)),
  ArrowRight: (event) => (event.shiftKey ? clock.seek(clock.time + 1) : clock.step(1)),
  Home: () => clock.seek(clip.start),
  End: () => clock.seek(clip.end),
  b: () => showBodies(Number(at("bodies").value) > 0 ? 0 : 1),
  c: () => look("filmed"),
  o: () => look("free"),
  s: () => look("side"),
  t: () => look("top"),
  w: switchWorld,
  l: SWITCHES.loop,
  m: SWITCHES.mute,
  f: SWITCHES.full,
  "?": SWITCHES.ask,
};
document.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  const inSelect = event.target.matches("select, pre");
  const onButton = event.key === " " && event.target.matches("button, summary");
  const behindHelp = at("help").open && event.key !== "?";
  if (!act || inSelect || onButton || behindHelp || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act(event);
});

// After a click with the mouse, space plays; with the keyboard it still presses the button.
document.addEventListener("click", (event) => {
  if (event.detail > 0) event.target.closest("button")?.blur();
});

// ── tracks, curves, words ───────────────────────────────────────────────────────────────────

const standing = report.space.world;
at("feet").hidden = !standing;
for (const person of people) {
  const button = make("button", "", dot(person.number), make("span", person.name));
  button.type = "button";
  button.value = person.number;
  button.addEventListener("click", () => choose(chosen === person.number ? null : person.number));
  const chart = makeChart(clip, clock, `${person.name}: ${person.summary}`);
  chart.svg.classList.add("track");
  chart.svg.classList.toggle("feet", standing);
  drawTrack(chart, person, standing);
  const row = make("div", "", button, chart.svg);
  row.className = "row";
  at("tracks").append(row);
}

const MEASURES = [
  {
    name: "error",
    title: "Off the detected keypoints",
    note: "mean of the joints, in % of the box around the person; black or white: the median",
    unit: "%",
    factor: 100,
    limits: report.limits,
    median: report.median,
  },
  {
    name: "sigma",
    title: "May be off in space",
    note: "counted from the pelvis; true of two joints in three, mean of the joints",
    unit: "cm",
    factor: 100,
  },
  {
    name: "speed",
    title: "Speed",
    note: "of the fastest joint",
    unit: "m/s",
    factor: 1,
  },
  {
    name: "acceleration",
    title: "Acceleration",
    note: "of the joint where it is largest; peaks are jumps or jitter",
    unit: "m/s²",
    factor: 1,
  },
];
for (const measure of MEASURES) {
  const plot = makePlot(measure, people, clip, clock, report.joints);
  plots.push(plot);
  at("plots").append(plot.plot);
}

const angles = makeAngles(people, clip, clock);
plots.push(angles);
at("angles").append(...angles.plots);

function goTo(time, person) {
  clock.pause();
  clock.seek(time);
  if (chosen !== null && person !== null) choose(person);
}

for (const doubt of report.verdict.doubts) {
  const button = make("button", "", dot(doubt.person), make("span", doubt.text));
  button.type = "button";
  button.title = doubt.detail;
  button.addEventListener("click", () => goTo(doubt.start, doubt.person));
  at("doubts").append(make("li", "", button));
}
if (!report.verdict.doubts.length) at("doubts").append(make("li", "Nothing to distrust."));
if (report.verdict.omitted) {
  at("omitted").textContent = `${report.verdict.omitted} shorter ones are not listed.`;
  at("omitted").hidden = false;
}
for (const text of report.verdict.good) at("good").append(make("li", text));
if (!report.verdict.good.length) at("good").append(make("li", "Nothing that could be measured."));

for (const frame of report.worst) {
  const button = make("button");
  button.type = "button";
  button.title = frame.detail;
  const image = new Image();
  image.src = frame.picture;
  image.alt = "";
  button.append(image, make("span", frame.text));
  button.addEventListener("click", () => goTo(frame.time, frame.person));
  at("worst").append(make("li", "", button));
}

for (const [name, value] of report.settings) {
  at("settings").append(make("dt", name), make("dd", value));
}
at("record").textContent = report.record;
at("notes").textContent = report.notes.join(" ");

clock.seek(clip.start);
