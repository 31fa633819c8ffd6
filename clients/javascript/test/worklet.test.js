import assert from "node:assert/strict";
import { test } from "node:test";

import { mono, Pcm16Chunker, Resampler } from "../pcm-worklet.js";

function tone(frequencyHz, rateHz, seconds = 0.5) {
  return Float32Array.from({ length: rateHz * seconds }, (_, n) => Math.sin((2 * Math.PI * frequencyHz * n) / rateHz));
}

/** The root mean square of the middle, where the filter has settled. */
function level(samples) {
  const middle = samples.subarray(samples.length >> 2, (3 * samples.length) >> 2);
  return Math.sqrt(middle.reduce((sum, value) => sum + value * value, 0) / middle.length);
}

const decibels = (ratio) => 20 * Math.log10(ratio);

for (const rateHz of [8000, 22050, 44100, 48000, 96000]) {
  test(`${rateHz} Hz: speech stays as it is, sample by sample`, () => {
    const output = new Resampler(rateHz).push(tone(1000, rateHz));
    const wanted = tone(1000, 16000);
    for (let n = 200; n < 6000; n += 1) assert.ok(Math.abs(output[n] - wanted[n]) < 2e-3, `sample ${n}`);
  });
}

for (const [frequencyHz, rateHz] of [[9500, 44100], [12000, 48000], [20000, 48000], [15000, 96000]]) {
  test(`${frequencyHz} Hz at ${rateHz} Hz does not fold into speech`, () => {
    const output = new Resampler(rateHz).push(tone(frequencyHz, rateHz));
    assert.ok(decibels(level(output) / Math.SQRT1_2) < -65, `${decibels(level(output))} dB`);
  });
}

test("however the input is cut, the output is the same", () => {
  const input = tone(440, 44100, 0.2);
  const whole = new Resampler(44100).push(input);
  const resampler = new Resampler(44100);
  const pieces = [];
  for (let at = 0, size = 1; at < input.length; at += size, size = (size * 7) % 131 || 1) {
    pieces.push(...resampler.push(input.subarray(at, at + size)));
  }
  assert.deepEqual(pieces, [...whole]);
});

test("the last samples come with finish, and the length is kept", () => {
  const resampler = new Resampler(48000);
  const num = resampler.push(tone(300, 48000, 1)).length + resampler.finish().length;
  assert.equal(num, 16000);
});

test("16 kHz passes as it is", () => {
  const input = tone(440, 16000, 0.01);
  const resampler = new Resampler(16000);
  assert.deepEqual(resampler.push(input), input);
  assert.equal(resampler.finish().length, 0);
});

test("chunks are full, clipped, and the rest comes at the end", () => {
  const chunks = [];
  const chunker = new Pcm16Chunker(4, (chunk) => chunks.push([...chunk]));
  chunker.push(Float32Array.of(0, 1, -1, 2, -2, 0.5));
  assert.deepEqual(chunks, [[0, 32767, -32767, 32767]]);
  chunker.finish();
  chunker.finish();
  assert.deepEqual(chunks[1], [-32767, 16384]);
  assert.equal(chunks.length, 2);
});

test("channels are averaged", () => {
  assert.deepEqual([...mono([Float32Array.of(1, 0), Float32Array.of(0, 1)])], [0.5, 0.5]);
});
