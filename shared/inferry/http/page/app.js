// The page: a tile for each model and, behind it, a form to try the model with.

import { answer, headline, ofPrediction } from "./answer.js";
import { Refused, ask, hasKey, json, modelPath, parsed, setKey } from "./api.js";
import { code } from "./code.js";
import { Wrong, bytes, h, plural, short, time } from "./dom.js";
import { form } from "./form.js";
import { tables, takesTables } from "./rows.js";
import { statistics } from "./stats.js";
import { decode, encode } from "./wire.js";

// Tiles whose models are asked what they are; an index of a bucket may have thousands.
const DESCRIBED = 24;
const TRIES = 20;

const main = document.querySelector("#main");
const keyForm = document.querySelector("#key");
const keyField = document.querySelector("#key-field");
// The last tries of this visit, the newest first. They are nowhere else.
const tries = [];
let current = null;

keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(keyField.value);
  keyField.value = "";
  show();
});

addEventListener("hashchange", show);
// Files that miss a field would else take the page's place.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
show();

async function show() {
  if (location.hash === "#main") return;
  const [name, version] = named(location.hash);
  current?.stop();
  current = null;
  const place = h("div");
  main.replaceChildren(place);
  place.replaceChildren(h("p", { role: "status" }, name ? `Loading ${name} ...` : "Loading ..."));
  try {
    const shown = name ? await modelPage(name, version) : await tiles();
    // Somebody may have gone on meanwhile.
    if (place.isConnected) place.replaceChildren(...shown);
  } catch (error) {
    if (place.isConnected) place.replaceChildren(h("h1", {}, name || "Models"), failure(error), h("p", {}, h("a", { href: "#/" }, "All models")));
  }
  document.title = name ? `${name} · inferry` : "inferry";
  if (document.activeElement === document.body) main.focus({ preventScroll: true });
}

/** The model, and perhaps the version, of an address: #/NAME/VERSION. */
function named(hash) {
  const parts = hash.replace(/^#\/?/, "").split("/");
  try {
    return parts.map(decodeURIComponent);
  } catch {
    return parts;
  }
}

/** An error in words; one about the key opens the field for it. */
function failure(error) {
  if (!(error instanceof Refused || error instanceof Wrong)) console.error(error);
  if (error.status === 401 || (error.status === 403 && hasKey())) {
    keyForm.hidden = false;
    keyField.focus();
    const text = error.status === 401 && !hasKey() ? "This server wants an API key. Type it in above." : `${error.message}. Type in another key above.`;
    return h("p", { class: "error", role: "alert" }, text);
  }
  return h("p", { class: "error", role: "alert" }, error.message);
}

async function tiles() {
  const index = await json("v2/repository/index", { method: "POST", body: "{}", headers: { "Content-Type": "application/json" } });
  const models = [...new Set(index.map(({ name }) => name))];
  const ready = models.filter((name) => index.some((entry) => entry.name === name && entry.state === "READY"));
  const known = new Map(await Promise.all(ready.slice(0, DESCRIBED).map(async (name) => [name, await json(modelPath(name)).catch(() => null)])));
  return [
    h("h1", {}, "Models"),
    models.length ? h("ul", { class: "tiles" }, models.map((name) => tile(name, index.filter((entry) => entry.name === name), known.get(name))))
      : h("p", {}, "There are no models yet: put NAME.onnx or NAME/1/model.onnx into the folder that the server serves."),
  ];
}

function tile(name, versions, known) {
  const isBroken = versions.every(({ state }) => state === "UNAVAILABLE");
  const about = known?.properties.description || "";
  const state = isBroken ? versions[0].reason || "It can't be served." : known ? "" : "Not loaded yet: opening it loads it.";
  return h("li", { class: isBroken ? "broken" : null },
    h("h2", {}, isBroken ? name : h("a", { href: `#/${encodeURIComponent(name)}` }, name)),
    about && h("p", {}, about), state && h("p", {}, h("small", {}, state)),
    known && h("p", {}, h("small", {}, `${signature(known.inputs)} → ${signature(known.outputs)}`)));
}

const signature = (tensors) => tensors.slice(0, 4).map(({ name }) => name).join(", ") + (tensors.length > 4 ? `, ${tensors.length - 4} more` : "");

async function modelPage(name, version) {
  const path = `page/models/${encodeURIComponent(name)}${version ? `/versions/${encodeURIComponent(version)}` : ""}`;
  const model = { ...(await json(path)), asked: version || "" };
  const fields = form(model);
  const message = h("div");
  const result = h("section", { class: "panel", "aria-label": "Answer", "aria-live": "polite" });
  const empty = () => result.replaceChildren(h("p", {}, h("small", {}, "The answer appears here.")));
  empty();
  const history = h("ul", { class: "tries" });
  const say = (error) => {
    message.replaceChildren(error ? failure(error) : "");
    if (error?.field) error.field.focus();
  };
  const button = h("button", { class: "main" }, "Predict");
  const stop = h("button", { type: "button", hidden: true, onclick: () => request?.abort() }, "Stop");
  let request = null;
  current = fields;

  async function send(event) {
    event.preventDefault();
    say(null);
    let sent;
    try {
      sent = fields.read();
    } catch (error) {
      return say(error);
    }
    request = new AbortController();
    button.disabled = true;
    stop.hidden = false;
    try {
      keep(await tried(model, sent, request.signal));
    } catch (error) {
      empty();
      say(error);
    }
    button.disabled = false;
    stop.hidden = true;
  }

  function keep(found) {
    tries.unshift(found);
    tries.splice(TRIES);
    present(found);
    list();
  }

  function present(found) {
    const { outputs, sent, answered, ms } = found;
    const price = model.price.request + (model.price.second * ms) / 1000;
    result.replaceChildren(h("h2", {}, "Answer"),
      h("p", { class: "headline" }, headline(model, outputs)),
      h("p", {}, h("small", {}, `${time(ms)}, ${bytes(sent.size)} sent${sent.isBinary ? " in binary" : ""}, ${bytes(answered)} back` +
        (price ? `, at most $${short(price, 2)}` : ""))),
      answer(model, outputs, sent.picture), h("h3", {}, "The same from elsewhere"), code(model, sent));
    result.scrollIntoView({ block: "nearest" });
  }

  function list() {
    const own = tries.filter((found) => found.model === model.name);
    history.replaceChildren(...own.map((found) => h("li", {}, h("button", {
      type: "button",
      onclick: () => {
        fields.fill(asTensors(model, found.sent));
        present(found);
      },
    }, `${found.at.toLocaleTimeString()} · ${headline(model, found.outputs)} · ${time(found.ms)}`))));
    heading.hidden = !own.length;
  }

  const heading = h("h2", { hidden: true }, "Last tries");
  const example = model.example?.inputs.map((tensor) => ({ ...tensor, data: [tensor.data].flat(Infinity) }));
  if (example) fields.fill(example);
  list();
  return [
    h("h1", {}, name), h("p", {}, model.properties.description || ""), versions(model),
    h("div", { class: "two" }, h("form", { class: "panel", onsubmit: send, novalidate: true }, fields.node, message,
      h("div", { class: "row" }, button, stop,
        example && h("button", { type: "button", onclick: () => { say(null); fields.fill(example.map((tensor) => ({ ...tensor, show: true }))); } }, "Fill in the example"))), result),
    takesTables(model) && tables(model, say), heading, history, statistics(model, say), details(model),
  ].filter(Boolean);
}

/** A request and what came of it. */
async function tried(model, sent, signal) {
  const found = { model: model.name, sent, at: new Date() };
  if (sent.inputs) {
    const request = encode(sent.inputs);
    const response = await ask(`${modelPath(model.name, model.asked)}/infer`, { method: "POST", body: request.body, headers: request.headers, signal });
    Object.assign(sent, { size: request.size, isBinary: request.isBinary });
    return { ...found, outputs: decode(response.headers, response.buffer).outputs, answered: response.buffer.byteLength, ms: response.ms };
  }
  if (model.asked && model.asked !== model.versions.at(-1)) throw new Wrong(`Pictures are read for the served version only; open ${model.name} without a version.`);
  const response = await predict(model, sent, signal);
  const [row] = parsed(response.buffer).predictions;
  return { ...found, outputs: ofPrediction(model, row), answered: response.buffer.byteLength, ms: response.ms };
}

async function predict(model, sent, signal) {
  if (!sent.row) {
    Object.assign(sent, { size: sent.picture.size });
    return ask(`predict?model_name=${encodeURIComponent(model.name)}`, { method: "POST", body: sent.picture, headers: { "Content-Type": sent.picture.type }, signal });
  }
  const row = {};
  for (const [name, value] of Object.entries(sent.row)) {
    row[name] = value instanceof Blob ? await base64(value) : value.data.length === 1 ? value.data[0] : value.data;
  }
  const body = JSON.stringify({ model_name: model.name, features: [row] });
  sent.size = body.length;
  return ask("predict", { method: "POST", body, headers: { "Content-Type": "application/json" }, signal });
}

const base64 = (blob) => new Promise((done) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result.split(",")[1]);
  reader.readAsDataURL(blob);
});

/** What was sent, as `fill` takes it. */
function asTensors(model, sent) {
  if (sent.inputs) return sent.inputs.map((tensor) => ({ ...tensor, show: true }));
  const name = Object.keys(model.images)[0];
  return Object.entries(sent.row || { [name]: sent.picture }).map(([key, value]) => (value instanceof Blob ? Object.assign(value, { of: key }) : { name: key, ...value }));
}

function versions(model) {
  if (model.versions.length < 2) return null;
  const link = (version) => (version === model.version ? h("strong", {}, version) : h("a", { href: `#/${encodeURIComponent(model.name)}/${encodeURIComponent(version)}` }, version));
  return h("p", {}, "Versions: ", model.versions.flatMap((version) => [link(version), " "]));
}

function details(model) {
  const facts = { version: model.version, ...model.properties };
  return h("details", { class: "panel" }, h("summary", {}, "About the model"),
    h("dl", {}, Object.entries(facts).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h("p", {}, plural(model.inputs.length, "input"), ", ", plural(model.outputs.length, "output"), ". ", h("a", { href: "docs" }, "All routes")));
}
