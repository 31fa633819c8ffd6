import assert from "node:assert/strict";
import { test } from "node:test";

import { deferred } from "../events.js";
import { encodeWav, recordOnce, SilenceDetector, transcribe, TranscriptionError, UtteranceRecorder } from "../sotto.js";

const loud = (num) => Int16Array.from({ length: num }, (_, n) => (n % 2 ? 8000 : -8000));
const quiet = (num) => Int16Array.from({ length: num }, (_, n) => (n % 2 ? 20 : -20));

class FakeMicrophone {
  #ended = deferred();
  ended = this.#ended.promise;
  numStops = 0;

  async start(onChunk) {
    this.onChunk = onChunk;
  }

  async stop() {
    this.numStops += 1;
    this.#ended.resolve();
  }
}

test("a WAV file says what it is", () => {
  const view = new DataView(encodeWav([Int16Array.of(1, -2), Int16Array.of(3)]));
  const ascii = (at) => String.fromCharCode(...new Uint8Array(view.buffer, at, 4));
  assert.deepEqual([ascii(0), ascii(8), ascii(12), ascii(36)], ["RIFF", "WAVE", "fmt ", "data"]);
  assert.deepEqual([view.getUint32(4, true), view.getUint32(40, true), view.byteLength], [42, 6, 50]);
  assert.deepEqual([view.getUint32(24, true), view.getUint32(28, true)], [16000, 32000]);
  assert.deepEqual([44, 46, 48].map((at) => view.getInt16(at, true)), [1, -2, 3]);
});

test("a recording is posted as a form", async () => {
  let seen;
  const fetch = async (url, init) => {
    seen = { url, ...init };
    return Response.json({ transcript: "hello" });
  };
  const recording = new Blob(["RIFF"], { type: "audio/wav" });
  const answer = await transcribe("ws://host:8000/", recording, { fetch, language: "en", wordTimestamps: true });
  assert.deepEqual(answer, { transcript: "hello" });
  assert.equal(seen.url, "http://host:8000/transcribe");
  assert.equal(seen.method, "POST");
  assert.equal(seen.body.get("language"), "en");
  assert.equal(seen.body.get("word_timestamps"), "true");
  assert.equal(seen.body.get("file").name, "utterance.wav");
  assert.equal(await seen.body.get("file").text(), "RIFF");
});

test("subtitles come as text", async () => {
  const fetch = async () => new Response("WEBVTT\n", { headers: { "content-type": "text/vtt" } });
  assert.equal(await transcribe("http://h", new Blob([]), { fetch, responseFormat: "vtt" }), "WEBVTT\n");
});

test("a refusal carries what the server said", async () => {
  const full = async () => Response.json({ detail: "full" }, { status: 503, headers: { "retry-after": "2" } });
  await assert.rejects(transcribe("http://h", new Blob([]), { fetch: full }), (error) => {
    assert.ok(error instanceof TranscriptionError);
    assert.deepEqual([error.status, error.detail, error.retryAfterS], [503, "full", 2]);
    return true;
  });
  const bad = async () => new Response("<html>".repeat(500), { status: 502 });
  await assert.rejects(transcribe("http://h", new Blob([]), { fetch: bad }), (error) => {
    assert.deepEqual([error.status, error.detail.length, error.retryAfterS], [502, 500, null]);
    return true;
  });
});

test("silence counts only behind speech", () => {
  const detector = new SilenceDetector(300);
  for (let count = 0; count < 10; count += 1) assert.ok(!detector.push(quiet(1600)));
  assert.ok(!detector.push(loud(1600)));
  assert.ok(!detector.push(quiet(1600)));
  assert.ok(!detector.push(loud(1600)));
  assert.deepEqual([1, 2, 3].map(() => detector.push(quiet(1600))), [false, false, true]);
});

test("who speaks from the first moment on is heard too", () => {
  const detector = new SilenceDetector(100);
  assert.deepEqual([loud(1600), loud(1600), quiet(1600)].map((part) => detector.push(part)), [false, false, true]);
});

test("a recording ends when the speaker falls silent", async () => {
  const microphone = new FakeMicrophone();
  const recorder = new UtteranceRecorder({ microphone, stopAfterSilenceMs: 200 });
  await recorder.start();
  for (const part of [quiet(1600), loud(1600), quiet(1600), quiet(1600)]) microphone.onChunk(part);
  const wav = await recorder.recording;
  assert.equal(wav.type, "audio/wav");
  assert.equal(wav.size, 44 + 2 * 6400);
  assert.equal(microphone.numStops, 1);
});

test("a recording is no longer than allowed", async () => {
  const microphone = new FakeMicrophone();
  const recorder = new UtteranceRecorder({ microphone, maxSeconds: 0.15 });
  await recorder.start();
  microphone.onChunk(loud(1600));
  microphone.onChunk(loud(1600));
  assert.equal((await recorder.recording).size, 44 + 2 * 2400);
});

test("the caller stops it, once or twice", async () => {
  const microphone = new FakeMicrophone();
  const recorder = new UtteranceRecorder({ microphone });
  await recorder.start();
  microphone.onChunk(loud(160));
  const [one, two] = await Promise.all([recorder.stop(), recorder.stop()]);
  assert.equal(one, two);
  assert.equal(microphone.numStops, 1);
});

test("one utterance is recorded until it is silent, and posted", async () => {
  const microphone = new FakeMicrophone();
  const states = [];
  let posted;
  const fetch = async (url, { body }) => {
    posted = [url, body.get("language"), body.get("file").size];
    return Response.json({ transcript: "hello" });
  };
  const options = { microphone, fetch, language: "pt", path: "/api/transcribe", onState: (state) => states.push(state) };
  const once = recordOnce("https://here", options);
  await new Promise(setImmediate);
  assert.equal(once.state, "recording");
  microphone.onChunk(loud(1600));
  for (let count = 0; count < 8; count += 1) microphone.onChunk(quiet(1600));
  assert.deepEqual(await once.done, { transcript: "hello" });
  assert.deepEqual(posted, ["https://here/api/transcribe", "pt", 44 + 2 * 9 * 1600]);
  assert.deepEqual(states, ["recording", "transcribing", "idle"]);
  assert.equal(microphone.numStops, 1);
});

test("a recording that is stopped still has its text, one that is aborted has none", async () => {
  const fetch = async () => Response.json({ transcript: "so far" });
  const stopped = recordOnce("https://here", { microphone: new FakeMicrophone(), fetch });
  await stopped.stop();
  assert.deepEqual(await stopped.done, { transcript: "so far" });

  const aborting = new AbortController();
  const microphone = new FakeMicrophone();
  const never = async () => assert.fail("nothing may be posted");
  const aborted = recordOnce("https://here", { microphone, fetch: never, signal: aborting.signal });
  await new Promise(setImmediate);
  aborting.abort();
  await assert.rejects(aborted.done, { name: "AbortError" });
  assert.deepEqual([microphone.numStops, aborted.state], [1, "idle"]);
});

test("why there is no microphone is why there is no text", async () => {
  const microphone = new FakeMicrophone();
  microphone.start = async () => {
    throw new DOMException("not allowed", "NotAllowedError");
  };
  const states = [];
  const once = recordOnce("https://here", { microphone, onState: (state) => states.push(state) });
  await assert.rejects(once.done, { name: "NotAllowedError" });
  assert.deepEqual(states, ["idle"]);
});
