// Dark, light, or as the system has it.
//
// In: the stored choice and presses of the switch. Out: `data-theme` on the root, which style.css reads. A
// classic script, run before the first paint, so that the page never flashes in the wrong colours.

{
  const KEY = "cloister.theme";
  const NAMES = { system: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
  const root = document.documentElement;

  const stored = () => {
    try {
      const choice = localStorage.getItem(KEY);
      return Object.hasOwn(NAMES, choice) ? choice : "system";
    } catch {
      return "system";
    }
  };

  let choice = stored();
  root.dataset.theme = choice;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    const show = () => {
      root.dataset.theme = choice;
      button.textContent = NAMES[choice];
    };
    show();
    button.addEventListener("click", () => {
      const names = Object.keys(NAMES);
      choice = names[(names.indexOf(choice) + 1) % names.length];
      show();
      try {
        localStorage.setItem(KEY, choice);
      } catch {
        // The choice then lasts as long as the page.
      }
    });
  });
}
