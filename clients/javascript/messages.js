/** The server's messages as events: field names in camel case, times counted from the caller's first sample. */

import { SAMPLES_PER_MS, SAMPLE_RATE_HZ } from "./pcm.js";

/** `baseSamples`: how far into the caller's audio the server's session began. */
export function partialEvent(message, baseSamples) {
  const { stable, unstable } = splitStable(message.text, message.stable_chars ?? 0);
  return {
    type: "partial",
    segmentId: message.segment_id,
    text: message.text,
    stable,
    unstable,
    confidence: message.confidence,
    language: message.language ?? "",
    startMs: shifted(message.start_ms, baseSamples),
    endMs: shifted(message.end_ms, baseSamples),
    timing: message.timing ?? {},
  };
}

export function finalEvent(message, baseSamples) {
  const offsetS = baseSamples / SAMPLE_RATE_HZ;
  return {
    type: "final",
    segmentId: message.segment_id,
    text: message.text,
    speaker: message.speaker ?? null,
    confidence: message.confidence,
    words: (message.words ?? []).map((word) => ({ ...word, start: word.start + offsetS, end: word.end + offsetS })),
    language: message.language ?? "",
    languageProbability: message.language_probability ?? null,
    startMs: shifted(message.start_ms, baseSamples),
    endMs: shifted(message.end_ms, baseSamples),
    endpointMs: message.endpoint_ms == null ? null : shifted(message.endpoint_ms, baseSamples),
    audioDurationMs: message.audio_duration_ms,
    doubted: message.doubted ?? null,
    withheld: message.withheld ?? null,
    timing: message.timing ?? {},
  };
}

/** Who spoke the final of a segment, as it is known now; `words`: the speaker of each of its words. */
export function speakerEvent(message, baseSamples) {
  return {
    type: "speaker",
    segmentId: message.segment_id,
    speaker: message.speaker ?? null,
    words: message.words ?? null,
    startMs: shifted(message.start_ms, baseSamples),
    endMs: shifted(message.end_ms, baseSamples),
  };
}

export function vadEvent(message, baseSamples) {
  return { type: "vad", state: message.state, tMs: shifted(message.t_ms, baseSamples) };
}

/** The client's sound is bad: too quiet, clipped. */
export function warningEvent(message, baseSamples) {
  return { type: "warning", kind: message.kind, tMs: shifted(message.t_ms, baseSamples), value: message.value };
}

/** How sure the server is of speech, where `config` asked to be told. */
export function speechEvent(message, baseSamples) {
  return { type: "speech", tMs: shifted(message.t_ms, baseSamples), probability: message.probability };
}

export function loadEvent(message) {
  return { type: "load", level: message.level, rung: message.rung, interimsPaused: message.interims_paused };
}

/** `stableChars` counts code points, where a JavaScript string counts UTF-16 units. */
export function splitStable(text, stableChars) {
  let units = 0;
  let count = 0;
  for (const character of text) {
    if (count >= stableChars) break;
    units += character.length;
    count += 1;
  }
  return { stable: text.slice(0, units), unstable: text.slice(units) };
}

function shifted(ms, baseSamples) {
  return (ms ?? 0) + baseSamples / SAMPLES_PER_MS;
}
