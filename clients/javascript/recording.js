/** Recorded utterances: from the microphone to a WAV file, and any file to `POST /transcribe`. */
import { httpUrl } from "./address.js";
import { deferred } from "./events.js";
import { Microphone } from "./microphone.js";
import { SAMPLE_RATE_HZ, SAMPLES_PER_MS } from "./pcm.js";

const WAV_HEADER_BYTES = 44;
const MAX_DETAIL_CHARS = 500;
const FIELDS = { language: "language", task: "task", prompt: "prompt", hotwords: "hotwords",
  responseFormat: "response_format", wordTimestamps: "word_timestamps", vadFilter: "vad_filter" };

/** An answer other than 2xx: `status`, the server's `detail`, and when to come back where it said so. */
export class TranscriptionError extends Error {
  constructor(status, detail, retryAfterS = null) {
    super(`The server answered ${status}: ${detail}`);
    this.name = "TranscriptionError";
    this.status = status;
    this.detail = detail;
    this.retryAfterS = retryAfterS;
  }
}

/**
 * Upload a recording (Blob or File) and return the server's answer: an object, or the text itself where
 * `responseFormat` is "text", "srt" or "vtt". Options: see `TranscribeOptions` in sotto.d.ts.
 */
export async function transcribe(url, recording, options = {}) {
  const { fetch = globalThis.fetch, headers = {}, signal, path = "/transcribe" } = options;
  const body = new FormData();
  for (const [name, field] of Object.entries(FIELDS)) {
    if (options[name] !== undefined) body.append(field, String(options[name]));
  }
  body.append("file", recording, options.filename ?? recording.name ?? "utterance.wav");
  const response = await fetch(httpUrl(url, path), { method: "POST", body, headers, signal });
  if (!response.ok) throw await refusal(response);
  const isJson = (response.headers.get("content-type") ?? "").includes("json");
  return isJson ? response.json() : response.text();
}

async function refusal(response) {
  const text = await response.text();
  let detail = text;
  try {
    const fields = JSON.parse(text);
    detail = fields.detail ?? fields.error ?? text;
  } catch {
    // not every proxy in between answers in JSON
  }
  const retryAfter = Number(response.headers.get("retry-after") ?? NaN);
  const shown = (typeof detail === "string" ? detail : JSON.stringify(detail)).slice(0, MAX_DETAIL_CHARS);
  return new TranscriptionError(response.status, shown, Number.isFinite(retryAfter) ? retryAfter : null);
}

/** The microphone until somebody stops it, the speaker falls silent, or `maxSeconds` are full. */
export class UtteranceRecorder {
  #microphone;
  #chunks = [];
  #numSamples = 0;
  #maxSamples;
  #silence;
  #result = deferred();
  #stopping = false;

  /** `stopAfterSilenceMs`: end by itself after that much silence behind speech; see also `Microphone`. */
  constructor({ maxSeconds = 60, stopAfterSilenceMs, microphone, ...options } = {}) {
    this.#microphone = microphone ?? new Microphone(options);
    this.#maxSamples = maxSeconds * SAMPLE_RATE_HZ;
    this.#silence = stopAfterSilenceMs === undefined ? null : new SilenceDetector(stopAfterSilenceMs);
  }

  /** Resolves with the WAV file as a Blob, however the recording is ended. */
  get recording() {
    return this.#result.promise;
  }

  get isStopped() {
    return this.#stopping;
  }

  async start() {
    await this.#microphone.start((samples) => this.#take(samples));
    this.#microphone.ended.then(() => this.stop());
  }

  /** End the recording; resolves with the WAV file as a Blob. */
  async stop() {
    if (!this.#stopping) {
      this.#stopping = true;
      await this.#microphone.stop();
      this.#result.resolve(new Blob([encodeWav(this.#chunks)], { type: "audio/wav" }));
      this.#chunks = [];
    }
    return this.#result.promise;
  }

  #take(samples) {
    const kept = samples.subarray(0, this.#maxSamples - this.#numSamples);
    this.#chunks.push(kept);
    this.#numSamples += kept.length;
    if (this.#numSamples >= this.#maxSamples || this.#silence?.push(kept)) this.stop();
  }
}

/**
 * Record one utterance and post it: `{stop(), state, done}`, where `done` resolves with what `transcribe` answers.
 *
 * Options are those of `UtteranceRecorder` and of `transcribe`; `onState` hears "recording", "transcribing" and, however
 * it ended, "idle". An aborted `signal` ends both, without a text.
 */
export function recordOnce(url, options = {}) {
  const { onState = () => {}, signal } = options;
  const recorder = new UtteranceRecorder({ stopAfterSilenceMs: 800, ...options });
  const once = { state: "idle", stop: () => recorder.stop().then(() => undefined) };
  const enter = (state) => {
    once.state = state;
    onState(state);
  };
  const record = async () => {
    signal?.throwIfAborted();
    signal?.addEventListener("abort", once.stop, { once: true });
    try {
      await recorder.start();
      if (!recorder.isStopped) enter("recording");
      const wav = await recorder.recording;
      signal?.throwIfAborted();
      enter("transcribing");
      return await transcribe(url, wav, options);
    } finally {
      signal?.removeEventListener("abort", once.stop);
      enter("idle");
    }
  };
  once.done = record();
  return once;
}

/** Tells when speech has been followed by silence, by loudness alone. */
export class SilenceDetector {
  #silenceMs;
  #floor = Infinity;
  #loudest = 0;
  #quietMs = 0;

  constructor(silenceMs, { minLevel = 0.008, ratio = 3 } = {}) {
    this.#silenceMs = silenceMs;
    this.minLevel = minLevel; // root mean square of full scale below which nothing is speech
    this.ratio = ratio; // how far above the quietest chunk so far speech is
  }

  /** True once `silenceMs` of silence came behind speech. */
  push(samples) {
    if (samples.length === 0) return false;
    let energy = 0;
    for (const sample of samples) energy += sample * sample;
    const level = Math.sqrt(energy / samples.length) / 32768;
    this.#floor = Math.min(this.#floor, level);
    this.#loudest = Math.max(this.#loudest, level);
    const threshold = Math.max(this.minLevel, this.ratio * this.#floor);
    this.#quietMs = level > threshold ? 0 : this.#quietMs + samples.length / SAMPLES_PER_MS;
    return this.#loudest > threshold && this.#quietMs >= this.#silenceMs;
  }
}

/** 16 kHz mono Int16Arrays to the bytes of a WAV file (an ArrayBuffer). */
export function encodeWav(chunks) {
  const numBytes = 2 * chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const view = new DataView(new ArrayBuffer(WAV_HEADER_BYTES + numBytes));
  const ascii = (at, text) => [...text].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  ascii(0, "RIFF");
  view.setUint32(4, WAV_HEADER_BYTES - 8 + numBytes, true);
  ascii(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, SAMPLE_RATE_HZ, true);
  view.setUint32(28, 2 * SAMPLE_RATE_HZ, true);
  view.setUint16(32, 2, true); // bytes per frame
  view.setUint16(34, 16, true);
  ascii(36, "data");
  view.setUint32(40, numBytes, true);
  let at = WAV_HEADER_BYTES;
  for (const chunk of chunks) {
    for (const sample of chunk) {
      view.setInt16(at, sample, true);
      at += 2;
    }
  }
  return view.buffer;
}
