// Elements from text alone: nothing that comes from a model, a file or the server is read as HTML.

let ids = 0;

/** A new id, for a label and its field. */
export const newId = () => `f${++ids}`;

/** An element. Attributes that begin with "on" are listeners, `true` and `false` are those without a value. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A number for people: at most so many digits that count. */
export function short(value, digits = 5) {
  if (value === null || Number.isNaN(value)) return "NaN";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(digits)));
}

export const bytes = (count) =>
  count < 1000 ? `${count} bytes` : count < 1e6 ? `${short(count / 1e3, 3)} kB` : `${short(count / 1e6, 3)} MB`;

export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

export function time(ms) {
  return ms < 1 ? `${Math.round(ms * 1000)} µs` : ms < 1000 ? `${short(ms, 3)} ms` : `${short(ms / 1000, 3)} s`;
}

/** A table of text, with a caption that those who don't see it hear. */
export function table(caption, head, rows) {
  const numeric = (cell) => typeof cell === "number";
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) =>
        h("td", { class: numeric(cell) ? "number" : null }, numeric(cell) ? short(cell) : cell)))))));
}

/** A link that saves `parts` as a file. */
export function download(name, type, parts) {
  return h("a", { class: "button", download: name, href: URL.createObjectURL(new Blob(parts, { type })) }, `Save ${name}`);
}

/** Takes files that are dropped on an element. */
export function takesFiles(element, take) {
  const over = (event) => {
    event.preventDefault();
    element.classList.toggle("over", event.type === "dragover");
  };
  element.addEventListener("dragover", over);
  element.addEventListener("dragleave", over);
  element.addEventListener("drop", (event) => {
    over(event);
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  return element;
}

/** What somebody typed that can't be sent, and the field that it is in. */
export class Wrong extends Error {
  constructor(message, field) {
    super(message);
    this.field = field;
  }
}
