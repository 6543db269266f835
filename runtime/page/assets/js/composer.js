// Where a question is typed.
//
// In: keys. Out: a question, or a wish to stop. What is typed survives a reload and a failure.

import { byId } from "./dom.js";
import * as store from "./store.js";

/** Lines that the field grows to before it scrolls. */
const MOST_LINES = 9;

export class Composer {
  #prompt = byId("prompt");
  #send = byId("send");
  #stop = byId("stop");
  #answering = false;

  /** `onAsk(text)` returns whether the question was taken. */
  constructor({ onAsk, onStop }) {
    const ask = () => {
      const text = this.#prompt.value.trim();
      if (text && !this.#answering && onAsk(text)) this.fill("");
    };
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      ask();
    });
    this.#prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      ask();
    });
    this.#prompt.addEventListener("input", () => this.#typed());
    this.#stop.addEventListener("click", () => {
      onStop();
      this.focus();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#answering && !document.querySelector("dialog[open]")) onStop();
    });
    this.fill(store.draft());
  }

  fill(text) {
    this.#prompt.value = text;
    this.#typed();
  }

  focus() {
    this.#prompt.focus({ preventScroll: true });
  }

  /** While an answer comes, the button stops it instead. */
  set answering(answering) {
    this.#answering = answering;
    const held = document.activeElement === this.#stop || document.activeElement === this.#send;
    this.#stop.hidden = !answering;
    this.#send.hidden = answering;
    if (held) this.focus();
  }

  #typed() {
    const { value } = this.#prompt;
    this.#send.disabled = !value.trim();
    this.#prompt.rows = Math.min(MOST_LINES, value.split("\n").length);
    store.saveDraft(value);
  }
}
