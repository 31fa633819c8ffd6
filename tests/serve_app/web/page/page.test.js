import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { SoundArchive } from "./archive.js";
import { toJson, toSrt, toText, toVtt } from "./downloads.js";
import { HeardTimes, levelDb } from "./lags.js";
import { OggOpus } from "./ogg.js";
import { RecordingSource } from "./sources.js";
import { pickLanguage, TEXTS, textIn } from "./texts.js";
import { Transcript } from "./transcript.js";
import { clock, doubtOf, piecesOf } from "./words.js";

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

test("a speaker is renamed everywhere, and has its label again without a name", () => {
  const transcript = new Transcript();
  const word = { word: "x", start: 0, end: 1, probability: 1, speaker: "SPEAKER_01" };
  transcript.add(final("a", "One.", 0, 100, { speaker: "SPEAKER_01", words: [word] }));
  transcript.add(final("b", "Two.", 0, 100));
  const number = transcript.speakerNumber("SPEAKER_01");
  assert.equal(transcript.rename(number, "  Ana "), "SPEAKER_01");
  assert.equal(transcript.nameOf("SPEAKER_01"), "Ana");
  assert.equal(transcript.speakerNumber("SPEAKER_01"), number);
  const [one, two] = transcript.named();
  assert.deepEqual([one.speaker, one.words[0].speaker, two.speaker], ["Ana", "Ana", null]);
  assert.equal(transcript.entries[0].speaker, "SPEAKER_01");
  transcript.rename(number, " ");
  assert.equal(transcript.named()[0].speaker, "SPEAKER_01");
});

test("words are found in the text as it is written", () => {
  const words = ["It", "is", "twenty", "it", ""].map((word) => ({ word }));
  const pieces = piecesOf("It is 20 – is it?", words);
  assert.equal(pieces.map(({ text }) => text).join(""), "It is 20 – is it?");
  assert.deepEqual(pieces.filter(({ word }) => word !== null).map(({ word }) => word), [words[0], words[1], words[3]]);
  assert.deepEqual(piecesOf("Olá.", []), [{ text: "Olá.", word: null }]);
});

test("times as a clock, doubts as classes", () => {
  assert.deepEqual([0, 62.34, 3_599.96, 3_661].map(clock), ["0:00.0", "1:02.3", "1:00:00.0", "1:01:01.0"]);
  assert.deepEqual([0.1, 0.5, 0.9].map((probability) => doubtOf({ probability })), ["doubtful", "unsure", ""]);
});

test("sound is kept up to a number of minutes, and no more memory is taken", () => {
  const archive = new SoundArchive();
  const second = (value) => new Int16Array(16_000).fill(value);
  const numSeconds = 60 * SoundArchive.MAX_MINUTES + 90;
  for (let number = 0; number < numSeconds; number += 1) archive.push(second(number));
  assert.equal(archive.endMs, 1_000 * numSeconds);
  assert.equal(archive.startMs, 120_000);
  assert.equal(archive.slice(119_999, 10), null);
  assert.deepEqual([...archive.slice(179_999, 2)], [...Array(16).fill(179), ...Array(16).fill(180)]);
  assert.equal(archive.slice(1_000 * (numSeconds - 1), 5_000).length, 16_000);
  assert.equal(archive.slice(1_000 * numSeconds, 1), null);
});

test("the sound of another session goes on where the text ended", () => {
  const archive = new SoundArchive();
  archive.push(new Int16Array(32_000).fill(1));
  archive.continueAt(1_000);
  archive.push(new Int16Array(16).fill(2));
  assert.equal(archive.endMs, 1_001);
  assert.deepEqual([...archive.slice(999, 10)], [...Array(16).fill(1), ...Array(16).fill(2)]);
  archive.continueAt(5_000); // no text can end where no sound was
  assert.equal(archive.endMs, 1_001);
  archive.clear();
  assert.equal(archive.slice(0, 1), null);
});

test("an Ogg page has the checksum that others compute", () => {
  const container = new OggOpus();
  const pages = container.pages(new Uint8Array(255).fill(7), 40_000);
  const text = Buffer.from(pages).toString("latin1");
  assert.deepEqual([...text.matchAll(/OggS/g)].map(({ index }) => index), [0, 47, 96]);
  assert.equal(Buffer.from(pages).readUInt32LE(22), 0x8ae9366f);
  assert.deepEqual([pages[96 + 26], pages[96 + 27], pages[96 + 28]], [2, 255, 0]);
  assert.equal(Buffer.from(pages).readUInt32LE(96 + 6), 1_920);
  assert.equal(container.pages(new Uint8Array(1), 40_000).length, 29);
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
