/**
 * The audio of a live session that the server may still ask for again, and what of it has been sent.
 *
 * Positions are samples from the first one ever pushed. Audio leaves when it is acknowledged; beyond
 * `maxSamples` the oldest audio that was sent leaves too (a server that finalised nothing for that long heard
 * silence). Audio that was not sent never leaves.
 */
export class ReplayBuffer {
  #pieces = [];
  #next = 0;
  #flushes = [];
  #maxSamples;

  constructor(maxSamples) {
    this.#maxSamples = maxSamples;
    /** First sample that is still held. */
    this.start = 0;
    /** First sample that has not been sent on the present connection. */
    this.sent = 0;
    /** One past the last sample pushed. */
    this.end = 0;
  }

  get unsentSamples() {
    return this.end - this.sent;
  }

  get hasUnsent() {
    return this.end > this.sent || this.#flushes.some((flush) => !flush.sent);
  }

  /** Keep a copy of `samples` (Int16Array). False where there is no room without losing unsent audio. */
  push(samples) {
    if (samples.length === 0) return true;
    if (this.end - this.start + samples.length > this.#maxSamples) {
      this.#release(Math.min(this.sent, this.end + samples.length - this.#maxSamples));
      if (this.end - this.start + samples.length > this.#maxSamples) return false;
    }
    this.#pieces.push({ start: this.end, samples: samples.slice() });
    this.end += samples.length;
    return true;
  }

  /** Ask for a flush after everything pushed so far. */
  flush() {
    const last = this.#flushes.at(-1);
    if (last === undefined || last.at !== this.end || last.sent) {
      this.#flushes.push({ at: this.end, sent: false });
    }
  }

  /** What goes out next: `{samples}`, `{flush: true}` or null; it counts as sent. */
  next(maxSamples) {
    const flush = this.#flushes.find((candidate) => !candidate.sent);
    if (flush !== undefined && flush.at <= this.sent) {
      flush.sent = true;
      return { flush: true };
    }
    if (this.sent >= this.end) return null;
    while (this.#pieces[this.#next].start + this.#pieces[this.#next].samples.length <= this.sent) this.#next += 1;
    const piece = this.#pieces[this.#next];
    const from = this.sent - piece.start;
    let to = Math.min(piece.samples.length, from + maxSamples);
    if (flush !== undefined) to = Math.min(to, flush.at - piece.start);
    this.sent = piece.start + to;
    return { samples: piece.samples.subarray(from, to) };
  }

  /** The server will not ask for anything before `position`. */
  acknowledge(position) {
    this.#release(Math.min(position, this.sent));
    this.#flushes = this.#flushes.filter((flush) => !flush.sent || flush.at > position);
  }

  /** Send again from `position`; returns where it can begin, which is later where audio has left. */
  rewind(position) {
    this.sent = Math.min(Math.max(position, this.start), this.end);
    this.#next = 0;
    for (const flush of this.#flushes) flush.sent = flush.at < this.sent;
    return this.sent;
  }

  clear() {
    this.#pieces = [];
    this.#flushes = [];
    this.#next = 0;
    this.start = this.sent = this.end;
  }

  #release(position) {
    const released = Math.min(position, this.end);
    if (released <= this.start) return;
    const kept = this.#pieces.findIndex((piece) => piece.start + piece.samples.length > released);
    const count = kept < 0 ? this.#pieces.length : kept;
    this.#pieces.splice(0, count);
    this.#next = Math.max(0, this.#next - count);
    this.start = released;
    const first = this.#pieces[0];
    if (first !== undefined && first.start < released) {
      this.#pieces[0] = { start: released, samples: first.samples.subarray(released - first.start) };
    }
  }
}
