// The choice of a model.
//
// In: what the box has. Out: the id of the one to ask. It asks again until the box answers, because a page
// may be opened before the model is loaded.

import * as api from "./api.js";
import { byId, element } from "./dom.js";

/** Between two tries, ms. */
const AGAIN = 1500;

const select = byId("model");

/** The id of the chosen model, or "" for the one that is loaded. */
export const chosenModel = () => select.value;

export async function findModels() {
  try {
    const found = await api.models();
    select.replaceChildren(...found.map((model) => element("option", {
      value: model.id, textContent: model.id, selected: Boolean(model.loaded), title: details(model.meta),
    })));
    select.disabled = found.length === 0;
    if (found.length) return;
    select.replaceChildren(element("option", { value: "", textContent: "No model" }));
  } catch (error) {
    const words = error.loading ? "Loading the model…" : "No connection to the box";
    select.replaceChildren(element("option", { value: "", textContent: words }));
    select.disabled = true;
  }
  setTimeout(findModels, AGAIN);
}

function details(meta) {
  if (!meta) return "";
  const parts = [meta.architecture, meta.quantization];
  if (meta.n_params) parts.push(`${(meta.n_params / 1e9).toPrecision(2)} billion parameters`);
  if (meta.n_ctx) parts.push(`context of ${meta.n_ctx} tokens`);
  return parts.filter(Boolean).join(", ");
}
