// The page, put together.
//
// It holds which conversation is open and which answers are under way, and passes wishes from one room
// to the next: shelf, thread, composer and settings know nothing of each other.

import { announce, notice } from "./js/announce.js";
import { Composer } from "./js/composer.js";
import * as conversations from "./js/conversation.js";
import { chosenModel, findModels, onlyModel } from "./js/models.js";
import { setUpSettings } from "./js/settings.js";
import { Shelf } from "./js/shelf.js";
import { watchStatus } from "./js/status.js";
import * as store from "./js/store.js";
import { Thread } from "./js/thread.js";
import { Turn } from "./js/turn.js";

/** Between two saves of an answer that is being written, ms. */
const SAVE_EVERY = 2000;

let current;
/** The turn of each conversation, by its id, while its answer comes. */
const turns = new Map();

const thread = new Thread({
  onRetry: (at) => {
    if (turns.has(current.id)) return;
    start(conversations.retry(current, at));
    // The button that was pressed goes with the answer that it stood below.
    composer.focus();
  },
  onEdit: (at, text) => {
    turns.get(current.id)?.stop();
    turns.delete(current.id);
    start(conversations.askAgain(current, at, text));
    composer.focus();
  },
});
const composer = new Composer({
  onAsk: (text) => {
    start(conversations.ask(current, text));
    return true;
  },
  onStop: () => turns.get(current.id)?.stop(),
});
const shelf = new Shelf({ onOpen: open, onDelete: remove, onNew: () => show(conversations.newConversation()) });

function show(conversation) {
  current = conversation;
  store.saveOpened(current.id);
  thread.show(current);
  shelf.show(current.id);
  composer.answering = turns.has(current.id);
  composer.focus();
}

function open(id) {
  const conversation = turns.get(id)?.conversation ?? store.load(id);
  if (conversation) show(conversation);
  else notice("That conversation is gone: another tab deleted it.");
}

function remove(id) {
  const kept = turns.get(id)?.conversation ?? store.load(id);
  turns.get(id)?.stop();
  turns.delete(id);
  store.remove(id);
  if (id === current.id) show(conversations.newConversation());
  else shelf.show(current.id);
  if (kept) {
    notice("Conversation deleted.", {
      action: "Undo",
      run: () => {
        save(kept);
        show(conversations.revive(kept));
      },
    });
  }
}

function save(conversation) {
  try {
    store.save(conversation);
  } catch (error) {
    const oldest = store.list().filter(({ id }) => id !== conversation.id).at(-1);
    const run = () => {
      store.remove(oldest.id);
      save(conversation);
      shelf.show(current.id);
    };
    notice(`${error.message} This one will be gone when you close the page.`,
      { lasting: true, ...(oldest && { action: "Delete the oldest", run }) });
  }
}

/** Has the last message of the open conversation answered. */
async function start(answer) {
  const conversation = current;
  const turn = new Turn(conversation, answer);
  turns.set(conversation.id, turn);
  const view = thread.view(answer);
  let said = "";
  let saved = performance.now();
  const say = (words) => {
    if (said !== words && conversation === current) announce((said = words));
  };

  // The request goes first: the box can think while the page is drawn.
  const running = turn.run({ model: chosenModel(), onlyModel, settings: store.settings() }, (changed) => {
    view.update(changed);
    if (changed.queue) say(changed.queue <= 1 ? "Next in the queue." : `Number ${changed.queue} in the queue.`);
    if (changed.reasoning) say("Thinking.");
    if (changed.content) say("Answering.");
    if (performance.now() - saved > SAVE_EVERY && turns.get(conversation.id) === turn) {
      saved = performance.now();
      save(conversation);
    }
  });
  composer.answering = true;
  thread.show(conversation);
  save(conversation);
  shelf.show(conversation.id);
  say("Waiting for the answer.");
  await running;

  view.update();
  // An edit or a deletion has taken its place.
  if (turns.get(conversation.id) !== turn) return;
  turns.delete(conversation.id);
  save(conversation);
  if (conversation === current) composer.answering = false;
  const end = answer.state === "done" ? `Answer: ${await view.spoken()}`
    : answer.state === "stopped" ? "Stopped." : `No answer. ${answer.error}`;
  // The next question may have been asked meanwhile.
  if (conversation === current && !turns.has(conversation.id)) announce(end);
}

setUpSettings({
  onDeleteAll: () => {
    for (const turn of turns.values()) turn.stop();
    turns.clear();
    store.removeAll();
    show(conversations.newConversation());
  },
});

for (const suggestion of document.querySelectorAll(".suggestion")) {
  suggestion.addEventListener("click", () => {
    composer.fill(suggestion.textContent);
    composer.focus();
  });
}

// A page that is closed keeps what has come of its answers. They are stopped here: the connection that the
// browser is about to close would look like a failure.
addEventListener("pagehide", () => {
  for (const turn of turns.values()) {
    save(turn.conversation);
    turn.stop();
  }
});

show(store.load(store.opened()) ?? conversations.newConversation());
findModels();
watchStatus(findModels);
