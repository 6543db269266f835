// The settings dialog.
//
// In: what a person types. Out: the stored settings. An empty field means the model's own.

import { byId } from "./dom.js";
import { notice } from "./announce.js";
import * as store from "./store.js";

/** `onDeleteAll` is called after the person agreed. */
export function setUpSettings({ onDeleteAll }) {
  const dialog = byId("settings");
  const [system, temperature, maxTokens] = ["system", "temperature", "max-tokens"].map(byId);
  byId("open-settings").addEventListener("click", () => {
    const now = store.settings();
    system.value = now.system;
    temperature.value = now.temperature ?? "";
    maxTokens.value = now.maxTokens ?? "";
    dialog.showModal();
  });
  byId("close-settings").addEventListener("click", () => dialog.close());
  byId("settings-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const number = (field) => (field.value === "" ? null : field.valueAsNumber);
    try {
      store.saveSettings({ system: system.value, temperature: number(temperature), maxTokens: number(maxTokens) });
    } catch (error) {
      notice(error.message, { lasting: true });
    }
    dialog.close();
  });
  byId("delete-all").addEventListener("click", () => {
    if (!confirm("Delete every conversation in this browser? This cannot be undone.")) return;
    dialog.close();
    onDeleteAll();
  });
}
