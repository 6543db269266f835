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
  const thinking = {};
  assert.deepEqual(applyChunk(answer, { choices: [], queue: { position: 2 } }, thinking, 0), { queue: 2 });
  assert.deepEqual(applyChunk(answer, delta({ role: "assistant" }), thinking, 10), {});
  assert.deepEqual(applyChunk(answer, delta({ reasoning_content: "hm" }), thinking, 1000), { reasoning: true });
  assert.deepEqual(applyChunk(answer, delta({ reasoning_content: "m" }), thinking, 2000), { reasoning: true });
  assert.deepEqual(applyChunk(answer, delta({ content: "So" }), thinking, 4000), { content: true });
  applyChunk(answer, { choices: [{ delta: {}, finish_reason: "length" }], timings: { predicted_n: 3 } }, thinking, 5000);
  finish(answer, "done", thinking, 6000);
  assert.deepEqual(answer, {
    role: "assistant", state: "done", content: "So", reasoning: "hmm", thoughtMs: 3000, timings: { predicted_n: 3 },
    finish: "length", error: null,
  });
});

test("stopping in the middle of a thought ends the thought", () => {
  const answer = ask(newConversation(), "why?");
  const thinking = {};
  applyChunk(answer, delta({ reasoning_content: "hm" }), thinking, 1000);
  finish(answer, "stopped", thinking, 2500);
  assert.equal(answer.thoughtMs, 1500);
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
  finish(ask(conversation, "a"), "error", {}, 0, "no");
  ask(conversation, "b");
  assert.deepEqual(messagesToSend(conversation, ""), [{ role: "user", content: "a\n\nb" }]);
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
