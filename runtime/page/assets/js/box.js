// The page for the owner: what the box has to tell, and files for it.
//
// In: the notices of the box, a file of the owner's. Out: the file, to the box alone. It must never show settings that
// the box has: they hold passwords.

import { bring, watch } from "./api.js";
import { byId, element } from "./dom.js";

watch(({ notices = [] }) => {
  byId("notices").replaceChildren(...notices.map((textContent) => element("li", { textContent })));
  byId("no-notices").hidden = notices.length > 0;
}, () => {});

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
