// Markdown in the page, while it grows.
//
// In: the text of an answer, again and again. Out: its HTML, made by the box, in an element. The first
// characters show at once as plain text. One request is under way at a time. Blocks that did not change
// are left alone, so that a selection and a scrolled code block survive the next token.

import * as api from "./api.js";
import { copyButton, element } from "./dom.js";
import { Latest } from "./latest.js";

/** Between two requests, ms. */
const PAUSE = 120;

export class LiveMarkdown {
  #element;
  #onShown;
  #shown = null;
  #blocks = [];
  #latest = new Latest((text) => this.#render(text));

  /** `onShown` is called after each change of the element. */
  constructor(target, onShown = () => {}) {
    this.#element = target;
    this.#onShown = onShown;
  }

  /** Shows the text, soon. Resolves when it, or what came after it, is shown. */
  show(text) {
    if (this.#shown === null) this.#plain(text);
    return this.#latest.want(text);
  }

  async #render(text) {
    if (text === this.#shown) return;
    const began = performance.now();
    try {
      this.#swap(await api.render(text));
      this.#shown = text;
      this.#onShown();
    } catch {
      // The words matter more than their looks.
      this.#plain(text);
      this.#shown = null;
    }
    // A long answer takes longer to render; leave the model at least half of the time.
    const took = performance.now() - began;
    await new Promise((resume) => setTimeout(resume, Math.max(PAUSE - took, took)));
  }

  #plain(text) {
    this.#blocks = [];
    this.#element.classList.add("as-typed");
    this.#element.textContent = text;
    this.#onShown();
  }

  #swap(html) {
    this.#element.classList.remove("as-typed");
    if (!this.#blocks.length) this.#element.replaceChildren();
    const fresh = element("template");
    fresh.innerHTML = html;
    const blocks = [...fresh.content.children];
    const sources = blocks.map((block) => block.outerHTML);
    let same = 0;
    while (same < sources.length && sources[same] === this.#blocks[same]) same++;
    [...this.#element.children].slice(same).forEach((old) => old.remove());
    this.#element.append(...blocks.slice(same).map(dressed));
    this.#blocks = sources;
  }
}

/** A block with what only a page can add: copy buttons, and keyboard focus where it scrolls. */
function dressed(block) {
  for (const scrolls of [block, ...block.querySelectorAll(".table-scroll, .math-display")]) {
    if (scrolls.matches(".table-scroll, .math-display")) scrolls.tabIndex = 0;
  }
  if (block.matches("pre")) return framed(block);
  for (const code of block.querySelectorAll("pre")) {
    const place = document.createComment("");
    code.replaceWith(place);
    place.replaceWith(framed(code));
  }
  return block;
}

function framed(pre) {
  pre.tabIndex = 0;
  return element("div", { className: "code" },
    element("div", { className: "code-head" },
      element("span", { textContent: pre.dataset.language || "text" }),
      copyButton("copy-code", () => pre.textContent)),
    pre);
}
