// What a conversation is, and how a stream changes it.
//
// In: conversations, and the chunks of an answer. Out: changed conversations and the messages to send.
// Plain data and no page: it must never touch the document, the network or the store.
//
// A conversation is {id, updated, messages}. A question is {role: "user", content}. An answer is
// {role: "assistant", state, content, reasoning, thoughtMs, timings, finish, error}, with state one of
// "streaming", "done", "stopped", "error".

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
  };
  conversation.messages.length = at + 1;
  conversation.messages.push(answer);
  conversation.updated = now;
  return answer;
}

/**
 * The messages to send for the last answer. Reasoning is left out, as R1 wants it. An answer that never
 * came is left out too, and questions that then follow each other become one: templates want turns.
 */
export function messagesToSend(conversation, system) {
  const sent = system?.trim() ? [{ role: "system", content: system.trim() }] : [];
  for (const { role, content } of conversation.messages) {
    const last = sent.at(-1);
    if (role === "assistant" && !content) continue;
    if (role === "user" && last?.role === "user") last.content += `\n\n${content}`;
    else sent.push({ role, content });
  }
  return sent;
}

/**
 * Folds a chunk of the stream into the answer. `thinking` holds `since`, the time of the first reasoning,
 * between chunks. Returns what changed: {queue}, {progress} or the names of the fields.
 */
export function applyChunk(answer, chunk, thinking, now) {
  const changed = {};
  if (chunk.queue) changed.queue = chunk.queue.position;
  if (chunk.prompt_progress) changed.progress = chunk.prompt_progress;
  const choice = chunk.choices?.[0];
  const { reasoning_content: reasoning, content } = choice?.delta ?? {};
  if (reasoning) {
    thinking.since ??= now;
    answer.reasoning += reasoning;
    changed.reasoning = true;
  }
  if (content) {
    endThought(answer, thinking, now);
    answer.content += content;
    changed.content = true;
  }
  if (choice?.finish_reason) answer.finish = choice.finish_reason;
  if (chunk.timings) answer.timings = chunk.timings;
  return changed;
}

/** Closes the answer. Leaves it with a last state and nothing half-open. */
export function finish(answer, state, thinking, now, error = null) {
  endThought(answer, thinking, now);
  answer.state = state;
  answer.error = error;
}

function endThought(answer, thinking, now) {
  if (thinking.since !== undefined && answer.thoughtMs === null) answer.thoughtMs = now - thinking.since;
}

/** A conversation as it comes back from the store: what was streaming then has stopped since. */
export function revive(conversation) {
  for (const message of conversation.messages) {
    if (message.state === "streaming") message.state = "stopped";
  }
  return conversation;
}
