/**
 * The audio thread's part: out come, at any rate of the microphone, chunks of 16 kHz mono PCM16.
 *
 * This file stands alone, without imports: bundlers copy a worklet as it is.
 */

const OUTPUT_RATE_HZ = 16000;
const ZERO_CROSSINGS = 16;
const PASSBAND = 0.92; // of the lower Nyquist frequency; the rest is the filter's slope
const KAISER_BETA = 8; // about 80 dB of stop band

/**
 * Streaming resampler: a Kaiser-windowed sinc, evaluated at the exact position of every output sample
 * (J. O. Smith, "Digital Audio Resampling"). However the input is cut into blocks, the output is the same.
 */
export class Resampler {
  constructor(inputRateHz, outputRateHz = OUTPUT_RATE_HZ) {
    const divisor = greatestCommonDivisor(inputRateHz, outputRateHz);
    this.step = inputRateHz / divisor; // input advances by step / phases samples per output sample
    this.phases = outputRateHz / divisor;
    this.cutoff = PASSBAND * Math.min(1, outputRateHz / inputRateHz);
    this.half = Math.ceil(ZERO_CROSSINGS / this.cutoff);
    this.taps = new Array(this.phases); // rows of 2 * half coefficients, made when first needed
    this.held = new Float32Array(this.half - 1); // the first output sample sits on the first input sample
    this.position = 0; // of the next output sample behind held[half - 1], in 1 / phases input samples
  }

  /** Float32Array in, Float32Array out. */
  push(block) {
    if (this.step === this.phases) return block.slice();
    const input = new Float32Array(this.held.length + block.length);
    input.set(this.held);
    input.set(block, this.held.length);
    const width = 2 * this.half;
    const output = new Float32Array(Math.ceil((block.length * this.phases) / this.step) + 1);
    let count = 0;
    let start = Math.floor(this.position / this.phases);
    while (start + width <= input.length) {
      const row = this.#row(this.position % this.phases);
      let sum = 0;
      for (let tap = 0; tap < width; tap += 1) sum += input[start + tap] * row[tap];
      output[count] = sum;
      count += 1;
      this.position += this.step;
      start = Math.floor(this.position / this.phases);
    }
    const used = Math.min(start, input.length);
    this.held = input.slice(used);
    this.position -= used * this.phases;
    return output.subarray(0, count);
  }

  /** What the filter still holds back, as if silence followed. */
  finish() {
    return this.step === this.phases ? new Float32Array(0) : this.push(new Float32Array(this.half));
  }

  #row(phase) {
    this.taps[phase] ??= kernel(this.half, this.cutoff, phase / this.phases);
    return this.taps[phase];
  }
}

/** Coefficients for an output sample `fraction` of an input sample behind tap `half - 1`; they sum to one. */
function kernel(half, cutoff, fraction) {
  const row = new Float32Array(2 * half);
  let sum = 0;
  for (let tap = 0; tap < row.length; tap += 1) {
    const distance = tap - (half - 1) - fraction;
    const angle = Math.PI * cutoff * distance;
    const sinc = angle === 0 ? 1 : Math.sin(angle) / angle;
    const edge = Math.max(0, 1 - (distance / half) ** 2);
    row[tap] = sinc * besselI0(KAISER_BETA * Math.sqrt(edge));
    sum += row[tap];
  }
  return row.map((value) => value / sum);
}

function besselI0(x) {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > sum * 1e-9; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** Collects floats in [-1, 1] into Int16Array chunks of `chunkSamples`. */
export class Pcm16Chunker {
  constructor(chunkSamples, emit) {
    this.chunkSamples = chunkSamples;
    this.emit = emit;
    this.chunk = new Int16Array(chunkSamples);
    this.filled = 0;
  }

  push(samples) {
    for (const sample of samples) {
      this.chunk[this.filled] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
      this.filled += 1;
      if (this.filled === this.chunkSamples) this.finish();
    }
  }

  /** Emit what there is of a chunk. */
  finish() {
    if (this.filled === 0) return;
    const chunk = this.chunk.slice(0, this.filled);
    this.filled = 0;
    this.emit(chunk);
  }
}

/** The channels of one input, averaged. */
export function mono(channels) {
  if (channels.length === 1) return channels[0];
  const mixed = new Float32Array(channels[0].length);
  for (const channel of channels) {
    for (let index = 0; index < mixed.length; index += 1) mixed[index] += channel[index] / channels.length;
  }
  return mixed;
}

const Base = globalThis.AudioWorkletProcessor ?? class {}; // outside the audio thread only the parts are used

/** Posts Int16Array chunks; on the message "stop" the last samples, then "stopped". */
class PcmCapture extends Base {
  constructor({ processorOptions }) {
    super();
    this.stopped = false;
    this.resampler = new Resampler(globalThis.sampleRate);
    const chunkSamples = Math.round((processorOptions.chunkMs * OUTPUT_RATE_HZ) / 1000);
    const post = (chunk) => this.port.postMessage(chunk, [chunk.buffer]);
    this.chunker = new Pcm16Chunker(chunkSamples, post);
    this.port.onmessage = ({ data }) => data === "stop" && this.stop();
  }

  process([channels]) {
    if (this.stopped) return false;
    if (channels.length > 0) this.chunker.push(this.resampler.push(mono(channels)));
    return true;
  }

  stop() {
    if (this.stopped) return;
    this.stopped = true;
    this.chunker.push(this.resampler.finish());
    this.chunker.finish();
    this.port.postMessage("stopped");
  }
}

if (typeof globalThis.registerProcessor === "function") globalThis.registerProcessor("sotto-pcm-capture", PcmCapture);
