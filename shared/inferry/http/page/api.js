// Requests to the server that this page comes from, below whatever path it is called by.

export const root = new URL("./", document.baseURI);

// In memory only: it is gone with the page.
let key = "";

export const setKey = (value) => { key = value.trim(); };
export const hasKey = () => key !== "";

/** What the server answered that is no answer; `status` 0: there was none. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const modelPath = (name, version = "") =>
  `v2/models/${encodeURIComponent(name)}${version ? `/versions/${encodeURIComponent(version)}` : ""}`;

/** A response in full: its headers, its bytes, and the milliseconds until they were here. Refused otherwise. */
export async function ask(path, { method = "GET", body, headers = {}, signal } = {}) {
  const started = performance.now();
  let response, buffer;
  try {
    const sent = key ? { ...headers, "X-API-Key": key } : headers;
    response = await fetch(new URL(path, root), { method, body, headers: sent, cache: "no-store", signal });
    buffer = await response.arrayBuffer();
  } catch (error) {
    if (error.name === "AbortError") throw new Refused("Stopped.", 0);
    throw new Refused("The server did not answer. It may have ended, or the network is down.", 0);
  }
  const ms = performance.now() - started;
  if (!response.ok) throw new Refused(explained(response.status, buffer), response.status);
  return { headers: response.headers, buffer, ms };
}

export async function json(path, options) {
  return parsed((await ask(path, options)).buffer);
}

export const parsed = (buffer) => JSON.parse(new TextDecoder().decode(buffer));

function explained(status, buffer) {
  try {
    const { error, message } = parsed(buffer);
    if (error || message) return String(error || message);
  } catch {
    // What is in front of the server answers in other words, or in none.
  }
  return `The server, or what is in front of it, answered with status ${status}.`;
}
