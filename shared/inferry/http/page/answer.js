// What a model answered, as bars with labels, tables, and boxes over the picture.

import { boxes, inWords } from "./boxes.js";
import { h, plural, short, table } from "./dom.js";
import { isFloat, isText, sizeOf, written } from "./wire.js";

const BARS = 10;
const VALUES = 20;
const ROWS = 100;

/** An answer to one row: `outputs` as {name, datatype, shape, data}, the data flat. */
export function answer(model, outputs, picture) {
  const found = model.boxes && picture ? boxes(model, outputs, picture) : null;
  const ofBoxes = found ? [model.boxes.boxes, model.boxes.scores, model.boxes.classes] : [];
  const others = outputs.filter(({ name }) => !ofBoxes.includes(name));
  return h("div", { class: "outputs" }, found, others.map((output) =>
    h("section", { "aria-label": output.name }, h("h3", {}, output.name), " ", h("small", {}, kind(output)), view(output, labelsOf(model, output.name)))));
}

/** The answer in a line: the best class, or the only value. */
export function headline(model, outputs) {
  if (model.boxes) return inWords(model, outputs);
  for (const output of outputs) {
    const labels = labelsOf(model, output.name);
    if (labels.length && labels.length === output.data.length) {
      const best = ranked(output.data)[0];
      return `${labels[best]} (${share(output.data[best], output.data)})`;
    }
  }
  const [single] = outputs.filter(({ data }) => data.length === 1);
  return single ? `${single.name} ${readable(single, labelsOf(model, single.name))}` : plural(outputs.length, "output");
}

export const labelsOf = (model, name) => model.outputs.find((output) => output.name === name)?.parameters?.labels || [];

const kind = ({ datatype, shape }) => `${datatype} [${shape.join(", ")}]`;

function view(output, labels) {
  const { data, shape } = output;
  if (!data.length) return h("p", {}, "Empty: it has no values.");
  if (labels.length && labels.length === data.length) return bars(labels, data);
  if (data.length === 1) return h("p", { class: "value" }, readable(output, labels));
  const width = shape.length > 1 ? shape[shape.length - 1] : 1;
  if (sizeOf(shape.slice(0, -1)) > 1 && width > 1) return matrix(output, width);
  return vector(output, labels);
}

/** The value of an output of one, by its name where it is the number of a class. */
function readable({ data: [value], datatype }, labels) {
  if (isText(datatype)) return value;
  const name = isFloat(datatype) ? undefined : labels[Number(value)];
  return name === undefined ? short(value) : `${name} (class ${value})`;
}

const ranked = (data) => Array.from(data.keys()).sort((a, b) => (Number(data[b]) || 0) - (Number(data[a]) || 0));

/** Whether scores are shares of a whole. */
const areShares = (data) => data.every((value) => value >= -1e-3 && value <= 1.001);

function share(value, data) {
  if (!areShares(data)) return short(value);
  return value > 0 && value < 0.001 ? "< 0.1 %" : `${short(100 * value, 3)} %`;
}

function bars(labels, data) {
  const order = ranked(data);
  const most = areShares(data) ? 1 : Math.max(...data.map(Number).map(Math.abs)) || 1;
  const list = (from, to) => h("ol", { class: "bars", start: from + 1 }, order.slice(from, to).map((i) => {
    const bar = h("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${Math.max(0, Math.min(100, (100 * Number(data[i])) / most))}%`;
    return h("li", {}, h("span", { class: "label" }, labels[i]), h("span", { class: "track", "aria-hidden": "true" }, bar), h("span", { class: "number" }, share(data[i], data)));
  }));
  const rest = order.length - BARS;
  return h("div", {}, list(0, BARS), rest > 0 && h("details", {}, h("summary", {}, `${rest} more`), list(BARS, order.length)));
}

function vector({ name, data, datatype }, labels) {
  const row = (i) => [labels[i] ?? String(i), isFloat(datatype) ? short(data[i]) : String(data[i])];
  const part = (from, to) => table(`Values ${from} to ${to - 1} of ${name}`, [labels.length ? "class" : "position", "value"], Array.from({ length: to - from }, (_, i) => row(from + i)));
  const [first, last] = [Math.min(VALUES, data.length), data.length];
  return h("div", {}, isText(datatype) || datatype === "BOOL" ? null : h("p", {}, summary(data)), part(0, first),
    last > first && h("details", {}, h("summary", {}, `${plural(last - first, "more value")}`), part(first, Math.min(last, 5000))));
}

function summary(data) {
  const numbers = Array.from(data, Number);
  const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  const [least, most] = numbers.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  return `${plural(numbers.length, "value")} from ${short(least)} to ${short(most)}, mean ${short(mean)}`;
}

function matrix({ name, data, datatype }, width) {
  const rows = Array.from({ length: Math.min(ROWS, data.length / width) }, (_, i) =>
    [String(i), ...Array.from({ length: Math.min(width, VALUES) }, (__, j) => (isFloat(datatype) ? short(data[i * width + j]) : String(data[i * width + j])))]);
  const head = ["row", ...Array.from({ length: Math.min(width, VALUES) }, (_, j) => String(j))];
  const left = data.length / width - rows.length;
  return h("div", {}, table(`Values of ${name}`, head, rows), left > 0 && h("p", {}, `And ${plural(left, "row")} more.`));
}

/** What /predict answered to a row, as outputs of the protocol. */
export function ofPrediction(model, row) {
  return Object.entries(row).map(([name, value]) => {
    const shape = [1];
    for (let at = value; Array.isArray(at); at = at[0]) shape.push(at.length);
    const datatype = model.outputs.find((output) => output.name === name).datatype;
    return { name, datatype, shape, data: [value].flat(Infinity) };
  });
}

/** The cells of a row of many: what each output says of it in a word, and of scores the best. */
export function cells(model, outputs) {
  return outputs.flatMap((output) => {
    const labels = labelsOf(model, output.name);
    if (labels.length && labels.length === output.data.length) {
      const best = ranked(output.data)[0];
      return [[output.name, labels[best]], [`${output.name}, share`, output.data[best]]];
    }
    if (output.data.length === 1) return [[output.name, typeof output.data[0] === "number" ? output.data[0] : readable(output, labels)]];
    return [[output.name, `[${Array.from(output.data, written).join(",")}]`]];
  });
}
