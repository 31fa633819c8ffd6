const SAMPLES_PER_MS = 16;
const BLOCK_SAMPLES = 60_000 * SAMPLES_PER_MS;

/**
 * The newest sound of this page, 16 kHz, in its memory and nowhere else: what a click on a word plays.
 *
 * Times are the transcript's. A minute takes 1.9 MB; beyond `MAX_MINUTES` the oldest minute goes.
 */
export class SoundArchive {
  static MAX_MINUTES = 30;

  #blocks = []; // a minute each
  #numGone = 0; // blocks that were given up
  #end = 0; // samples, those given up among them

  get startMs() {
    return (this.#numGone * BLOCK_SAMPLES) / SAMPLES_PER_MS;
  }

  get endMs() {
    return this.#end / SAMPLES_PER_MS;
  }

  /** The next sound belongs to `ms`; what is behind it is overwritten. */
  continueAt(ms) {
    this.#end = Math.max(this.#numGone * BLOCK_SAMPLES, Math.min(this.#end, Math.round(ms * SAMPLES_PER_MS)));
  }

  /** Keep a copy of Int16Array samples. */
  push(samples) {
    for (let from = 0; from < samples.length; ) {
      const at = this.#end % BLOCK_SAMPLES;
      const piece = samples.subarray(from, from + BLOCK_SAMPLES - at);
      this.#block(Math.floor(this.#end / BLOCK_SAMPLES)).set(piece, at);
      this.#end += piece.length;
      from += piece.length;
    }
  }

  #block(number) {
    if (number - this.#numGone === this.#blocks.length) {
      if (this.#blocks.length === SoundArchive.MAX_MINUTES) {
        this.#blocks.push(this.#blocks.shift()); // its memory is used again
        this.#numGone += 1;
      } else {
        this.#blocks.push(new Int16Array(BLOCK_SAMPLES));
      }
    }
    return this.#blocks[number - this.#numGone];
  }

  /** Up to `lengthMs` of sound from `ms` on, as far as it is kept; null where it is not. */
  slice(ms, lengthMs) {
    const start = Math.round(ms * SAMPLES_PER_MS);
    const end = Math.min(start + Math.round(lengthMs * SAMPLES_PER_MS), this.#end);
    if (start < this.#numGone * BLOCK_SAMPLES || end <= start) return null;
    const samples = new Int16Array(end - start);
    for (let at = start; at < end; ) {
      const block = this.#blocks[Math.floor(at / BLOCK_SAMPLES) - this.#numGone];
      const piece = block.subarray(at % BLOCK_SAMPLES, (at % BLOCK_SAMPLES) + end - at);
      samples.set(piece, at - start);
      at += piece.length;
    }
    return samples;
  }

  clear() {
    this.#blocks = [];
    this.#numGone = this.#end = 0;
  }
}
