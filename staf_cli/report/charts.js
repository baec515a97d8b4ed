"use strict";

/* Tracks and curves over the clip's time, as SVG that is WIDTH wide, whatever the page's width. */

const WIDTH = 1000;
const HEIGHT = 100;

function draw(name, attributes, children = []) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** An empty chart; a click in it seeks, and the line in it follows the time. */
function makeChart(clip, clock, label) {
  const length = Math.max(clip.end - clip.start, 1 / clip.fps);
  const place = (time) => ((time - clip.start) / length) * WIDTH;
  const playhead = draw("line", { class: "playhead", y1: 0, y2: HEIGHT });
  const svg = draw(
    "svg",
    {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": label,
    },
    [playhead],
  );
  const timeAt = (event) => {
    const { left, width } = svg.getBoundingClientRect();
    return clip.start + ((event.clientX - left) / width) * length;
  };
  svg.addEventListener("pointerdown", (event) => clock.seek(timeAt(event)));
  svg.addEventListener("pointermove", (event) => {
    if (event.buttons === 1) clock.seek(timeAt(event));
  });
  clock.listen(() => {
    const x = place(clock.time);
    playhead.setAttribute("x1", x);
    playhead.setAttribute("x2", x);
  });
  return { svg, place, timeAt, add: (...shapes) => playhead.before(...shapes) };
}

/**
 * When a person is there: full where seen, pale where bridged, nothing where lost. With `standing`
 * there are two stripes below, left foot over right one: where it is on the ground.
 */
function drawTrack(chart, person, standing) {
  const bars = (intervals, kind, y, height) =>
    intervals.map(([start, end]) =>
      draw("rect", {
        class: kind,
        fill: person.colour,
        x: chart.place(start),
        y,
        width: Math.max(1, chart.place(end) - chart.place(start)),
        height,
      }),
    );
  const high = standing ? 0.5 * HEIGHT : HEIGHT;
  chart.add(...bars(person.there, "bar", 0, high));
  for (const bridge of bars(person.bridged, "bridge", 0, high)) {
    bridge.removeAttribute("fill");
    chart.add(bridge);
  }
  if (!standing) return;
  person.stands.forEach((intervals, side) => {
    chart.add(...bars(intervals, "bar", (0.58 + 0.23 * side) * HEIGHT, 0.17 * HEIGHT));
  });
}

/** A curve as a path between two values, interrupted where there is none. */
function pathOf(curve, place, top, bottom = 0) {
  let pen = "M";
  let path = "";
  curve.time.forEach((time, k) => {
    const value = curve.value[k];
    if (value === null) {
      pen = "M";
      return;
    }
    const y = HEIGHT * (1 - Math.min((value - bottom) / (top - bottom), 1.05));
    path += `${pen}${place(time).toFixed(2)} ${y.toFixed(2)}`;
    pen = "L";
  });
  return path;
}

/** The number of the curve's point that is nearest to a time, or -1 where none is near. */
function nearest(curve, time, within) {
  let low = 0;
  let high = curve.time.length - 1;
  while (low < high) {
    const half = (low + high) >> 1;
    if (curve.time[half] < time) low = half + 1;
    else high = half;
  }
  if (low > 0 && time - curve.time[low - 1] < curve.time[low] - time) low -= 1;
  const usable = curve.time.length && curve.value[low] !== null;
  return usable && Math.abs(curve.time[low] - time) <= within ? low : -1;
}

/** The next round number for an axis, at or above the given one. */
function roundUp(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return unit * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * unit >= value * 0.9999);
}

/** The top of an axis: above 98 % of the values, and above the limits. */
function topOf(curves, limits) {
  const values = curves.flatMap((curve) => curve.value.filter((value) => value !== null));
  values.sort((a, b) => a - b);
  const usual = values.length ? values[Math.floor(0.98 * (values.length - 1))] : 1;
  return roundUp(Math.max(1.25 * usual, ...limits.map((limit) => 1.3 * limit), 1e-3));
}

/**
 * A plot of one measure: a curve for each person, maybe the median, dashed limits.
 *
 * measure: {title, note, unit, factor, limits, name, median}; `factor` takes values to the unit.
 */
function makePlot(measure, people, clip, clock, names) {
  const chart = makeChart(clip, clock, `${measure.title}, over time`);
  const curves = people.map((person) => person[measure.name]);
  const limits = measure.limits ?? [];
  const top = topOf(curves, limits);
  const digits = top * measure.factor >= 20 ? 0 : 1;
  const figure = (value) => `${(value * measure.factor).toFixed(digits)} ${measure.unit}`;

  const axis = document.createElement("div");
  axis.className = "axis";
  for (const share of [0, 0.5, 1]) {
    const mark = document.createElement("span");
    mark.textContent = share ? figure(top * share) : "0";
    mark.style.top = `${[96, 50, 6][2 * share]}%`;
    axis.append(mark);
    const y = HEIGHT * (1 - share);
    chart.add(draw("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
  }
  for (const limit of limits) {
    const y = HEIGHT * (1 - limit / top);
    chart.add(draw("line", { class: "limit", x1: 0, x2: WIDTH, y1: y, y2: y }));
  }
  const lines = new Map();
  people.forEach((person, k) => {
    const d = pathOf(curves[k], chart.place, top);
    lines.set(person.number, draw("path", { class: "curve", stroke: person.colour, d }));
  });
  chart.add(...lines.values());
  if (measure.median) {
    const d = pathOf(measure.median, chart.place, top);
    lines.set("median", draw("path", { class: "curve median", d }));
    chart.add(lines.get("median"));
  }

  const heading = document.createElement("h2");
  const note = document.createElement("small");
  const reading = document.createElement("output");
  heading.append(measure.title, note, reading);
  note.textContent = measure.note;
  const row = document.createElement("div");
  row.className = "row";
  row.append(axis, chart.svg);
  const plot = document.createElement("div");
  plot.className = "plot";
  plot.append(heading, row);

  let chosen = null;
  const within = Math.max(1.5 / clip.fps, (clip.end - clip.start) / 500);
  function read(time) {
    const parts = people
      .filter((person) => chosen === null || person.number === chosen)
      .slice(0, 4)
      .map((person) => {
        const curve = person[measure.name];
        const k = nearest(curve, time, within);
        if (k < 0) return null;
        const joint = curve.label ? ` (${names[curve.label[k]].replace("_", " ")})` : "";
        return `${person.name}: ${figure(curve.value[k])}${joint}`;
      });
    reading.textContent = parts.filter(Boolean).join(", ");
  }
  chart.svg.addEventListener("pointermove", (event) => read(chart.timeAt(event)));
  chart.svg.addEventListener("pointerleave", () => read(clock.time));
  clock.listen(() => read(clock.time));

  return {
    plot,
    choose(number) {
      chosen = number;
      for (const [own, line] of lines) {
        line.classList.toggle("faded", number !== null && own !== number);
      }
      read(clock.time);
    },
  };
}

const ANGLES = [
  { name: "hip_flexion", title: "Hip flexion", bottom: -45, top: 135, marks: [0, 90] },
  { name: "knee_flexion", title: "Knee flexion", bottom: -15, top: 150, marks: [0, 90] },
  { name: "shoulder_elevation", title: "Shoulder elevation", bottom: 0, top: 180, marks: [0, 90] },
  { name: "elbow_flexion", title: "Elbow flexion", bottom: -15, top: 150, marks: [0, 90] },
];

/** A small plot of each of the angles, left and right, of the person chosen or else the first. */
function makeAngles(people, clip, clock) {
  const within = Math.max(1.5 / clip.fps, (clip.end - clip.start) / 500);
  let shown = people[0];

  const parts = ANGLES.map(({ name, title, bottom, top, marks }) => {
    const chart = makeChart(clip, clock, `${title}, left and right, over time`);
    const axis = document.createElement("div");
    axis.className = "axis";
    for (const value of marks) {
      const y = HEIGHT * (1 - (value - bottom) / (top - bottom));
      const mark = document.createElement("span");
      mark.textContent = `${value}°`;
      mark.style.top = `${Math.min(y, 92)}%`;
      axis.append(mark);
      chart.add(draw("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
    }
    const lines = ["left", "right"].map((side) => draw("path", { class: `curve ${side}` }));
    chart.add(...lines);
    const heading = document.createElement("h2");
    const reading = document.createElement("output");
    heading.append(title, reading);
    const row = document.createElement("div");
    row.className = "row";
    row.append(axis, chart.svg);
    const plot = document.createElement("div");
    plot.className = "plot small";
    plot.append(heading, row);

    const curves = () =>
      ["left", "right"].map((side) => ({
        time: shown.angles.time,
        value: shown.angles[`${side}_${name}`],
      }));
    function read(time) {
      const [left, right] = curves().map((curve) => {
        const k = nearest(curve, time, within);
        return k < 0 ? "–" : `${curve.value[k]}°`;
      });
      reading.textContent = `left ${left}, right ${right}`;
    }
    chart.svg.addEventListener("pointermove", (event) => read(chart.timeAt(event)));
    chart.svg.addEventListener("pointerleave", () => read(clock.time));
    clock.listen(() => read(clock.time));
    function show() {
      curves().forEach((curve, k) => {
        lines[k].setAttribute("d", pathOf(curve, chart.place, top, bottom));
        lines[k].setAttribute("stroke", shown.colour);
      });
      read(clock.time);
    }
    return { plot, show };
  });

  function choose(number) {
    shown = people.find((person) => person.number === number) ?? people[0];
    document.getElementById("whose").textContent = shown.name;
    parts.forEach((part) => part.show());
  }
  choose(null);
  return { plots: parts.map(({ plot }) => plot), choose };
}
