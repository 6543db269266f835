// One answer, from the request to its last token.
//
// In: a conversation whose last message is an answer to come. Out: that message, filled, and a call for
// each change. Stopping closes the connection, which is how the box learns of it. It must never leave the
// message in the state "streaming".

import * as api from "./api.js";
import { applyChunk, finish, messagesToSend } from "./conversation.js";

export class Turn {
  #abort = new AbortController();

  constructor(conversation, answer) {
    this.conversation = conversation;
    this.answer = answer;
  }

  stop() {
    this.#abort.abort();
  }

  /** Runs to the end. `onChange` gets what changed, as applyChunk says. It does not throw. */
  async run({ model, settings }, onChange) {
    const { answer } = this;
    const clock = {};
    const request = { messages: messagesToSend(this.conversation, settings.system) };
    if (model) request.model = model;
    if (settings.temperature !== null) request.temperature = settings.temperature;
    if (settings.maxTokens !== null) request.max_tokens = settings.maxTokens;
    try {
      for await (const chunk of api.chat(request, this.#abort.signal)) {
        onChange(applyChunk(answer, chunk, clock, Date.now()));
      }
      finish(answer, "done", clock, Date.now());
    } catch (error) {
      if (this.#abort.signal.aborted) finish(answer, "stopped", clock, Date.now());
      else finish(answer, "error", clock, Date.now(), error);
    }
  }
}
