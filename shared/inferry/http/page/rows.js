// Many rows at once: a table as CSV, pasted or dropped, and its answers as a table and as CSV.

import { ask, modelPath, parsed as parsedJson } from "./api.js";
import { cells, ofPrediction } from "./answer.js";
import { Wrong, bytes, download, h, newId, plural, short, table, takesFiles, time } from "./dom.js";
import { decode, encode, sizeOf, valueOf, written } from "./wire.js";

const SHOWN = 100;
// Rows of a request, where the model sets no limit.
const TOGETHER = 1000;

/** Whether a row of the model is a row of a table: one value for each input, or a list for its only one. */
export function takesTables(model) {
  const inputs = required(model);
  const ofOne = inputs.every(({ shape }) => shape.length > 1 && shape[0] === -1 && shape.slice(1).every((length) => length === 1));
  return ofOne || (inputs.length === 1 && inputs[0].shape.length === 2 && inputs[0].shape[0] === -1 && inputs[0].shape[1] > 1);
}

const required = (model) => model.inputs.filter(({ name }) => !model.optional.includes(name));

/** The names of a row's values, in their order. */
function names(model) {
  const inputs = required(model);
  if (inputs.length > 1) return model.columns.length ? model.columns : inputs.map(({ name }) => name);
  const [{ name, shape }] = inputs;
  const size = sizeOf(shape.slice(1));
  if (model.columns.length === size) return model.columns;
  return size === 1 ? [name] : Array.from({ length: size }, (_, i) => String(i));
}

export function tables(model, say) {
  const wanted = names(model);
  const id = newId();
  const area = h("textarea", { id, rows: 6, class: "code", spellcheck: "false" });
  const file = h("input", { type: "file", accept: ".csv,.tsv,.txt", id: newId(), onchange: () => file.files[0] && load(file.files[0]) });
  const result = h("div", { "aria-live": "polite" });
  const button = h("button", { type: "button", onclick: () => run().catch(failed) }, "Predict all rows");

  async function load(blob) {
    area.value = await blob.text();
    area.focus();
  }

  function failed(error) {
    button.disabled = false;
    result.replaceChildren();
    say(error);
  }

  async function run() {
    say(null);
    const { head, rows } = matched(parsed(area.value, area), wanted, area);
    button.disabled = true;
    const started = performance.now();
    const answers = [];
    let sent = 0;
    // Together as tensors where rows are proven to be apart from one another; else to /predict, which proves it, or
    // runs them one by one. That knows the served version only: another's rows are sent one by one.
    const isProven = model.properties.rows === "proven";
    const send = isProven || model.asked ? asTensors : asRows;
    const together = !isProven && model.asked ? 1 : model.max_batch_size || TOGETHER;
    for (let start = 0; start < rows.length; start += together) {
      result.replaceChildren(h("p", {}, `${plural(start, "row")} of ${rows.length.toLocaleString("en")} done ...`));
      const inputs = tensors(model, wanted, rows.slice(start, start + together), start, area);
      const found = await send(model, inputs);
      sent += found.sent;
      answers.push(...found.rows);
    }
    const took = performance.now() - started;
    const found = answers.map((outputs) => cells(model, outputs));
    const columns = [...head, ...found[0].map(([name]) => name)];
    const lines = rows.map((row, i) => [...row, ...found[i].map(([, value]) => value)]);
    button.disabled = false;
    result.replaceChildren(
      h("p", {}, `${plural(rows.length, "row")} in ${time(took)}; ${bytes(sent)} sent. `),
      download(`${model.name}.csv`, "text/csv", [columns, ...lines].map((line) => `${line.map(quoted).join(",")}\n`)),
      table(`Answers of ${model.name}`, columns, lines.slice(0, SHOWN).map((line) => line.map((value) => (typeof value === "number" ? short(value) : value)))),
      lines.length > SHOWN ? h("p", {}, `The file has all; here are the first ${SHOWN}.`) : "");
  }

  return takesFiles(h("details", { class: "panel" }, h("summary", {}, "Many rows: a table"),
    h("div", { class: "field" }, h("label", { for: id }, "Rows as CSV, with or without a line of names"), area,
      h("small", {}, `The columns: ${wanted.slice(0, 12).join(", ")}${wanted.length > 12 ? `, and ${wanted.length - 12} more` : ""}. A file may be dropped here.`)),
    h("div", { class: "row" }, h("label", { for: file.id }, "or a file"), file, button), result), load);
}

async function asTensors(model, inputs) {
  const request = encode(inputs);
  const response = await ask(`${modelPath(model.name, model.asked)}/infer`, { method: "POST", body: request.body, headers: request.headers });
  return { sent: request.size, rows: apart(decode(response.headers, response.buffer).outputs, inputs[0].shape[0]) };
}

async function asRows(model, inputs) {
  const count = inputs[0].shape[0];
  const rows = Array.from({ length: count }, (_, row) => inputs.flatMap(({ data }) => {
    const size = data.length / count;
    return data.slice(row * size, (row + 1) * size).map(written);
  }));
  const features = rows.map((row) => (row.length === 1 ? row[0] : `[${row}]`));
  const body = `{"model_name":${JSON.stringify(model.name)},"features":[${features}]}`;
  const response = await ask("predict", { method: "POST", body, headers: { "Content-Type": "application/json" } });
  return { sent: body.length, rows: parsedJson(response.buffer).predictions.map((row) => ofPrediction(model, row)) };
}

const quoted = (value) => {
  const text = String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

/** The lines of CSV (RFC 4180), separated by what is most of in the first. */
export function parsed(text, field) {
  const [first] = text.split(/\r?\n/, 1);
  const separator = ["\t", ";", ","].reduce((best, each) => (first.split(each).length > first.split(best).length ? each : best), ",");
  const lines = [];
  let line = [];
  let cell = "";
  let isQuoted = false;
  const end = () => {
    line.push(cell);
    if (line.length > 1 || line[0].trim()) lines.push(line);
    line = [];
    cell = "";
  };
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (isQuoted) {
      if (character !== '"') cell += character;
      else if (text[at + 1] === '"') cell += text[++at];
      else isQuoted = false;
    } else if (character === '"' && !cell) isQuoted = true;
    else if (character === separator) {
      line.push(cell);
      cell = "";
    } else if (character === "\n") end();
    else if (character !== "\r") cell += character;
  }
  if (isQuoted) throw new Wrong("A quotation mark is never closed.", field);
  if (cell || line.length) end();
  if (!lines.length) throw new Wrong("Paste rows, or drop a file.", field);
  return lines;
}

/** The columns that the model takes, in its order; by their names where the first line has them. */
function matched(lines, wanted, field) {
  const head = lines[0].map((name) => name.trim());
  const isHead = wanted.some((name) => head.includes(name));
  const rows = isHead ? lines.slice(1) : lines;
  const missing = isHead ? wanted.filter((name) => !head.includes(name)) : [];
  if (missing.length) throw new Wrong(`The columns ${missing.join(", ")} are missing; there are ${head.join(", ")}.`, field);
  if (!isHead && head.length !== wanted.length) {
    throw new Wrong(`The first line has ${plural(head.length, "cell")}, but a row has ${wanted.length}: ${wanted.slice(0, 12).join(", ")}.`, field);
  }
  const places = wanted.map((name, i) => (isHead ? head.indexOf(name) : i));
  const short = rows.findIndex((row) => row.length !== head.length);
  if (short >= 0) throw new Wrong(`Row ${short + 1} has ${plural(rows[short].length, "cell")}, the first line ${head.length}.`, field);
  if (!rows.length) throw new Wrong("There are names of columns, but no rows.", field);
  return { head: wanted, rows: rows.map((row) => places.map((place) => row[place])) };
}

function tensors(model, wanted, rows, start, field) {
  const inputs = required(model);
  const read = (row, column, datatype) => {
    try {
      return valueOf(rows[row][column], datatype);
    } catch (error) {
      throw new Wrong(`Row ${start + row + 1}, ${wanted[column]}: ${error.message}.`, field);
    }
  };
  const shape = (spec, size) => [rows.length, ...spec.shape.slice(1).map((length) => (length === -1 ? size : length))];
  if (inputs.length === 1) {
    const [spec] = inputs;
    const data = rows.flatMap((row, i) => row.map((_, j) => read(i, j, spec.datatype)));
    return [{ name: spec.name, datatype: spec.datatype, shape: shape(spec, wanted.length), data }];
  }
  // In the order of a row's values, as /predict has it.
  return wanted.map((name) => inputs.find((spec) => spec.name === name)).map((spec) => ({
    name: spec.name, datatype: spec.datatype, shape: shape(spec, 1), data: rows.map((_, i) => read(i, wanted.indexOf(spec.name), spec.datatype)),
  }));
}

/** The outputs of each row of a response to several. */
function apart(outputs, count) {
  return Array.from({ length: count }, (_, row) => outputs.map((output) => {
    if (output.shape[0] !== count) return output;
    const size = output.data.length / count;
    return { ...output, shape: [1, ...output.shape.slice(1)], data: output.data.slice(row * size, (row + 1) * size) };
  }));
}
