// The page that lets a browser in.
//
// In: the code that the box shows. Out: the cookie that the box sets, and the page itself. It must never keep the code.

const form = document.getElementById("pair");
const code = document.getElementById("code");
const refused = document.getElementById("refused");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  refused.hidden = true;
  try {
    await pair(code.value, document.getElementById("name").value.trim());
  } catch (error) {
    refused.textContent = error.message;
    refused.hidden = false;
    code.select();
    return;
  }
  location.replace("/");
});

async function pair(code, name) {
  const response = await fetch("/pair", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ code, name }),
  }).catch(() => {
    throw new Error("The box does not answer. See that it is on and that you are on its network.");
  });
  if (response.ok) return;
  const said = await response.json().catch(() => ({}));
  throw new Error(said.error?.message ?? `The box answered with status ${response.status}.`);
}

code.focus();
