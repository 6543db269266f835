import assert from "node:assert/strict";
import { test } from "node:test";

import { SseParser, sseEvents } from "../assets/js/sse.js";

const STREAM = ": hello\r\nevent: state\r\ndata: {\"é\":\"数\"}\r\n\r\ndata:a\ndata: b\n\ndata: c\r\rid: 7\n\ndata: [DONE]\n\n";
const EVENTS = [
  { event: "state", data: "{\"é\":\"数\"}" },
  { event: "message", data: "a\nb" },
  { event: "message", data: "c" },
  { event: "message", data: "[DONE]" },
];

function streamOf(chunks) {
  return new ReadableStream({
    start(controller) {
      chunks.forEach((chunk) => controller.enqueue(chunk));
      controller.close();
    },
  });
}

async function collect(stream) {
  const events = [];
  for await (const event of sseEvents(stream)) events.push(event);
  return events;
}

test("a whole stream gives its events", () => {
  assert.deepEqual(new SseParser().push(STREAM), EVENTS);
});

test("a stream cut at any byte, inside characters and line ends too, gives the same events", async () => {
  const bytes = new TextEncoder().encode(STREAM);
  for (let cut = 0; cut <= bytes.length; cut++) {
    assert.deepEqual(await collect(streamOf([bytes.slice(0, cut), bytes.slice(cut)])), EVENTS, `cut at ${cut}`);
  }
  assert.deepEqual(await collect(streamOf([...bytes].map((byte) => Uint8Array.of(byte)))), EVENTS);
});

test("an event without its blank line has not happened", () => {
  assert.deepEqual(new SseParser().push("data: half\n"), []);
});

test("leaving the loop closes the stream", async () => {
  let closed = false;
  const stream = new ReadableStream({
    pull: (controller) => controller.enqueue(new TextEncoder().encode("data: x\n\n")),
    cancel: () => (closed = true),
  });
  for await (const event of sseEvents(stream)) {
    assert.equal(event.data, "x");
    break;
  }
  assert.ok(closed);
});
