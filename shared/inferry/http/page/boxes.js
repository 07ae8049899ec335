// Boxes over the picture that they were found in, where config.json says which outputs are boxes.

import { h, newId, short, svg, table } from "./dom.js";

const THRESHOLD = 0.5;

/** The picture with its boxes, those with a score over a threshold that can be moved, and a list of them. */
export function boxes(model, outputs, picture) {
  const found = list(model, outputs);
  const image = h("img", { alt: "The picture that was sent", src: URL.createObjectURL(picture) });
  const over = svg("svg", { class: "over", "aria-hidden": "true" });
  const state = h("p", { role: "status" });
  const rows = h("div");
  const range = h("input", { type: "range", min: 0, max: 1, step: 0.01, value: THRESHOLD, id: newId(), oninput: draw });

  function draw() {
    const { naturalWidth: width, naturalHeight: height } = image;
    if (!width) return;
    const least = Number(range.value);
    const shown = found.filter(({ score }) => score >= least).map((box) => ({ ...box, at: inPicture(model, box.at, width, height) }));
    over.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const size = Math.max(width, height) / 28;
    over.replaceChildren(...shown.flatMap(({ at: [x0, y0, x1, y1], name, score, number }) => [
      svg("rect", { x: x0, y: y0, width: Math.max(x1 - x0, 0), height: Math.max(y1 - y0, 0), class: `box c${number % 6}`, "stroke-width": size / 6 }),
      svg("text", { x: x0, y: Math.max(y0 - size / 4, size), "font-size": size, "stroke-width": size / 5, class: "boxname" }, `${name} ${short(100 * score, 2)} %`),
    ]));
    state.textContent = `${shown.length} of ${found.length} boxes`;
    rows.replaceChildren(shown.length ? table("List of boxes", ["class", "score", "left", "top", "right", "bottom"],
      shown.map(({ name, score, at }) => [name, short(score, 3), ...at.map((value) => String(Math.round(value)))])) : "");
  }

  image.addEventListener("load", draw);
  return h("section", { "aria-label": "Boxes" }, h("h3", {}, "Boxes"),
    h("div", { class: "stack" }, image, over),
    h("div", { class: "row" }, h("label", { for: range.id }, "Score at least"), range), state, rows);
}

/** What is in the picture by the boxes with a score that counts, in a line. */
export function inWords(model, outputs) {
  const names = list(model, outputs).filter(({ score }) => score >= THRESHOLD).map(({ name }) => name);
  if (!names.length) return "nothing found";
  return [...new Set(names)].map((name) => `${names.filter((each) => each === name).length} × ${name}`).join(", ");
}

/** The boxes, the best first: `at` as left, top, right, bottom of what the model sees, `number` of the class. */
function list({ boxes: how }, outputs) {
  const data = Object.fromEntries(outputs.map((output) => [output.name, output.data]));
  const width = how.scores ? 4 : 6;
  const count = Math.floor(data[how.boxes].length / width);
  const classes = how.scores && !how.classes && count ? Math.round(data[how.scores].length / count) : 1;
  return Array.from({ length: count }, (_, i) => {
    const numbers = data[how.boxes].slice(i * width, (i + 1) * width);
    const scores = how.scores ? data[how.scores].slice(i * classes, (i + 1) * classes) : [numbers[4]];
    const best = scores.indexOf(Math.max(...scores));
    const number = Math.round(how.classes ? Number(data[how.classes][i]) : how.scores ? best : numbers[5]);
    return { at: corners(how.format, numbers), score: scores[best], number, name: how.labels[number] ?? `class ${number}` };
  }).sort((a, b) => b.score - a.score);
}

function corners(format, [a, b, c, d]) {
  if (format === "xywh") return [a, b, a + c, b + d];
  if (format === "cxcywh") return [a - c / 2, b - d / 2, a + c / 2, b + d / 2];
  if (format === "yxyx") return [b, a, d, c];
  return [a, b, c, d];
}

/** Where a box of what the model sees is in the picture: the way back through resizing, as `preprocess` has it. */
function inPicture({ boxes: { unit }, images }, at, width, height) {
  const [how] = Object.values(images);
  const [rows, columns] = how.size;
  const seen = at.map((value, i) => (unit === "relative" ? value * (i % 2 ? rows : columns) : value));
  const [sx, sy, left, top] = {
    stretch: () => [columns / width, rows / height, 0, 0],
    pad: () => {
      const scale = Math.min(columns / width, rows / height);
      const free = [columns - Math.max(Math.round(width * scale), 1), rows - Math.max(Math.round(height * scale), 1)];
      return [scale, scale, ...(how.align === "center" ? free.map((length) => Math.floor(length / 2)) : [0, 0])];
    },
    crop: () => {
      const short = Math.min(width, height);
      const scale = how.short_side ? how.short_side / short : Math.max(columns / width, rows / height);
      return [scale, scale, -(width * scale - columns) / 2, -(height * scale - rows) / 2];
    },
  }[how.resize]();
  const inside = (value, most) => Math.min(Math.max(value, 0), most);
  return seen.map((value, i) => (i % 2 ? inside((value - top) / sy, height) : inside((value - left) / sx, width)));
}
