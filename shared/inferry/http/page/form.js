// A form for one request, made of what the model says of its inputs.

import { Wrong, h, newId, takesFiles } from "./dom.js";
import { picture } from "./picture.js";
import { sound } from "./sound.js";
import { fitted, isFloat, isText, nested, sizeOf, valueOf, written } from "./wire.js";

// Of a list of names, as many get a field each.
const FIELDS = 64;

/**
 * The form of a model: `node`; `read()`: {inputs} as tensors, {picture} as a file, or {row} with pictures in it;
 * `fill(inputs)`: with the tensors of an example. `read` throws Wrong.
 */
export function form(model) {
  const parts = model.inputs.map((spec) => [spec, editor(spec, model)]);
  return {
    node: h("div", { class: "fields" }, parts.map(([, part]) => part.node)),
    read() {
      const read = parts.map(([spec, part]) => [spec, part.read()]).filter(([, value]) => value !== null);
      const files = read.filter(([, value]) => value instanceof Blob);
      if (!files.length) return { inputs: read.map(([spec, value]) => ({ name: spec.name, datatype: spec.datatype, ...value })) };
      if (read.length === 1) return { picture: files[0][1] };
      return { row: Object.fromEntries(read.map(([{ name }, value]) => [name, value])), picture: files[0][1] };
    },
    fill(inputs) {
      for (const [spec, part] of parts) {
        const tensor = inputs.find((given) => (given.of || given.name) === spec.name);
        if (tensor) part.fill(tensor);
      }
    },
    stop: () => parts.forEach(([, part]) => part.stop?.()),
  };
}

function editor(spec, model) {
  const isOptional = model.optional.includes(spec.name);
  const typed = values(spec, model, isOptional);
  if (model.images[spec.name]) return either(spec, "Picture", picture(spec, model.images[spec.name]), "Numbers", typed);
  if (model.sound[spec.name]) return either(spec, "Sound", sound(spec, model.sound[spec.name]), "Numbers", typed);
  return typed;
}

/** The editor of an input: `node`, `read()`: {data, shape}, or null for one that is left out, and `fill(tensor)`. */
function values(spec, model, isOptional) {
  const row = spec.shape.slice(spec.shape[0] === -1 ? 1 : 0);
  // A list of any length is not one value; nor is what the server knows no length of.
  const size = row.includes(-1) || String(spec.shape) === "-1" ? NaN : sizeOf(row);
  const columns = model.inputs.length - model.optional.length === 1 && !isOptional ? model.columns : [];
  if (spec.parameters?.rank !== "any") {
    if (spec.datatype === "BOOL" && size === 1) return choice(spec, isOptional);
    if (size === 1) return single(spec, isOptional);
    if (columns.length === size && size <= FIELDS) return named(spec, columns);
  }
  return list(spec, isOptional);
}

const unit = ({ datatype }) => (isText(datatype) ? "text" : datatype === "BOOL" ? "true or false" : isFloat(datatype) ? "number" : "whole number");

/** What `read` gives, with its field marked where it is Wrong. */
function checked(field, read) {
  field.removeAttribute("aria-invalid");
  try {
    return read();
  } catch (error) {
    field.setAttribute("aria-invalid", "true");
    throw error instanceof Wrong ? error : new Wrong(error.message, field);
  }
}

function field(name, what, attributes = {}) {
  const id = newId();
  const input = h(attributes.rows ? "textarea" : "input", { id, autocomplete: "off", spellcheck: "false", ...attributes });
  return [input, h("div", { class: "field" }, h("label", { for: id }, name, " ", h("small", {}, what)), input)];
}

function single(spec, isOptional) {
  const rows = isText(spec.datatype) ? 2 : undefined;
  const what = unit(spec) + (isOptional ? ", may be left out" : "");
  const [input, node] = field(spec.name, what, rows ? { rows } : { inputmode: isFloat(spec.datatype) ? "decimal" : "numeric" });
  const shape = spec.shape.map(() => 1);
  return {
    node,
    read: () => (isOptional && !input.value ? null : checked(input, () => {
      try {
        return { data: [valueOf(input.value, spec.datatype)], shape };
      } catch (error) {
        throw new Wrong(`${spec.name}: ${error.message}.`, input);
      }
    })),
    fill: ({ data }) => { input.value = text(data[0]); },
  };
}

const text = (value) => (typeof value === "string" ? value : written(value ?? ""));

function choice(spec, isOptional) {
  const id = newId();
  const select = h("select", { id }, (isOptional ? ["", "false", "true"] : ["false", "true"]).map((name) => h("option", {}, name)));
  const shape = spec.shape.map(() => 1);
  return {
    node: h("div", { class: "field" }, h("label", { for: id }, spec.name), select),
    read: () => (select.value ? { data: [select.value === "true"], shape } : null),
    fill: ({ data }) => { select.value = String(Boolean(data[0])); },
  };
}

function named(spec, columns) {
  const fields = columns.map((name) => [name, ...field(name, unit(spec), { inputmode: "decimal" })]);
  return {
    node: h("fieldset", {}, h("legend", {}, spec.name), h("div", { class: "fields" }, fields.map(([, , node]) => node))),
    read() {
      const data = fields.map(([name, input]) => checked(input, () => {
        try {
          return valueOf(input.value, spec.datatype);
        } catch (error) {
          throw new Wrong(`${name}: ${error.message}.`, input);
        }
      }));
      return { data, shape: fitted(spec, { data, shape: [data.length], isNested: false }) };
    },
    fill: ({ data }) => fields.forEach(([, input], i) => { input.value = text(data[i]); }),
  };
}

function list(spec, isOptional) {
  const shape = spec.parameters?.rank === "any" ? "any shape" : `shape [${spec.shape.map((n) => (n === -1 ? "any" : n)).join(", ")}]`;
  const what = `${unit(spec)}s, ${shape}${isOptional ? ", may be left out" : ""}`;
  const [input, node] = field(spec.name, what, { rows: 5, class: "code" });
  node.append(h("small", {}, isText(spec.datatype) ? "A text per line, or JSON." : "Separated by commas, spaces or lines, or as JSON. A file may be dropped here."));
  takesFiles(node, async (file) => { input.value = await file.text(); });
  return {
    node,
    read: () => (isOptional && !input.value.trim() ? null : checked(input, () => {
      try {
        const lines = isText(spec.datatype) && !input.value.trim().startsWith("[");
        const given = lines ? ofLines(input.value) : nested(input.value, spec.datatype);
        return { data: given.data, shape: fitted(spec, given) };
      } catch (error) {
        throw new Wrong(`${spec.name}: ${error.message}.`, input);
      }
    })),
    fill: ({ data, shape: given }) => {
      input.value = shown(Array.from(data).flat(Infinity), given, spec);
    },
  };
}

const ofLines = (value) => {
  const data = value.replace(/\n$/, "").split("\n");
  return { data, shape: [data.length], isNested: false };
};

/** Values as somebody would write them: plainly where the shape is told by their number, else in brackets. */
function shown(flat, given, spec) {
  try {
    if (String(fitted(spec, { data: flat, shape: [flat.length], isNested: false })) === String(given)) {
      return isText(spec.datatype) ? flat.join("\n") : flat.map(text).join(", ");
    }
  } catch {
    // Several lengths are open.
  }
  const part = (at, depth) => (depth === given.length ? written(flat[at]) :
    `[${Array.from({ length: given[depth] }, (_, i) => part(at + i * sizeOf(given.slice(depth + 1)), depth + 1)).join(", ")}]`);
  return part(0, 0);
}

/** One of two editors of an input. */
function either(spec, first, one, second, other) {
  const group = newId();
  const parts = [[first, one], [second, other]];
  let chosen = one;
  const show = (part) => {
    chosen = part;
    one.node.hidden = part !== one;
    other.node.hidden = part !== other;
    radios.forEach((radio, i) => { radio.checked = parts[i][1] === part; });
    if (part !== one) one.stop();
  };
  const radios = parts.map(([, part]) => h("input", { type: "radio", name: group, id: newId(), onchange: () => show(part) }));
  const node = h("fieldset", {}, h("legend", {}, spec.name),
    h("div", { class: "choices" }, parts.map(([name], i) => [radios[i], h("label", { for: radios[i].id }, name)])),
    one.node, other.node);
  show(one);
  return {
    node,
    read: () => chosen.read(),
    fill: (tensor) => {
      if (tensor instanceof Blob) {
        one.fill(tensor);
        show(one);
      } else {
        other.fill(tensor);
        if (tensor.show) show(other);
      }
    },
    stop: () => one.stop(),
  };
}
