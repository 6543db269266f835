// What a conversation is, and how a stream changes it.
//
// In: conversations, and the chunks of an answer. Out: changed conversations and the messages to send.
// Plain data and no page: it must never touch the document, the network or the store.
//
// A conversation is {id, updated, messages}. A question is {role: "user", content}. An answer is
// {role: "assistant", state, content, reasoning, thoughtMs, timings, finish, error, tooLong}, with state one
// of "streaming", "done", "stopped", "error".

export function newConversation(now = Date.now()) {
  // crypto.randomUUID is for secure pages only, and the box speaks plain HTTP.
  const id = [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join("");
  return { id, updated: now, messages: [] };
}

/** The first line of the first question, short enough for a list. */
export function titleOf(conversation) {
  const question = conversation.messages.find((message) => message.role === "user");
  const line = question?.content.trim().split("\n")[0] ?? "";
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line || "New conversation";
}

/** Appends a question and the answer that is to come. Returns the answer. */
export function ask(conversation, content, now = Date.now()) {
  conversation.messages.push({ role: "user", content });
  return answerTo(conversation, conversation.messages.length - 1, now);
}

/** Puts another question in the place of the one at `at`; what followed it goes. Returns the answer. */
export function askAgain(conversation, at, content, now = Date.now()) {
  conversation.messages.length = at;
  return ask(conversation, content, now);
}

/** Drops the answer at `at` and what followed it, for a new one. Returns the new answer. */
export function retry(conversation, at, now = Date.now()) {
  return answerTo(conversation, at - 1, now);
}

function answerTo(conversation, at, now) {
  const answer = {
    role: "assistant", state: "streaming", content: "", reasoning: "", thoughtMs: null, timings: null, finish: null, error: null,
    tooLong: false,
  };
  conversation.messages.length = at + 1;
  conversation.messages.push(answer);
  conversation.updated = now;
  return answer;
}

/**
 * The messages to send for the last answer. Reasoning is left out, as R1 wants it. So is a question that
 * was refused for its length: with it every later one would be refused too. An answer that never came is
 * left out as well, and questions that then follow each other become one: templates want turns.
 */
export function messagesToSend(conversation, system) {
  const sent = system?.trim() ? [{ role: "system", content: system.trim() }] : [];
  for (const [at, { role, content }] of conversation.messages.entries()) {
    const last = sent.at(-1);
    if (role === "assistant" ? !content : conversation.messages[at + 1]?.tooLong) continue;
    if (role === "user" && last?.role === "user") last.content += `\n\n${content}`;
    else sent.push({ role, content });
  }
  return sent;
}

/**
 * Folds a chunk of the stream into the answer. `clock`, at first {}, holds between chunks when the thought
 * began and how many pieces of text came from when to when. Returns what changed: {queue}, {progress} or the
 * names of the fields.
 */
export function applyChunk(answer, chunk, clock, now) {
  const changed = {};
  if (chunk.queue) changed.queue = chunk.queue.position;
  if (chunk.prompt_progress) changed.progress = chunk.prompt_progress;
  const choice = chunk.choices?.[0];
  const { reasoning_content: reasoning, content } = choice?.delta ?? {};
  if (reasoning || content) {
    clock.first ??= now;
    clock.last = now;
    clock.pieces = (clock.pieces ?? 0) + 1;
  }
  if (reasoning) {
    clock.thought ??= now;
    answer.reasoning += reasoning;
    changed.reasoning = true;
  }
  if (content) {
    endThought(answer, clock, now);
    answer.content += content;
    changed.content = true;
  }
  if (choice?.finish_reason) answer.finish = choice.finish_reason;
  if (chunk.timings) answer.timings = chunk.timings;
  return changed;
}

/** Closes the answer, with the error that ended it if one did. Leaves nothing half-open. */
export function finish(answer, state, clock, now, error = null) {
  endThought(answer, clock, now);
  answer.timings ??= counted(clock);
  answer.state = state;
  answer.error = error?.message ?? null;
  answer.tooLong = Boolean(error?.tooLong);
}

function endThought(answer, clock, now) {
  if (clock.thought !== undefined && answer.thoughtMs === null) answer.thoughtMs = now - clock.thought;
}

/** The box tells its timings at the end. Without it, the page's own: a piece is a token, or a few at times. */
function counted({ pieces, first, last }) {
  if (!pieces) return null;
  const speed = last > first ? ((pieces - 1) * 1000) / (last - first) : null;
  return { predicted_n: pieces, predicted_per_second: speed, counted_here: true };
}

/** A conversation as it comes back from the store: what was streaming then has stopped since. */
export function revive(conversation) {
  for (const message of conversation.messages) {
    if (message.state === "streaming") message.state = "stopped";
  }
  return conversation;
}
