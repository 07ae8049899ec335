// A picture for an input that takes images: a file, the camera, or a drawing. The server resizes it, as config.json says.

import { Wrong, bytes, h, newId, takesFiles } from "./dom.js";

const SIDE = 280;
// Of a drawing's side: what a pen of common data sets of digits has.
const PEN = 0.11;
const READS = ["image/png", "image/jpeg"];

/** The editor of an input of images: `node`, `read()`: a file of PNG or JPEG, and `fill(file)`. */
export function picture(spec, how) {
  let file = null;
  let stream = null;
  const id = newId();
  const preview = h("img", { class: "preview", alt: "The picture to be sent", hidden: true });
  const state = h("p", { role: "status" });
  const chooser = h("input", { type: "file", id, accept: "image/*", onchange: () => chooser.files[0] && take(chooser.files[0]) });
  const video = h("video", { class: "preview", playsinline: true, muted: true, "aria-label": "The camera" });
  const shot = h("button", { type: "button", onclick: shoot }, "Take the picture");
  const camera = h("div", { hidden: true }, video, shot);
  const board = drawing(how, () => show(null));
  const start = h("button", { type: "button", onclick: open }, "Use the camera");
  const draw = h("button", { type: "button", "aria-expanded": "false", onclick: () => reveal(board.node.hidden) }, "Draw");

  function reveal(isShown) {
    board.node.hidden = !isShown;
    draw.setAttribute("aria-expanded", String(isShown));
    if (isShown) {
      stop();
      show(null);
    }
  }

  function show(blob, note = "") {
    file = blob;
    if (preview.src) URL.revokeObjectURL(preview.src);
    preview.hidden = !blob;
    if (blob) preview.src = URL.createObjectURL(blob);
    else preview.removeAttribute("src");
    state.textContent = blob ? `${blob.name || "picture"}, ${bytes(blob.size)}${note}` : "";
  }

  async function take(blob) {
    stop();
    reveal(false);
    if (READS.includes(blob.type)) return show(blob);
    try {
      const image = await createImageBitmap(blob);
      const canvas = h("canvas", { width: image.width, height: image.height });
      canvas.getContext("2d").drawImage(image, 0, 0);
      show(await png(canvas, blob.name), ", made a PNG of, as the server reads PNG and JPEG");
    } catch {
      show(null);
      state.textContent = "This is no picture that the browser can read.";
    }
  }

  async function open() {
    stop();
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      state.textContent = navigator.mediaDevices ? `The camera can't be used: ${error.message}.`
        : "Browsers give the camera to pages of https and of this machine only.";
      return;
    }
    reveal(false);
    show(null);
    // A picture before the first frame would be an empty one.
    shot.disabled = true;
    camera.hidden = false;
    video.srcObject = stream;
    await video.play();
    shot.disabled = false;
    shot.focus();
  }

  async function shoot() {
    const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await png(canvas, "camera.png");
    stop();
    show(blob);
  }

  function stop() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    camera.hidden = true;
  }

  return {
    node: takesFiles(h("div", { class: "drop" },
      h("label", { for: id }, "A picture, dropped here or chosen"), chooser,
      h("div", { class: "row" }, start, draw), camera, board.node, preview, state), take),
    read() {
      if (file) return file;
      if (!board.node.hidden && board.isDrawn()) return board.file();
      throw new Wrong(`${spec.name}: choose a picture, or draw one.`, chooser);
    },
    fill: (blob) => {
      reveal(false);
      show(blob);
    },
    stop,
  };
}

const png = (canvas, name) =>
  new Promise((done) => canvas.toBlob((blob) => done(new File([blob], name.replace(/\.\w+$|$/, ".png"), { type: "image/png" })), "image/png"));

/** A board to draw on, of the proportions of what the model sees. */
function drawing(how, changed) {
  const [height, width] = how.size.map((side) => Math.round((SIDE * side) / Math.max(...how.size)));
  const canvas = h("canvas", { width, height, class: "board", role: "img", "aria-label": "A board to draw on with a mouse, a pen or a finger" });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const dark = h("input", { type: "checkbox", id: newId(), onchange: clear });
  let isDrawn = false;
  let last = null;
  let made = null;

  function clear() {
    context.fillStyle = dark.checked ? "#fff" : "#000";
    context.fillRect(0, 0, width, height);
    isDrawn = false;
    changed();
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
  }

  function line(event) {
    const at = place(event);
    context.strokeStyle = dark.checked ? "#000" : "#fff";
    context.lineWidth = PEN * Math.max(width, height);
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...(last || at));
    context.lineTo(...at);
    context.stroke();
    last = at;
    isDrawn = true;
  }

  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    changed();
    line(event);
  });
  canvas.addEventListener("pointermove", (event) => last && line(event));
  const up = () => {
    last = null;
    // Kept as a file at once: `read` can't wait.
    if (isDrawn) made = fileOf(canvas);
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  clear();
  return {
    node: h("div", { hidden: true }, canvas,
      h("div", { class: "row" }, h("button", { type: "button", onclick: clear }, "Clear"), dark, h("label", { for: dark.id }, "Dark on light"))),
    isDrawn: () => isDrawn,
    file: () => made,
  };
}

function fileOf(canvas) {
  const text = atob(canvas.toDataURL("image/png").split(",")[1]);
  return new File([Uint8Array.from(text, (character) => character.charCodeAt(0))], "drawing.png", { type: "image/png" });
}
