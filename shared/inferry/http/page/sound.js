// Sound for an input that takes it: a file or the microphone, as numbers from -1 to 1 at the model's rate.

import { Wrong, h, newId, short, takesFiles } from "./dom.js";
import { fitted } from "./wire.js";

/** The editor of an input of sound: `node`, `read()`: {data, shape}, and `fill`. */
export function sound(spec, rate) {
  let samples = null;
  let recorder = null;
  const id = newId();
  const state = h("p", { role: "status" }, `No sound yet. It becomes one channel of ${rate.toLocaleString("en")} samples per second.`);
  const player = h("audio", { controls: true, hidden: true, "aria-label": "The sound" });
  const file = h("input", { type: "file", id, accept: "audio/*", onchange: () => file.files[0] && take(file.files[0]) });
  const record = h("button", { type: "button", onclick: toggle }, "Record");

  async function take(blob) {
    try {
      const context = new OfflineAudioContext(1, 1, rate);
      samples = mono(await context.decodeAudioData(await blob.arrayBuffer()));
    } catch {
      samples = null;
      state.textContent = "This browser can't read the file as sound.";
      return;
    }
    player.src = URL.createObjectURL(blob);
    player.hidden = false;
    state.textContent = `${short(samples.length / rate, 3)} seconds, ${samples.length.toLocaleString("en")} samples`;
  }

  async function toggle() {
    if (recorder) return recorder.stop();
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch (error) {
      state.textContent = `The microphone can't be used: ${error.message}.`;
      return;
    }
    const parts = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = () => {
      stream.getTracks().forEach((track) => track.stop());
      take(new Blob(parts, { type: recorder.mimeType }));
      recorder = null;
      record.textContent = "Record";
    };
    recorder.start();
    record.textContent = "Stop";
    state.textContent = "Recording ...";
  }

  return {
    node: takesFiles(h("div", { class: "drop" }, h("label", { for: id }, "A file, dropped here or chosen"), file, record, player, state), take),
    read() {
      if (!samples) throw new Wrong(`${spec.name}: choose a file, or record a sound.`, file);
      try {
        return { data: samples, shape: fitted(spec, { data: samples, shape: [samples.length], isNested: false }) };
      } catch (error) {
        throw new Wrong(`${spec.name}: ${error.message}.`, file);
      }
    },
    fill: () => {},
    stop: () => recorder?.stop(),
  };
}

/** The mean of all channels, which `decodeAudioData` has brought to the context's rate. */
function mono(buffer) {
  const found = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    buffer.getChannelData(channel).forEach((value, i) => { found[i] += value / buffer.numberOfChannels; });
  }
  return found;
}
