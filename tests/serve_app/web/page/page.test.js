import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { toJson, toSrt, toText, toVtt } from "./downloads.js";
import { HeardTimes, levelDb } from "./lags.js";
import { RecordingSource } from "./sources.js";
import { pickLanguage, TEXTS, textIn } from "./texts.js";
import { Transcript } from "./transcript.js";

const final = (segmentId, text, startMs, endMs, more = {}) => ({
  segmentId,
  text,
  startMs,
  endMs,
  speaker: null,
  language: "en",
  confidence: 0.9,
  words: [{ word: "x", start: startMs / 1000, end: endMs / 1000, probability: 1 }],
  ...more,
});

test("a second session's times go on where the first one's text ended", () => {
  const transcript = new Transcript();
  transcript.add(final("seg-0000", "One.", 100, 2_000));
  const entry = transcript.add(final("seg-0000", "Two.", 500, 900), transcript.endMs);
  assert.deepEqual([entry.startMs, entry.endMs], [2_500, 2_900]);
  assert.deepEqual([entry.words[0].start, entry.words[0].end], [2.5, 2.9]);
});

test("a final without text leaves nothing behind", () => {
  const transcript = new Transcript();
  assert.equal(transcript.add(final("seg-0000", " ", 0, 100)), null);
  assert.deepEqual(transcript.entries, []);
});

test("a revision names the newest segment of its id, and its words where all are named", () => {
  const transcript = new Transcript();
  const old = transcript.add(final("seg-0000", "One.", 0, 100));
  const entry = transcript.add(final("seg-0000", "Two.", 0, 100), 100);
  assert.equal(transcript.revise({ segmentId: "seg-0000", speaker: "SPEAKER_01", words: ["SPEAKER_01"] }), entry);
  assert.equal(entry.words[0].speaker, "SPEAKER_01");
  assert.equal(old.speaker, null);
  transcript.revise({ segmentId: "seg-0000", speaker: "SPEAKER_02", words: ["SPEAKER_02", "SPEAKER_02"] });
  assert.deepEqual([entry.speaker, entry.words[0].speaker], ["SPEAKER_02", "SPEAKER_01"]);
  assert.equal(transcript.revise({ segmentId: "seg-0007", speaker: "SPEAKER_01", words: null }), null);
});

test("speakers are numbered as they are first heard", () => {
  const transcript = new Transcript();
  const labels = ["SPEAKER_04", null, "SPEAKER_01", "SPEAKER_04"];
  assert.deepEqual(labels.map((label) => transcript.speakerNumber(label)), [0, null, 1, 0]);
});

const entries = [
  { ...final("a", "Is 1 < 2 & so on?", 0, 1_499.6), speaker: "SPEAKER_01" },
  final("b", "Yes.", 3_661_001, 3_662_000),
];

test("text has a line for each final", () => {
  assert.equal(toText(entries), "SPEAKER_01: Is 1 < 2 & so on?\nYes.\n");
});

test("SubRip", () => {
  assert.equal(
    toSrt(entries),
    "1\n00:00:00,000 --> 00:00:01,500\nSPEAKER_01: Is 1 < 2 & so on?\n\n2\n01:01:01,001 --> 01:01:02,000\nYes.\n",
  );
});

test("WebVTT: words that look like tags are text", () => {
  assert.equal(
    toVtt(entries),
    "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\n<v SPEAKER_01>Is 1 &lt; 2 &amp; so on?\n\n" +
      "01:01:01.001 --> 01:01:02.000\nYes.\n",
  );
});

test("JSON has seconds, speakers and words", () => {
  const { text, segments } = JSON.parse(toJson(entries));
  assert.equal(text, "Is 1 < 2 & so on? Yes.");
  assert.equal(segments[1].start, 3661.001);
  assert.equal(segments[0].speaker, "SPEAKER_01");
  assert.equal(segments[0].words.length, 1);
});

test("a text's delay counts from when its last sound was heard", () => {
  const heard = new HeardTimes();
  assert.equal(heard.lagMs(0, 5), null);
  for (let index = 1; index <= 25_000; index += 1) heard.heard(80 * index, 1_000 + 80 * index);
  const end = 80 * 25_000;
  assert.equal(heard.lagMs(end, 1_000 + end + 30), 30);
  assert.equal(heard.lagMs(end - 100, 1_000 + end), 80);
  assert.equal(heard.lagMs(end + 40, 1_000 + end), 0);
});

test("loudness", () => {
  assert.equal(levelDb(new Int16Array(100)), -90);
  assert.ok(Math.abs(levelDb(new Int16Array(100).fill(16_384)) + 6.02) < 0.01);
});

test("a recording plays at the pace of speech, and makes up for late timers", async () => {
  let now = 0;
  const waits = [];
  const wait = (ms) => {
    waits.push(ms);
    now += Math.max(0, ms) + 50;
  };
  const heard = [];
  const source = new RecordingSource([1, 2, 3], { now: () => now, wait });
  await source.start((chunk) => heard.push(chunk));
  await source.ended;
  assert.deepEqual(heard, [1, 2, 3]);
  assert.deepEqual(waits, [80, 30, 30]);
});

test("a recording that is stopped is heard no further", async () => {
  const heard = [];
  const source = new RecordingSource([1, 2, 3], { room: async () => heard.length === 1 && source.stop() });
  await source.start((chunk) => heard.push(chunk));
  await source.ended;
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(heard, [1]);
});

test("every language has every text, with the same values", () => {
  const values = (text) => [...text.matchAll(/\{\w+\}/g)].join();
  for (const texts of Object.values(TEXTS)) {
    assert.deepEqual(Object.keys(texts), Object.keys(TEXTS.en));
    for (const [key, text] of Object.entries(texts)) assert.equal(values(text), values(TEXTS.en[key]));
  }
  assert.equal(textIn("de", "late", { seconds: "3.0" }), "Verspätet: Der Text liegt 3.0 s zurück.");
});

test("every text that the page asks for exists, and none is left over", () => {
  const sources = ["index.html", "main.js", "view.js", "listening.js"].map((name) => readFileSync(name, "utf8")).join();
  for (const [, key] of sources.matchAll(/data-text="(\w+)"/g)) assert.ok(Object.hasOwn(TEXTS.en, key), key);
  const levels = ["normal", "high", "critical"]; // as the server names them
  for (const key of Object.keys(TEXTS.en)) assert.ok(levels.includes(key) || sources.includes(`"${key}"`), key);
});

test("the interface speaks the first of the reader's languages that it knows", () => {
  assert.equal(pickLanguage(["it-IT", "de-AT", "fr"]), "de");
  assert.equal(pickLanguage(["constructor", "pt-BR"]), "pt");
  assert.equal(pickLanguage([]), "en");
});
