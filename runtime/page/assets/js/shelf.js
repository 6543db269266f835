// The list of conversations, beside the room or, on a narrow screen, over it.
//
// In: the store's list and which one is open. Out: wishes to open or delete one.

import { button, byId, element } from "./dom.js";
import * as store from "./store.js";

const NARROW = matchMedia("(max-width: 860px)");

export class Shelf {
  #shelf = byId("shelf");
  #opener = byId("open-shelf");
  #veil = byId("veil");
  #callbacks;
  #current = null;

  /** `onOpen(id)`, `onDelete(id)` and `onNew()`. */
  constructor(callbacks) {
    this.#callbacks = callbacks;
    byId("new").addEventListener("click", () => {
      this.#slide(false);
      callbacks.onNew();
    });
    this.#opener.addEventListener("click", () => this.#slide(!this.#shelf.classList.contains("open")));
    this.#veil.addEventListener("click", () => this.#slide(false));
    this.#shelf.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.#shelf.classList.contains("open")) return;
      event.stopPropagation();
      this.#slide(false);
      this.#opener.focus();
    });
    byId("open-settings").addEventListener("click", () => this.#slide(false));
    NARROW.addEventListener("change", () => this.#slide(false));
    store.onOtherTab(() => this.show(this.#current));
    this.#slide(false);
  }

  /** Lists what is stored, with the open conversation marked. */
  show(current) {
    this.#current = current;
    const entries = store.list();
    byId("conversations").hidden = entries.length === 0;
    byId("conversations").replaceChildren(...entries.map((entry) => this.#row(entry)));
  }

  #row({ id, title }) {
    const open = button(title, "open", () => {
      this.#slide(false);
      this.#callbacks.onOpen(id);
    });
    if (id === this.#current) open.setAttribute("aria-current", "true");
    const remove = button("×", "delete", () => this.#callbacks.onDelete(id));
    remove.setAttribute("aria-label", `Delete: ${title}`);
    return element("li", {}, open, remove);
  }

  /** On a narrow screen the shelf slides over the room; what is out of sight is out of reach. */
  #slide(open) {
    const over = NARROW.matches && open;
    this.#shelf.classList.toggle("open", over);
    this.#shelf.inert = NARROW.matches && !open;
    this.#veil.hidden = !over;
    this.#opener.setAttribute("aria-expanded", String(over));
    if (over) byId("new").focus();
  }
}
