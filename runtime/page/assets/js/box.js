// The page for the owner: what the box has to tell, which models it has, and files for it.
//
// In: the notices and models of the box, a file of the owner's. Out: the file, to the box alone; which model is to go. It must never show settings that
// the box has: they hold passwords.

import { allModels, bring, remove, watch } from "./api.js";
import { button, byId, element } from "./dom.js";

/** What was told when the models were listed last; null after the box was away. */
let listedAt = null;

watch(({ notices = [] }) => {
  byId("notices").replaceChildren(...notices.map((textContent) => element("li", { textContent })));
  byId("no-notices").hidden = notices.length > 0;
  if (listedAt !== (listedAt = notices.join("\n"))) list();
}, () => (listedAt = null));

async function list() {
  try {
    byId("models").replaceChildren(...(await allModels()).map(row));
  } catch (error) {
    byId("removed").textContent = error.message;
  }
}

function row({ id, bytes, loaded, capabilities }) {
  const name = `${id}.gguf`;
  const state = [capabilities?.includes("embedding") ? "embeds" : "", loaded ? "loaded" : ""];
  const ask = button("Remove", "remove danger", () => letGo(name, ask));
  ask.ariaLabel = `Remove ${name}`;
  return element("tr", { data: { model: id } }, element("th", { scope: "row", textContent: name }),
    element("td", { textContent: state.filter(Boolean).join(", ") }),
    element("td", { className: "right", textContent: ((bytes ?? 0) / 2 ** 20).toFixed(1) }), element("td", {}, ask));
}

async function letGo(name, ask) {
  if (!confirm(`Remove ${name} from the box? To have it again, you bring it again.`)) return;
  ask.disabled = true;
  try {
    await remove(name);
    byId("removed").textContent = `${name} is to be removed. What becomes of it is told above.`;
  } catch (error) {
    byId("removed").textContent = error.message;
    ask.disabled = false;
  }
}

byId("bring").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [file] = byId("file").files;
  const [button, progress] = [byId("send-file"), byId("progress")];
  button.disabled = true;
  progress.hidden = false;
  byId("said").textContent = `${file.name} is on its way. Keep this page open.`;
  try {
    await bring(file, (share) => { progress.value = share; });
    byId("said").textContent = `${file.name} is on the box. What becomes of it is told above.`;
  } catch (error) {
    byId("said").textContent = error.message;
  }
  button.disabled = false;
  progress.hidden = true;
});
