// The choice of a model.
//
// In: what the box has, asked again whenever that may have changed. Out: the id of the one to ask. What a
// person chose stays chosen while it is there. It asks on until the box answers, because a page may be
// opened before the model is loaded.

import { notice } from "./announce.js";
import * as api from "./api.js";
import { byId, element } from "./dom.js";

/** Between two tries, ms. */
const AGAIN = 1500;

const select = byId("model");

/** What was chosen last, also while there is no connection and nothing to choose from. */
let chosen = "";
select.addEventListener("change", () => (chosen = select.value));

let asking = null;
let again;

/** The id of the chosen model, or "" for the one that is loaded. */
export const chosenModel = () => select.value;

/** Asks the box what it has, and shows it. */
export function findModels() {
  asking ??= ask().finally(() => (asking = null));
  return asking;
}

/** Asks the box again. The id of its model if it has exactly one, else null. */
export async function onlyModel() {
  const found = await findModels();
  return found.length === 1 ? found[0].id : null;
}

async function ask() {
  clearTimeout(again);
  let found = [];
  let words = "No model";
  try {
    found = await api.models();
  } catch (error) {
    words = error.loading ? "Loading the model…" : "No connection to the box";
  }
  if (found.length) {
    offer(found);
  } else {
    select.replaceChildren(element("option", { value: "", textContent: words }));
    select.disabled = true;
    again = setTimeout(findModels, AGAIN);
  }
  return found;
}

function offer(found) {
  const kept = found.find(({ id }) => id === chosen);
  const { id: now } = kept ?? found.find(({ loaded }) => loaded) ?? found[0];
  if (chosen && !kept) notice(`${chosen} is no longer on the box. ${now} answers instead.`);
  chosen = now;
  const options = found.map(({ id, meta }) => element("option", { value: id, textContent: id, title: details(meta) }));
  // A list that somebody has unfolded is not taken from under their hand.
  const same = options.length === select.options.length && options.every((option, at) => option.isEqualNode(select.options[at]));
  if (!same) select.replaceChildren(...options);
  select.value = now;
  select.disabled = false;
}

function details(meta) {
  if (!meta) return "";
  const parts = [meta.architecture, meta.quantization];
  if (meta.n_params) parts.push(`${(meta.n_params / 1e9).toPrecision(2)} billion parameters`);
  if (meta.n_ctx) parts.push(`context of ${meta.n_ctx} tokens`);
  return parts.filter(Boolean).join(", ");
}
