// The Open Inference Protocol: tensors as JSON, or as bytes behind it where that is smaller.

const SIZES = {
  BOOL: 1, INT8: 1, UINT8: 1, INT16: 2, UINT16: 2, INT32: 4, UINT32: 4, INT64: 8, UINT64: 8, FP16: 2, BF16: 2, FP32: 4, FP64: 8,
};
const WRITE = {
  BOOL: "setUint8", INT8: "setInt8", UINT8: "setUint8", INT16: "setInt16", UINT16: "setUint16", INT32: "setInt32",
  UINT32: "setUint32", INT64: "setBigInt64", UINT64: "setBigUint64", FP32: "setFloat32", FP64: "setFloat64",
};
const HEADER = "Inference-Header-Content-Length";

export const isFloat = (datatype) => /^(FP|BF)/.test(datatype);
export const isText = (datatype) => datatype === "BYTES";
export const sizeOf = (shape) => shape.reduce((product, length) => product * length, 1);

/** A value as somebody writes it. An Error says what is wrong with it. */
export function valueOf(text, datatype) {
  const written = text.trim();
  if (isText(datatype)) return text;
  if (datatype === "BOOL") {
    if (/^(true|yes|1)$/i.test(written)) return true;
    if (/^(false|no|0)$/i.test(written)) return false;
    throw new Error(`“${written}” is neither true nor false`);
  }
  if (isFloat(datatype)) return floatOf(written);
  if (!/^[+-]?\d+$/.test(written)) throw new Error(`“${written}” is no whole number`);
  const value = BigInt(written.replace("+", ""));
  const bits = BigInt(8 * SIZES[datatype]);
  const [least, most] = datatype[0] === "U" ? [0n, 1n << bits] : [-(1n << (bits - 1n)), 1n << (bits - 1n)];
  if (value < least || value >= most) throw new Error(`${written} is not from ${least} to ${most - 1n}, as ${datatype} is`);
  return safe(value);
}

function floatOf(written) {
  if (/^[+-]?nan$/i.test(written)) return NaN;
  if (/^[+-]?inf(inity)?$/i.test(written)) return written[0] === "-" ? -Infinity : Infinity;
  const value = Number(written);
  if (written && Number.isFinite(value)) return value;
  const comma = /^[+-]?\d+,\d+$/.test(written) ? ": write a point, not a comma" : "";
  throw new Error(written ? `“${written}” is no number${comma}` : "a number is missing");
}

const safe = (value) => (value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value);

/** Values that are separated by commas, spaces or lines, or nested in brackets: flat, and their shape. */
export function nested(text, datatype) {
  const tokens = text.match(/[[\]]|"(?:[^"\\]|\\.)*"|[^\s,;[\]]+/g) || [];
  if (tokens[0] !== "[") return { data: tokens.map((token) => one(token, datatype)), shape: [tokens.length], isNested: false };
  const data = [];
  let at = 0;
  const list = () => {
    at += 1;
    let length = 0;
    let inner;
    while (tokens[at] !== "]") {
      if (at >= tokens.length) throw new Error("a “]” is missing at the end");
      let shape = [];
      if (tokens[at] === "[") shape = list();
      else data.push(one(tokens[at++], datatype));
      if (inner && String(inner) !== String(shape)) throw new Error(`lists differ in length: [${inner}] and [${shape}]`);
      inner = shape;
      length += 1;
    }
    at += 1;
    return [length, ...(inner || [])];
  };
  const shape = list();
  if (at < tokens.length) throw new Error(`something is left behind the last “]”: ${tokens[at]}`);
  return { data, shape, isNested: true };
}

const one = (token, datatype) => valueOf(token[0] === '"' ? JSON.parse(token) : token, datatype);

/** The shape of an input for values that somebody gave. An Error says how many it takes. */
export function fitted(spec, { data, shape, isNested }) {
  const wanted = spec.shape;
  if (spec.parameters?.rank === "any") return shape;
  const same = (given) => given.length === wanted.length && given.every((length, i) => wanted[i] === -1 || wanted[i] === length);
  if (isNested && same(shape)) return shape;
  if (isNested && same([1, ...shape])) return [1, ...shape];
  const one = wanted.map((length, i) => (i === 0 && length === -1 && wanted.length > 1 ? 1 : length));
  const known = sizeOf(one.filter((length) => length !== -1));
  const open = one.filter((length) => length === -1).length;
  if (!isNested && open === 0 && known === data.length) return one;
  if (!isNested && open === 1 && data.length && data.length % known === 0) {
    return one.map((length) => (length === -1 ? data.length / known : length));
  }
  const got = isNested ? `the shape [${shape.join(", ")}]` : `${data.length} value${data.length === 1 ? "" : "s"}`;
  if (open > 1 && !isNested) throw new Error("its lengths can't be told from a plain list: write nested lists, like [[1, 2], [3, 4]]");
  throw new Error(`it takes ${open ? `the shape [${wanted.map(length => length === -1 ? "any" : length).join(", ")}]` : known} and got ${got}`);
}

/** A request's body and headers, and whether it is binary. Tensors are {name, datatype, shape, data}. */
export function encode(inputs) {
  const text = json(inputs);
  const plain = new TextEncoder().encode(text);
  if (inputs.every(({ datatype }) => datatype in WRITE || isText(datatype))) {
    const parts = inputs.map(binary);
    const head = inputs.map(({ name, shape, datatype }, i) =>
      ({ name, shape, datatype, parameters: { binary_data_size: parts[i].byteLength } }));
    const header = new TextEncoder().encode(JSON.stringify({ inputs: head, parameters: { binary_data_output: true } }));
    const size = parts.reduce((sum, part) => sum + part.byteLength, header.length);
    if (size < plain.length) {
      const headers = { [HEADER]: String(header.length), "Content-Type": "application/octet-stream" };
      return { body: new Blob([header, ...parts]), headers, size, isBinary: true };
    }
  }
  return { body: text, headers: { "Content-Type": "application/json" }, size: plain.length, isBinary: false };
}

/** The same request in JSON, for people. */
export function json(inputs, space = "") {
  const items = inputs.map(({ name, shape, datatype, data }) => `{"name":${JSON.stringify(name)},"shape":[${shape}],` +
    `"datatype":"${datatype}","data":[${Array.from(data, written).join(`,${space}`)}]}`);
  return `{"inputs":[${items}]}`;
}

// NaN and the infinities are tokens that the server reads.
export const written = (value) => (typeof value === "string" || typeof value === "boolean" ? JSON.stringify(value) : String(value));

function binary({ datatype, data }) {
  if (isText(datatype)) return strings(data);
  const size = SIZES[datatype];
  const view = new DataView(new ArrayBuffer(size * data.length));
  data.forEach((value, i) => view[WRITE[datatype]](i * size, size === 8 && datatype !== "FP64" ? BigInt(value) : Number(value), true));
  return view.buffer;
}

function strings(data) {
  const texts = data.map((text) => new TextEncoder().encode(text));
  const found = new Uint8Array(texts.reduce((sum, text) => sum + 4 + text.length, 0));
  let at = 0;
  for (const text of texts) {
    new DataView(found.buffer).setUint32(at, text.length, true);
    found.set(text, at + 4);
    at += 4 + text.length;
  }
  return found.buffer;
}

/** The outputs of a response: {name, datatype, shape, data}, data flat. */
export function decode(headers, buffer) {
  const length = Number(headers.get(HEADER) ?? buffer.byteLength);
  const head = JSON.parse(new TextDecoder().decode(buffer.slice(0, length)), exact);
  let at = length;
  const outputs = head.outputs.map((output) => {
    const size = output.parameters?.binary_data_size;
    if (size === undefined) return { ...output, data: output.data || [] };
    const part = new DataView(buffer, at, size);
    at += size;
    return { ...output, data: isText(output.datatype) ? readStrings(part) : readNumbers(part, output.datatype) };
  });
  return { ...head, outputs };
}

/** Integers of more than 53 bits, which JSON.parse alone would round. */
export const exact = (_, value, context) =>
  typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source) ? BigInt(context.source) : value;

function readNumbers(view, datatype) {
  const size = SIZES[datatype];
  const read = (at) => {
    if (datatype === "BOOL") return view.getUint8(at) !== 0;
    if (datatype === "FP16") return half(view.getUint16(at, true));
    if (datatype === "BF16") return bfloat(view.getUint16(at, true));
    const value = view[WRITE[datatype].replace("set", "get")](at, true);
    return typeof value === "bigint" ? safe(value) : value;
  };
  return Array.from({ length: view.byteLength / size }, (_, i) => read(i * size));
}

function readStrings(view) {
  const found = [];
  for (let at = 0; at < view.byteLength;) {
    const length = view.getUint32(at, true);
    found.push(new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset + at + 4, length)));
    at += 4 + length;
  }
  return found;
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const rest = bits & 1023;
  if (exponent === 31) return rest ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + rest / 1024) * 2 ** (exponent - 15) : rest * 2 ** -24);
}

function bfloat(bits) {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, bits << 16);
  return view.getFloat32(0);
}
