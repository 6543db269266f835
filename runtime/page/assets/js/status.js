// The line that says how the box is doing.
//
// In: the box's own states, as they change. Out: a few words, and a call where the model may be another one.
// Where there are no states to be had, no line.

import { watch } from "./api.js";
import { byId, element } from "./dom.js";

/** `onModel` is called after each connection to the box, and when it has loaded another model. */
export function watchStatus(onModel) {
  const line = byId("status");
  let model;
  watch((state) => {
    line.replaceChildren(inWords(state), element("span", { className: "speed", textContent: speed(state) }));
    line.dataset.busy = String((state.slots?.busy ?? 0) > 0);
    line.hidden = false;
    byId("box").textContent = state.notices?.length ? `This box: ${state.notices.length} to read` : "This box";
    if (state.model !== model) {
      model = state.model;
      onModel();
    }
  }, () => {
    line.hidden = true;
    model = undefined;
  });
}

function inWords({ slots, queue }) {
  const parts = [slots?.busy ? `${slots.busy} of ${slots.total} busy` : "Ready"];
  if (queue?.waiting) parts.push(`${queue.waiting} waiting`);
  return parts.join(" · ");
}

/** Left out where the screen is narrow. */
function speed({ slots, tokens_per_second: speed }) {
  return slots?.busy && speed?.decode ? ` · ${speed.decode.toFixed(1)} tokens/s` : "";
}
