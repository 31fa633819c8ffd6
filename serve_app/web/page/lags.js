const MAX_CHUNKS = 10_000; // 800 s of chunks, more than a session holds for another connection

/** When each moment of the sound was heard, so that a text's delay can be told from where its sound ends. */
export class HeardTimes {
  #ends = new Float64Array(MAX_CHUNKS);
  #times = new Float64Array(MAX_CHUNKS);
  #length = 0;

  /** Sound up to `endMs` of the session was heard by `nowMs` of the page's clock. */
  heard(endMs, nowMs) {
    if (this.#length === MAX_CHUNKS) {
      this.#length = MAX_CHUNKS / 2;
      for (const values of [this.#ends, this.#times]) values.copyWithin(0, MAX_CHUNKS / 2);
    }
    this.#ends[this.#length] = endMs;
    this.#times[this.#length] = nowMs;
    this.#length += 1;
  }

  /** Milliseconds since the sound at `positionMs` was heard; null where that is not known. */
  lagMs(positionMs, nowMs) {
    let low = 0;
    let high = this.#length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends[middle] < positionMs) low = middle + 1;
      else high = middle;
    }
    // the server may count a text's end up to a chunk beyond what it was sent
    const index = Math.min(low, this.#length - 1);
    return index < 0 ? null : nowMs - this.#times[index];
  }
}

/** Loudness of 16-bit samples in decibels below full scale, -90 for silence. */
export function levelDb(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  const rms = Math.sqrt(sum / Math.max(1, samples.length)) / 32768;
  return Math.max(-90, 20 * Math.log10(rms || 1e-9));
}
