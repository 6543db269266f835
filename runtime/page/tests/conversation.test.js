import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { test } from "node:test";

import {
  applyChunk, ask, askAgain, finish, messagesToSend, newConversation, retry, revive, titleOf,
} from "../assets/js/conversation.js";

// Node 18, which Debian 12 has, keeps to a module what browsers have everywhere.
globalThis.crypto ??= webcrypto;

const delta = (fields) => ({ choices: [{ index: 0, delta: fields, finish_reason: null }] });

function answered(conversation, question, content) {
  const answer = ask(conversation, question);
  applyChunk(answer, delta({ content }), {}, 0);
  finish(answer, "done", {}, 0);
  return answer;
}

test("a stream fills an answer, and the time of thinking ends with the first word of it", () => {
  const answer = ask(newConversation(), "why?");
  const clock = {};
  assert.deepEqual(applyChunk(answer, { choices: [], queue: { position: 2 } }, clock, 0), { queue: 2 });
  assert.deepEqual(applyChunk(answer, delta({ role: "assistant" }), clock, 10), {});
  assert.deepEqual(applyChunk(answer, delta({ reasoning_content: "hm" }), clock, 1000), { reasoning: true });
  assert.deepEqual(applyChunk(answer, delta({ reasoning_content: "m" }), clock, 2000), { reasoning: true });
  assert.deepEqual(applyChunk(answer, delta({ content: "So" }), clock, 4000), { content: true });
  applyChunk(answer, { choices: [{ delta: {}, finish_reason: "length" }], timings: { predicted_n: 3 } }, clock, 5000);
  finish(answer, "done", clock, 6000);
  assert.deepEqual(answer, {
    role: "assistant", state: "done", content: "So", reasoning: "hmm", thoughtMs: 3000, timings: { predicted_n: 3 },
    finish: "length", error: null, tooLong: false,
  });
});

test("stopping in the middle of a thought ends the thought", () => {
  const answer = ask(newConversation(), "why?");
  const clock = {};
  applyChunk(answer, delta({ reasoning_content: "hm" }), clock, 1000);
  finish(answer, "stopped", clock, 2500);
  assert.equal(answer.thoughtMs, 1500);
});

test("an answer that was stopped has the speed that the page saw, and a whole one the speed that the box told", () => {
  const stopped = ask(newConversation(), "why?");
  const clock = {};
  applyChunk(stopped, delta({ role: "assistant" }), clock, 0);
  applyChunk(stopped, delta({ reasoning_content: "hm" }), clock, 1000);
  applyChunk(stopped, delta({ content: "So" }), clock, 1100);
  applyChunk(stopped, delta({ content: "," }), clock, 1200);
  finish(stopped, "stopped", clock, 9000);
  assert.deepEqual(stopped.timings, { predicted_n: 3, predicted_per_second: 10, counted_here: true });

  const one = ask(newConversation(), "why?");
  const once = {};
  applyChunk(one, delta({ content: "So" }), once, 1000);
  finish(one, "stopped", once, 9000);
  assert.equal(one.timings.predicted_per_second, null, "one piece has no speed");

  const none = ask(newConversation(), "why?");
  finish(none, "stopped", {}, 9000);
  assert.equal(none.timings, null);

  const whole = answered(newConversation(), "a", "b");
  applyChunk(whole, { choices: [], timings: { predicted_n: 7 } }, {}, 0);
  finish(whole, "done", { pieces: 5, first: 0, last: 9 }, 9);
  assert.deepEqual(whole.timings, { predicted_n: 7 });
});

test("what is sent holds the system prompt and no reasoning", () => {
  const conversation = newConversation();
  answered(conversation, "a", "b").reasoning = "secret";
  ask(conversation, "c");
  assert.deepEqual(messagesToSend(conversation, " be brief "), [
    { role: "system", content: "be brief" },
    { role: "user", content: "a" },
    { role: "assistant", content: "b" },
    { role: "user", content: "c" },
  ]);
});

test("questions without an answer between them are sent as one", () => {
  const conversation = newConversation();
  finish(ask(conversation, "a"), "error", {}, 0, new Error("no"));
  ask(conversation, "b");
  assert.deepEqual(messagesToSend(conversation, ""), [{ role: "user", content: "a\n\nb" }]);
});

test("a question that was too long does not stand in the way of the next", () => {
  const conversation = newConversation();
  answered(conversation, "a", "b");
  finish(ask(conversation, "long"), "error", {}, 0, Object.assign(new Error("no"), { tooLong: true }));
  const again = retry(conversation, 3);
  assert.deepEqual(messagesToSend(conversation, "").at(-1), { role: "user", content: "long" }, "it may be tried again");
  finish(again, "error", {}, 0, Object.assign(new Error("no"), { tooLong: true }));
  ask(conversation, "short");
  assert.deepEqual(messagesToSend(conversation, "").map(({ content }) => content), ["a", "b", "short"]);
});

test("retry and edit drop what followed", () => {
  const conversation = newConversation();
  answered(conversation, "a", "b");
  answered(conversation, "c", "d");
  retry(conversation, 3);
  assert.deepEqual(conversation.messages.map(({ content }) => content), ["a", "b", "c", ""]);
  askAgain(conversation, 0, "e");
  assert.deepEqual(conversation.messages.map(({ content }) => content), ["e", ""]);
});

test("an answer that was streaming when the page closed has stopped", () => {
  const conversation = newConversation();
  ask(conversation, "a");
  assert.equal(revive(JSON.parse(JSON.stringify(conversation))).messages[1].state, "stopped");
});

test("a title is the first line of the first question, and short", () => {
  const conversation = newConversation();
  assert.equal(titleOf(conversation), "New conversation");
  ask(conversation, `  ${"long ".repeat(30)}\nsecond`);
  assert.match(titleOf(conversation), /^long .*…$/);
  assert.ok(titleOf(conversation).length <= 60);
});
