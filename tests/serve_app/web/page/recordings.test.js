import assert from "node:assert/strict";
import { test } from "node:test";

import { OPERATE_TEXTS } from "./operate_texts.js";
import { Pages } from "./pages.js";
import "./recordings_texts.js";
import { finalsOf } from "./results.js";
import { TEXTS } from "./texts.js";

/** A list of `count` things, newest first, as the server gives it out. */
function listOf(count) {
  const all = Array.from({ length: count }, (_, n) => ({ id: `i${n}`, created_at: `2026-01-01T00:00:${10 + n}` })).reverse();
  const ask = async (query) => {
    const asked = new URLSearchParams(query);
    const start = asked.has("before") ? all.findIndex(({ id }) => id === asked.get("before")) + 1 : 0;
    const items = all.slice(start, start + Number(asked.get("limit")));
    return { items, next: items.length === Number(asked.get("limit")) ? items.at(-1).id : undefined };
  };
  return [all, new Pages(ask, ({ id }) => id)];
}

test("pages are loaded one after the other", async () => {
  const [all, pages] = listOf(45);
  await pages.refresh();
  assert.equal(pages.items.length, 20);
  for (const length of [40, 45]) {
    assert.ok(pages.hasOlder);
    await pages.older();
    assert.equal(pages.items.length, length);
  }
  assert.ok(!pages.hasOlder);
  assert.deepEqual(pages.items, all);
});

test("what is new or gone is so after a look, and older ones stay", async () => {
  const [all, pages] = listOf(30);
  await pages.refresh();
  await pages.older();
  all.unshift({ id: "new", created_at: "2026-01-01T00:01:00" });
  all.splice(3, 1);
  await pages.refresh();
  assert.deepEqual(pages.items, all);
  assert.ok(!pages.hasOlder);
});

test("nothing to be had leaves what was there", async () => {
  const pages = new Pages(async () => null, ({ id }) => id);
  pages.items = [{ id: "a" }];
  await pages.refresh();
  assert.deepEqual(pages.items, [{ id: "a" }]);
});

test("one is changed or taken away by its id", async () => {
  const [, pages] = listOf(3);
  await pages.refresh();
  pages.put("i1", { id: "i1", created_at: "later" });
  pages.put("i2", null);
  assert.deepEqual(pages.items.map(({ id, created_at }) => [id, created_at.slice(-5)]), [["i1", "later"], ["i0", "00:10"]]);
});

test("a result's words go to their segments", () => {
  const word = (start) => ({ word: `w${start}`, start, end: start + 0.5, probability: 1 });
  const result = {
    language: "en",
    segments: [
      { id: 0, text: " One two.", start: 0, end: 1, speaker: "SPEAKER_01", avg_logprob: -0.5 },
      { id: 1, text: "Three.", start: 1.2, end: 2, avg_logprob: null },
    ],
    words: [word(0), word(0.5), word(1.8)],
  };
  const [first, second] = finalsOf(result);
  assert.deepEqual([first.words.length, second.words.length], [2, 1]);
  assert.deepEqual([first.startMs, first.endMs, first.speaker], [0, 1000, "SPEAKER_01"]);
  assert.ok(Math.abs(first.confidence - Math.exp(-0.5)) < 1e-9);
  assert.deepEqual([second.speaker, second.confidence], [null, null]);
});

test("a result of another format is a text without times", () => {
  const [only] = finalsOf("1\n00:00:00,000 --> 00:00:01,000\nHello\n");
  assert.ok(only.text.includes("Hello"));
  assert.deepEqual(only.words, []);
});

test("every language has every text, with the same places to fill", () => {
  const shape = (value) =>
    typeof value === "string" ? (value.match(/\{\w+\}/g) ?? []).sort() : Object.entries(value).map(([k, v]) => [k, shape(v)]).sort();
  for (const texts of [OPERATE_TEXTS, TEXTS]) {
    for (const code of Object.keys(TEXTS)) assert.deepEqual(shape(texts[code]), shape(texts.en), code);
  }
});
