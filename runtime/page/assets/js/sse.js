// Server-sent events out of a byte stream.
//
// In: bytes, cut anywhere, also inside a character or a line end. Out: one {event, data} for each event, as
// the HTML standard reads them. It must never lose or double an event at a cut.

/** Collects text into events. `push` returns the events that the text completed. */
export class SseParser {
  #line = "";
  #afterReturn = false;
  #event = "";
  #data = [];

  push(text) {
    const events = [];
    // A line feed that follows a carriage return of the text before belongs to it.
    if (this.#afterReturn && text.startsWith("\n")) text = text.slice(1);
    if (text) this.#afterReturn = text.endsWith("\r");
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = this.#line + lines[0];
    this.#line = lines.pop();
    for (const line of lines) {
      const event = this.#take(line);
      if (event) events.push(event);
    }
    return events;
  }

  #take(line) {
    if (line === "") {
      const event = this.#data.length ? { event: this.#event || "message", data: this.#data.join("\n") } : null;
      this.#event = "";
      this.#data = [];
      return event;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    if (field === "event") this.#event = value;
    return null;
  }
}

/** The events of a ReadableStream of bytes. Leaving the loop early closes the stream. */
export async function* sseEvents(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  const parser = new SseParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
