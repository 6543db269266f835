// Elements and the clipboard.
//
// In: names, properties, children. Out: elements. It must never take HTML: text goes in as text.

/** The element with this id, which index.html has. */
export const byId = (id) => document.getElementById(id);

/** An element with its properties, `data-` values and listeners (`onclick`), and its children. */
export function element(name, { data = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  Object.assign(made.dataset, data);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** A button that does something in the page. `className` is what tests and styles find it by. */
export function button(label, className, onclick) {
  return element("button", { type: "button", textContent: label, className, onclick });
}

/** A button that copies `text()` and says so. */
export function copyButton(className, text) {
  const made = button("Copy", className, async () => {
    made.textContent = (await copy(text())) ? "Copied" : "Could not copy";
    setTimeout(() => (made.textContent = "Copy"), 1600);
  });
  made.setAttribute("aria-live", "polite");
  return made;
}

async function copy(text) {
  // Only secure pages have a clipboard, and the box speaks plain HTTP.
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = element("textarea", { value: text, className: "sr-only", ariaHidden: "true", tabIndex: -1 });
    const focused = document.activeElement;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    focused?.focus({ preventScroll: true });
    return done;
  }
}
