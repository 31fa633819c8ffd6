export const SAMPLE_RATE_HZ = 16000;
export const SAMPLES_PER_MS = SAMPLE_RATE_HZ / 1000;

/** Samples, or their little-endian bytes, as samples. */
export function int16(audio) {
  if (audio instanceof Int16Array) return audio;
  if (audio instanceof ArrayBuffer && audio.byteLength % 2 === 0) return new Int16Array(audio);
  if (audio instanceof Uint8Array && audio.byteLength % 2 === 0) {
    return new Int16Array(audio.slice().buffer); // a view may begin at an odd byte
  }
  throw new TypeError("audio must be an Int16Array, or an even number of bytes");
}
