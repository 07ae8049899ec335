// The lines that send the same request from elsewhere: curl, Python alone, and Triton's client.

import { hasKey, modelPath, root } from "./api.js";
import { h } from "./dom.js";
import { isText, json, written } from "./wire.js";

const NUMPY = {
  BOOL: "bool", INT8: "int8", INT16: "int16", INT32: "int32", INT64: "int64", UINT8: "uint8", UINT16: "uint16",
  UINT32: "uint32", UINT64: "uint64", FP16: "float16", FP32: "float32", FP64: "float64", BYTES: "object_",
};
// Characters of a request that are shown; what has more is a file.
const LONGEST = 20000;

/** Three blocks of code for what was sent: {inputs}, or {picture} and perhaps {row}. */
export function code(model, sent) {
  const blocks = sent.inputs ? ofTensors(model, sent.inputs) : ofPicture(model, sent);
  return h("div", {}, Object.entries(blocks).map(([name, text]) => {
    const copy = h("button", { type: "button", onclick: () => copied(copy, text) }, "Copy");
    return h("details", {}, h("summary", {}, name), copy,
      h("pre", { tabindex: 0, role: "region", "aria-label": `Lines for ${name}` }, h("code", {}, text)));
  }));
}

async function copied(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select the lines: this browser copies for pages of https only";
  }
}

const url = (path) => new URL(path, root).href;
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const curlKey = () => (hasKey() ? ' -H "X-API-Key: $KEY"' : "");
// Python's own literals: JSON has other words for some values.
const python = (value) => (typeof value === "boolean" ? (value ? "True" : "False") : typeof value === "number" && !Number.isFinite(value) ? `float("${value}")` : written(value));

function ofTensors(model, inputs) {
  const path = `${modelPath(model.name, model.asked)}/infer`;
  const text = json(inputs, " ");
  if (text.length > LONGEST) {
    return { curl: `# Save the request as request.json.\ncurl ${url(path)}${curlKey()} --data-binary @request.json` };
  }
  return { curl: `curl ${url(path)}${curlKey()} -d ${quoted(text)}`, Python: plainPython(path, inputs), tritonclient: triton(model, inputs) };
}

function plainPython(path, inputs) {
  const items = inputs.map(({ name, shape, datatype, data }) => `        {"name": ${JSON.stringify(name)}, "shape": [${shape.join(", ")}], "datatype": "${datatype}",\n` +
    `         "data": [${Array.from(data, python).join(", ")}]},\n`);
  return `import json
${hasKey() ? "import os\n" : ""}from urllib.request import Request, urlopen

request = {
    "inputs": [
${items.join("")}    ]
}
url = ${JSON.stringify(url(path))}
${sending("json.dumps(request).encode()", "application/json")}for output in answer["outputs"]:
    print(output["name"], output["data"])
`;
}

const sending = (body, type) => `headers = {"Content-Type": "${type}"${hasKey() ? ', "X-API-Key": os.environ["KEY"]' : ""}}
with urlopen(Request(url, ${body}, headers)) as response:
    answer = json.load(response)
`;

function triton(model, inputs) {
  const names = inputs.map((_, i) => `input_${i}`);
  const version = model.asked ? `, model_version="${model.asked}"` : "";
  const key = hasKey() ? ', headers={"X-API-Key": os.environ["KEY"]}' : "";
  const address = `${root.host}${root.pathname.replace(/\/$/, "")}`;
  return `${hasKey() ? "import os\n\n" : ""}import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(${JSON.stringify(address)}${root.protocol === "https:" ? ", ssl=True" : ""})
${inputs.map(({ name, shape, datatype, data }, i) => `${names[i]} = triton.InferInput(${JSON.stringify(name)}, [${shape.join(", ")}], "${datatype}")
${names[i]}.set_data_from_numpy(np.array([${Array.from(data, python).join(", ")}], np.${NUMPY[datatype] || "float32"}).reshape(${shape.join(", ") || "()"}))
`).join("")}result = client.infer("${model.name}", [${names.join(", ")}]${version}${key})
${model.outputs.map(({ name }) => `print(${JSON.stringify(name)}, result.as_numpy(${JSON.stringify(name)}))`).join("\n")}
`;
}

function ofPicture(model, { picture, row }) {
  const path = row ? "predict" : `predict?model_name=${encodeURIComponent(model.name)}`;
  const file = picture.name || "picture.png";
  if (row) return { curl: `# The picture in base64, beside the other inputs: see docs/protocol.md, Predict.\ncurl ${url(path)}${curlKey()} --data-binary @request.json` };
  return {
    curl: `curl ${quoted(url(path))}${curlKey()} -H 'Content-Type: ${picture.type}' --data-binary @${file}`,
    Python: `import json
${hasKey() ? "import os\n" : ""}from pathlib import Path
from urllib.request import Request, urlopen

url = ${JSON.stringify(url(path))}
${sending(`Path(${JSON.stringify(file)}).read_bytes()`, picture.type)}print(answer["predictions"][0])
`,
  };
}
