import assert from "node:assert/strict";
import { test } from "node:test";

import { Latest } from "../assets/js/latest.js";

/** Work that ends when the test says so: `begun` has the values, `end()` ends the oldest that runs. */
function slowWork() {
  const ends = [];
  const begun = [];
  const work = (value) => {
    begun.push(value);
    return new Promise((resolve) => ends.push(resolve));
  };
  const end = async () => {
    ends.shift()();
    // All that follows from it is microtasks.
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { work, begun, end, get running() { return ends.length; } };
}

test("the last value is done before its promise resolves, and those between are left out", async () => {
  const slow = slowWork();
  const latest = new Latest(slow.work);
  const settled = [];
  for (const text of ["a", "ab", "abc"]) latest.want(text).then(() => settled.push(text));
  assert.deepEqual(slow.begun, ["a"]);
  await slow.end();
  assert.deepEqual(slow.begun, ["a", "abc"]);
  assert.equal(slow.running, 1, "one at a time");
  assert.deepEqual(settled, [], "the newest is not done yet");
  await slow.end();
  assert.deepEqual(settled, ["a", "ab", "abc"]);
});

test("what is wanted after all was done is done, too", async () => {
  const slow = slowWork();
  const latest = new Latest(slow.work);
  const first = latest.want("a");
  await slow.end();
  await first;
  const second = latest.want("b");
  await slow.end();
  await second;
  assert.deepEqual(slow.begun, ["a", "b"]);
});

test("what is wanted in the moment that the work ends is not left out", async () => {
  const begun = [];
  const latest = new Latest(async (value) => {
    begun.push(value);
    // As late as can be while this still runs.
    if (value === "a") queueMicrotask(() => latest.want("b"));
  });
  await latest.want("a");
  await latest.want("c");
  assert.equal(begun.at(-1), "c");
  assert.ok(begun.includes("b"), `${begun}`);
});
