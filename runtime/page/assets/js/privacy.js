// The page that shows what the box keeps and may do.
//
// In: /api/privacy, again and again. Out: tables, and the order to erase everything. It must never show what it
// was not told: a program that does not report is not listed.

import { eraseEverything, privacy } from "./api.js";
import { byId, element } from "./dom.js";

/** Between two looks, ms. */
const EVERY = 3000;

const NAMES = { serve: "serve, the model behind HTTP", bridge: "bridge, the way from and to MQTT", panel: "panel" };
const OBSERVED = {
  up: "up, which has started the others", broker: "Mosquitto, the broker", model_trial: "helper that tries models out",
  templates: "helper that renders chat templates",
};
const KEPT = {
  journal: "Questions and answers over MQTT, until a minute after delivery",
  answered: "Hashes by which a question over MQTT that comes again within a day is known",
  templates: "What the model made of stored templates",
  access: "Keys and paired browsers, as hashes with their names; they stay when all else is erased",
};
const COUNTED_BY = {
  kernel: "by the kernel's count for this program's own network",
  filter: "as the kernel's filter of system calls refuses it new ones", itself: "by its own count",
};
const SOCKETS = { network: "to a network", unix: "on this machine", opened_before: "opened before the seal" };

function row(...cells) {
  const [head, ...rest] = cells;
  return element("tr", {}, element("th", { scope: "row", textContent: head }),
    ...rest.map((text) => element("td", { className: "right", textContent: text })));
}

/** What a program says of itself, as [what, how it is]. */
function facts({ seal, gaps, status, outgoing_connections: opened, counted_by: by }) {
  const sockets = Object.entries(status.sockets).map(([kind, n]) => `${n} ${SOCKETS[kind] ?? kind}`).join(", ");
  return [
    ["The kernel", seal],
    ["Cannot be enforced here", gaps.join("; ") || "nothing"],
    ["Threads with filtered system calls", `${status.threads_filtered} of ${status.threads}`],
    ["Capabilities", status.no_capabilities && status.no_new_privs ? "none, and none to be had" : "not all given away"],
    ["Core dumps", status.no_core_dumps ? "off" : "on"],
    ["Network interfaces but loopback", String(status.network_interfaces ?? "not told by this kernel")],
    ["Sockets", sockets || "none"],
    ["Outgoing TCP connections since its start", counted(opened, by)],
  ];
}

/** The same of one that does not report. */
function seen({ threads, filtered, no_new_privs: noNewPrivileges, no_capabilities: noCapabilities }) {
  return [
    ["System calls", filtered ? "filtered" : "NOT filtered"],
    ["Threads", String(threads)],
    ["Capabilities", noCapabilities ? "none" : "not all given away"],
    ["New privileges", noNewPrivileges ? "none to be had" : "may be had"],
  ];
}

const counted = (connections, by) => (connections === null ? "not counted by this kernel" : `${connections}, ${COUNTED_BY[by] ?? by}`);

function section(title, about) {
  return element("section", {}, element("h3", { textContent: title }),
    element("dl", {}, ...about.flatMap(([what, how]) => [
      element("dt", { textContent: what }), element("dd", { textContent: how })])));
}

function show({ processes, observed, stored, outgoing_connections: opened, erasing }) {
  byId("opened").textContent = opened === null ? "Uncounted" : String(opened);
  const toBroker = processes.some(({ name }) => name === "bridge");
  byId("opened-means").textContent = opened === 1 ? "outgoing connection since the start" : "outgoing connections since the start";
  if (toBroker) byId("opened-means").textContent += ", all by the bridge to its broker";
  byId("stored").replaceChildren(...stored.map(({ what, rows, bytes }) => row(KEPT[what] ?? what, String(rows), bytes.toLocaleString("en"))));
  byId("processes").replaceChildren(
    ...processes.map((process) => section(`${NAMES[process.name] ?? process.name}, number ${process.status.pid}`, facts(process))),
    ...observed.map((process) => section(`${OBSERVED[process.name] ?? process.name}, number ${process.pid}`, seen(process))));
  if (erasing) byId("said").textContent = "The bridge, if this box has one, has still to erase its journal: it does when it is there.";
}

async function look() {
  try {
    show(await privacy());
  } catch (error) {
    byId("said").textContent = error.message;
  }
}

byId("erase").addEventListener("click", async () => {
  if (!confirm("Erase all that the box keeps: questions and answers that wait or were just answered, stored templates, "
    + "and what is in its memory? This cannot be undone.")) return;
  byId("said").textContent = "Erasing.";
  try {
    await eraseEverything();
    byId("said").textContent = "Erased.";
  } catch (error) {
    byId("said").textContent = error.message;
  }
  await look();
});

await look();
setInterval(look, EVERY);
