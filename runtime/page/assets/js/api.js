// The box's HTTP API, as the page uses it.
//
// In: requests as plain objects. Out: answers as plain objects, or an ApiError whose message a person can
// act on. It must never ask any host but the one that the page came from.

import { sseEvents } from "./sse.js";

/**
 * A refusal or a failure, in words. `loading` is true while the box is still reading its model, `tooLong`
 * where what was asked is more than the model can read.
 */
export class ApiError extends Error {
  constructor(message, { status = 0, code = null } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.loading = status === 503;
    this.tooLong = code === "context_length_exceeded" || status === 413;
  }
}

const UNREACHABLE = "The box does not answer. See that it is on and that you are on its network.";

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(UNREACHABLE);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  // Let in no more, or not yet.
  if (response.status === 401) location.assign("/pair");
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // No JSON: the status alone has to do.
  }
  return inWords(error, response.status, Number(response.headers.get("Retry-After")));
}

function inWords(error, status, retryAfter) {
  const said = error.message || (status ? `The box answered with status ${status}.` : "The answer failed.");
  const of = { status, code: error.code ?? null };
  if (error.code === "context_length_exceeded" || status === 413) {
    return new ApiError("This is too long for the model. Ask something shorter, which then goes without this question, "
      + `or start a new conversation. (${said})`, of);
  }
  if (status === 429) {
    const when = retryAfter > 0 ? `in ${retryAfter} s` : "in a moment";
    if (error.code === "rate_limit_exceeded") return new ApiError(`This browser asks too often. Try again ${when}.`, of);
    return new ApiError(`Everybody is asking at once and the queue is full. Try again ${when}.`, of);
  }
  if (status === 503) return new ApiError("The model is still being loaded. Try again in a moment.", of);
  return new ApiError(said, of);
}

function post(body, signal) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
}

/** All models of the box: [{id, bytes, loaded, capabilities, meta}]. */
export async function allModels() {
  const response = await call("/v1/models");
  return (await response.json()).data ?? [];
}

/** Those that answer. */
export async function models() {
  return (await allModels()).filter(({ capabilities }) => !capabilities?.includes("embedding"));
}

/** What the box's programs tell about themselves. */
export async function privacy() {
  return (await call("/api/privacy")).json();
}

/** Has the box erase all that it keeps. */
export async function eraseEverything() {
  await call("/api/privacy/erase", post({ everything: true }));
}

/** Brings a file to the box; `onShare` hears how much of it is there, 0 to 1. `fetch` tells nothing of that. */
export function bring(file, onShare) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/api/box/files/${encodeURIComponent(file.name)}`);
    request.upload.addEventListener("progress", ({ loaded, total }) => onShare(loaded / total));
    request.addEventListener("error", () => reject(new ApiError(UNREACHABLE)));
    request.addEventListener("load", () => {
      if (request.status < 300) return resolve();
      refusal(new Response(request.response, { status: request.status })).then(reject);
    });
    request.send(file);
  });
}

/** Has the box remove the model in this file. */
export async function remove(name) {
  await call(`/api/box/files/${encodeURIComponent(name)}`, { method: "DELETE" });
}

/** Sanitised HTML of a text in Markdown. */
export async function render(text) {
  const response = await call("/api/render", post({ text }));
  return (await response.json()).html;
}

/**
 * The chunks of a streamed answer. Aborting the signal closes the connection, and the box stops.
 * Throws an ApiError where the box refuses, fails on the way, or goes silent before its last chunk.
 */
export async function* chat(request, signal) {
  const response = await call("/v1/chat/completions", post({ ...request, stream: true, return_progress: true }, signal));
  try {
    for await (const { data } of sseEvents(response.body)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw inWords(chunk.error, 0, 0);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError("The connection to the box broke. What had come is kept above.");
  }
  throw new ApiError("The answer broke off before its end. What had come is kept above.");
}

/** Between two tries to watch the box where the browser has given up, ms. */
const WATCH_AGAIN = 3000;

/** Calls `onState` with each state of the box, the first after each connection, and `onDown` when none can be had. */
export function watch(onState, onDown) {
  const source = new EventSource("/api/events");
  source.addEventListener("state", (event) => {
    try {
      onState(JSON.parse(event.data));
    } catch {
      onDown();
    }
  });
  source.addEventListener("error", () => {
    onDown();
    // A browser connects again by itself, but not after it was refused with a status.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => watch(onState, onDown), WATCH_AGAIN);
  });
}
