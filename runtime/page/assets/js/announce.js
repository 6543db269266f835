// What a screen reader is told, and the line above the prompt.
//
// In: a few words at a time of note. Out: the polite live region, and notices with something to press. It
// must never carry single tokens: a reader that is interrupted ten times a second says nothing.

import { button, byId } from "./dom.js";

/** More than this many characters of an answer are better read in the conversation. */
const MOST = 1200;

/** Says something once, when the reader next falls silent. */
export function announce(text) {
  byId("announcer").textContent = text.length > MOST ? `${text.slice(0, MOST)}… The rest is in the conversation.` : text;
}

let hiding;

/** Shows a line above the prompt, with an action where there is one, for a while or until the next. */
export function notice(text, { action = null, run = null, lasting = false } = {}) {
  clearTimeout(hiding);
  const line = byId("notice");
  line.replaceChildren(text);
  if (action) {
    line.append(" ", button(action, "plain", () => {
      line.replaceChildren();
      run();
    }));
  }
  if (!lasting) hiding = setTimeout(() => line.replaceChildren(), 10_000);
}
