// The look of one answer.
//
// In: an answer of a conversation and what changed in it. Out: an element that shows it: waiting, thinking,
// writing, done, stopped or failed. It must never change the answer.

import { button, copyButton, element } from "./dom.js";
import { LiveMarkdown } from "./render.js";

/** Prompts of fewer tokens are read before a bar could be seen. */
const WORTH_A_BAR = 64;

export class AnswerView {
  #answer;
  #text;
  #textView;
  #reasoning;
  #thoughts;
  #thoughtsView;
  #waiting;
  #failure;
  #foot;
  #shown = null;
  #onRetry;

  /** `onRetry` is called for another answer, `onShown` after each change of size. */
  constructor(answer, { onRetry, onShown }) {
    this.#answer = answer;
    this.#onRetry = onRetry;
    this.#text = element("div", { className: "answer" });
    this.#thoughts = element("div", { className: "thoughts" });
    this.#reasoning = element("details", { className: "reasoning", hidden: true },
      element("summary"), this.#thoughts);
    // Thoughts nobody looks at need no rendering.
    this.#reasoning.addEventListener("toggle", () => this.#showThoughts());
    this.#waiting = element("div", { className: "waiting" });
    this.#failure = element("div", { className: "failure", hidden: true });
    this.#foot = element("div", { className: "foot" });
    this.#textView = new LiveMarkdown(this.#text, onShown);
    this.#thoughtsView = new LiveMarkdown(this.#thoughts, onShown);
    this.element = element("article", { className: "turn", data: { role: "assistant" } },
      element("h2", { className: "sr-only", textContent: "Answer" }),
      this.#reasoning, this.#waiting, this.#text, this.#failure, this.#foot);
    this.update({ content: true, reasoning: true });
  }

  /** What a screen reader is told when the answer is there: all of it, which shows a moment after it came. */
  async spoken() {
    await this.#shown;
    return this.#text.textContent;
  }

  /** Shows what changed. Without an argument: the answer came to its end. */
  update(changed = { content: true, reasoning: true }) {
    const answer = this.#answer;
    const streaming = answer.state === "streaming";
    this.element.dataset.state = answer.state;
    this.element.setAttribute("aria-busy", String(streaming));
    if (changed.content && answer.content) this.#shown = this.#textView.show(answer.content);
    if (answer.reasoning) {
      this.#reasoning.hidden = false;
      this.#summarise();
      if (changed.reasoning) this.#showThoughts();
    }
    this.#wait(streaming, changed);
    if (!streaming) this.#close();
  }

  #summarise() {
    const { thoughtMs, state } = this.#answer;
    const words = thoughtMs !== null ? `Thought for ${Math.max(1, Math.round(thoughtMs / 1000))} s`
      : state === "streaming" ? "Thinking…" : "Thought";
    const summary = this.#reasoning.firstElementChild;
    if (summary.textContent !== words) summary.textContent = words;
  }

  #showThoughts() {
    if (this.#reasoning.open && this.#answer.reasoning) this.#thoughtsView.show(this.#answer.reasoning);
  }

  #wait(streaming, { queue, progress }) {
    const silent = streaming && !this.#answer.content && !this.#answer.reasoning;
    this.#waiting.hidden = !silent;
    if (!silent) {
      this.#waiting.replaceChildren();
    } else if (queue !== undefined) {
      this.#waiting.replaceChildren(queue <= 1 ? "Next in the queue" : `Number ${queue} in the queue`);
    } else if (progress && progress.total >= WORTH_A_BAR) {
      this.#bar(progress);
    } else if (!this.#waiting.childNodes.length) {
      this.#waiting.replaceChildren(element("span", { className: "pulse", role: "img", ariaLabel: "Waiting for the answer" }));
    }
  }

  #bar({ total, processed }) {
    let bar = this.#waiting.querySelector("progress");
    if (!bar) {
      bar = element("progress", { ariaLabel: "Reading the conversation" });
      this.#waiting.replaceChildren(element("span"), bar);
    }
    bar.max = total;
    bar.value = processed;
    this.#waiting.firstChild.textContent = `Reading: ${processed} of ${total} tokens`;
  }

  #close() {
    const { state, error, content } = this.#answer;
    this.#failure.hidden = state !== "error";
    if (state === "error") this.#failure.replaceChildren(element("p", { textContent: error }));
    const meta = this.#meta();
    this.#foot.replaceChildren(
      ...(content ? [copyButton("copy", () => this.#answer.content)] : []),
      button("Retry", "retry", this.#onRetry),
      ...(meta ? [element("span", { className: "meta", textContent: meta })] : []));
  }

  #meta() {
    const { timings, finish, state } = this.#answer;
    const parts = [];
    if (state === "stopped") parts.push("stopped");
    if (finish === "length") parts.push("cut at the most tokens allowed");
    if (timings?.predicted_n) {
      const about = timings.counted_here ? "about " : "";
      parts.push(`${about}${timings.predicted_n} ${timings.predicted_n === 1 ? "token" : "tokens"}`);
    }
    if (timings?.predicted_per_second) parts.push(`${timings.predicted_per_second.toFixed(1)} tokens/s`);
    return parts.join(" · ");
  }
}
