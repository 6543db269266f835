// The line that says how the box is doing.
//
// In: the box's own states, as they change. Out: a few words. Where there are none to be had, no line.

import { watch } from "./api.js";
import { byId } from "./dom.js";

export function watchStatus() {
  const line = byId("status");
  watch((state) => {
    line.textContent = inWords(state);
    line.dataset.busy = String((state.slots?.busy ?? 0) > 0);
    line.hidden = false;
  }, () => {
    line.hidden = true;
  });
}

function inWords({ slots, queue, tokens_per_second: speed }) {
  const parts = [slots?.busy ? `${slots.busy} of ${slots.total} answering` : "Ready"];
  if (queue?.waiting) parts.push(`${queue.waiting} waiting`);
  if (slots?.busy && speed?.decode) parts.push(`${speed.decode.toFixed(1)} tokens/s`);
  return parts.join(" · ");
}
