// One answer, from the request to its last token.
//
// In: a conversation whose last message is an answer to come. Out: that message, filled, and a call for
// each change. Stopping closes the connection, which is how the box learns of it. It must never leave the
// message in the state "streaming".

import * as api from "./api.js";
import { applyChunk, finish, messagesToSend } from "./conversation.js";

/** How long a browser may take from setting out for another page to leaving this one, ms. */
const LEAVING = 5000;

/** A browser that sets out for another page may close the connections before it says so with `pagehide`. */
let leaving = false;
addEventListener("beforeunload", () => {
  leaving = true;
  // It may stay after all.
  setTimeout(() => (leaving = false), LEAVING);
});

export class Turn {
  #abort = new AbortController();

  constructor(conversation, answer) {
    this.conversation = conversation;
    this.answer = answer;
  }

  stop() {
    this.#abort.abort();
  }

  /**
   * Runs to the end. `onlyModel` gives the id of the box's model where it has just one: it is asked where the
   * box has `model` no more. `onChange` gets what changed, as applyChunk says. It does not throw.
   */
  async run({ model, onlyModel, settings }, onChange) {
    const { answer } = this;
    const clock = {};
    const request = { messages: messagesToSend(this.conversation, settings.system) };
    if (model) request.model = model;
    if (settings.temperature !== null) request.temperature = settings.temperature;
    if (settings.maxTokens !== null) request.max_tokens = settings.maxTokens;
    try {
      for await (const chunk of this.#chunks(request, onlyModel)) {
        onChange(applyChunk(answer, chunk, clock, Date.now()));
      }
      finish(answer, "done", clock, Date.now());
    } catch (error) {
      if (leaving || this.#abort.signal.aborted) finish(answer, "stopped", clock, Date.now());
      else finish(answer, "error", clock, Date.now(), error);
    }
  }

  async *#chunks(request, onlyModel) {
    const { signal } = this.#abort;
    try {
      yield* api.chat(request, signal);
    } catch (error) {
      const model = error.code === "model_not_found" ? await onlyModel() : null;
      if (!model) throw error;
      yield* api.chat({ ...request, model }, signal);
    }
  }
}
