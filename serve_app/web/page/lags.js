const MAX_CHUNKS = 10_000; // 800 s of chunks, more than a session holds for another connection

/** When each moment of the sound was heard, so that a text's delay can be told from where its sound ends. */
export class HeardTimes {
  #ends = [];
  #times = [];

  /** Sound up to `endMs` of the session was heard by `nowMs` of the page's clock. */
  heard(endMs, nowMs) {
    this.#ends.push(endMs);
    this.#times.push(nowMs);
    if (this.#ends.length > MAX_CHUNKS) {
      this.#ends.splice(0, MAX_CHUNKS / 2);
      this.#times.splice(0, MAX_CHUNKS / 2);
    }
  }

  /** Milliseconds since the sound at `positionMs` was heard; null where that is not known. */
  lagMs(positionMs, nowMs) {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends[middle] < positionMs) low = middle + 1;
      else high = middle;
    }
    // the server may count a text's end up to a chunk beyond what it was sent
    const index = Math.min(low, this.#ends.length - 1);
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
