/** A WebSocket whose other side is the test: what it took lies in `sent`, and nothing happens by itself. */
export class FakeSocket {
  static opened = [];

  static get last() {
    return FakeSocket.opened.at(-1);
  }

  constructor(url, protocols) {
    Object.assign(this, { url, protocols, sent: [], bufferedAmount: 0, readyState: 0, closedWith: null });
    FakeSocket.opened.push(this);
  }

  send(data) {
    this.sent.push(typeof data === "string" ? JSON.parse(data) : data.slice());
  }

  close(code) {
    this.readyState = 3;
    this.closedWith = code;
  }

  // the server's side

  open() {
    this.readyState = 1;
    this.onopen({});
  }

  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }

  /** Open, take `start_session` and answer it. */
  accept(fields = {}) {
    this.open();
    this.say({ type: "session_started", session_id: "s1", ...fields });
  }

  drop(code = 1006) {
    this.readyState = 3;
    this.onclose({ code, reason: "" });
  }

  get audio() {
    const chunks = this.sent.filter((frame) => frame instanceof Int16Array);
    return chunks.flatMap((chunk) => [...chunk]);
  }

  /** Frames in order: numbers of samples, or the types of commands. */
  get frames() {
    return this.sent.map((frame) => (frame instanceof Int16Array ? frame.length : frame.type));
  }
}

export function finalMessage(text, startMs, endMs, fields = {}) {
  return {
    type: "final_transcript",
    session_id: "s1",
    segment_id: "seg-0000",
    text,
    confidence: 0.9,
    is_final: true,
    words: [{ word: "hello", start: startMs / 1000, end: endMs / 1000, probability: 0.8 }],
    audio_duration_ms: endMs - startMs,
    language: "en",
    language_probability: 0.99,
    start_ms: startMs,
    end_ms: endMs,
    endpoint_ms: endMs,
    timing: {},
    ...fields,
  };
}

/** Samples whose values tell their position, modulo 2^15. */
export function counting(from, count) {
  return Int16Array.from({ length: count }, (_, index) => (from + index) % 32768);
}
