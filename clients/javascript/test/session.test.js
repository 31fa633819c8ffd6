import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { counting, FakeSocket, finalMessage } from "../fakes/socket.js";
import { LiveSession, liveUrl, SessionError } from "../sotto.js";

beforeEach(() => {
  FakeSocket.opened = [];
});

/** A session, and its events by type as they come. Time stands still until the test moves it. */
async function begin(t, options = {}, { accept = true } = {}) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const session = new LiveSession({ url: "http://host:8000", WebSocket: FakeSocket, random: () => 1, ...options });
  const events = [];
  for (const type of ["partial", "final", "speaker", "vad", "warning", "speech", "load", "error", "ended", "resumed", "message"]) {
    session.on(type, (event) => events.push(event));
  }
  const started = session.start();
  started.catch(() => {});
  await settle();
  if (accept) FakeSocket.last.accept();
  return { session, events, started, socket: FakeSocket.last };
}

/** Let everything run that waits for a promise. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

async function reconnect(t, socket, { code = 1006, waitMs = 250 } = {}) {
  socket.drop(code);
  t.mock.timers.tick(waitMs);
  await settle();
  assert.notEqual(FakeSocket.last, socket, "no new connection");
  return FakeSocket.last;
}

test("addresses of every kind lead to the live door", () => {
  assert.equal(liveUrl("http://host:8000"), "ws://host:8000/ws/stt");
  assert.equal(liveUrl("https://host/speech/"), "wss://host/speech/ws/stt");
  assert.equal(liveUrl("ws://host/ws/stt?token=x"), "ws://host/ws/stt?token=x");
  assert.throws(() => liveUrl("ftp://host"), TypeError);
});

test("a session from start to end", async (t) => {
  const { session, events, started, socket } = await begin(t, { config: { lang_code: "pt" }, sessionId: "mine" });
  assert.equal(socket.url, "ws://host:8000/ws/stt");
  assert.deepEqual(socket.sent[0], { type: "start_session", config: { lang_code: "pt" }, resume: "", session_id: "mine" });
  assert.equal(await started, "s1");
  session.sendAudio(counting(0, 1600));
  socket.say({ type: "vad_event", state: "speech_start", t_ms: 12.5 });
  session.flush();
  const ended = session.end();
  socket.say(finalMessage("hello", 0, 100));
  socket.say({ type: "session_ended", reason: "completed", total_audio_ms: 100, total_segments: 1 });
  assert.deepEqual(await ended, { type: "ended", reason: "completed", totalAudioMs: 100, totalSegments: 1 });
  assert.deepEqual(socket.frames, ["start_session", 1600, "flush", "end_session"]);
  assert.deepEqual(events.map((event) => event.type), ["vad", "final", "ended"]);
  assert.deepEqual(events[0], { type: "vad", state: "speech_start", tMs: 12.5 });
  assert.equal(session.state, "ended");
  assert.equal(socket.closedWith, 1000);
});

test("audio pushed before the session is there goes out when it is", async (t) => {
  const { session, socket } = await begin(t, {}, { accept: false });
  session.sendAudio(counting(0, 800));
  assert.deepEqual(socket.frames, []);
  socket.accept();
  assert.deepEqual(socket.audio, [...counting(0, 800)]);
});

test("stable text is counted in code points", async (t) => {
  const { events, socket } = await begin(t);
  socket.say({ type: "partial_transcript", segment_id: "a", text: "😀é fine", stable_chars: 2, confidence: 0.5 });
  assert.equal(events[0].stable, "😀é");
  assert.equal(events[0].unstable, " fine");
});

test("a full socket holds audio back and loses none of it", async (t) => {
  const { session, socket } = await begin(t, { maxBufferedBytes: 1000 });
  socket.bufferedAmount = 1000;
  for (let at = 0; at < 16000; at += 1600) session.sendAudio(counting(at, 1600));
  assert.deepEqual(socket.audio, []);
  assert.equal(session.queuedMs, 1000);
  const drained = session.drained(0);
  socket.bufferedAmount = 500;
  t.mock.timers.tick(40);
  await drained;
  assert.deepEqual(socket.audio, [...counting(0, 16000)]);
});

test("a connection that takes nothing more is given up", async (t) => {
  const { session, socket } = await begin(t, { stallTimeoutMs: 400 });
  session.sendAudio(counting(0, 1600));
  socket.bufferedAmount = 3200;
  session.sendAudio(counting(1600, 1600));
  for (let count = 0; count < 10; count += 1) {
    assert.equal(session.state, "live");
    t.mock.timers.tick(40);
  }
  assert.equal(session.state, "reconnecting");
  t.mock.timers.tick(250);
  await settle();
  FakeSocket.last.accept();
  assert.deepEqual(FakeSocket.last.audio, [...counting(0, 3200)]);
});

test("a slow connection is not given up", async (t) => {
  const { session, socket } = await begin(t, { stallTimeoutMs: 400 });
  socket.bufferedAmount = 100_000;
  session.sendAudio(counting(0, 1600));
  for (let count = 0; count < 50; count += 1) {
    socket.bufferedAmount -= 1;
    t.mock.timers.tick(40);
  }
  assert.equal(session.state, "live");
});

test("a lost connection is resumed from the last ticket, and every final comes once", async (t) => {
  const { session, events, socket } = await begin(t);
  session.sendAudio(counting(0, 48000));
  socket.say(finalMessage("one", 0, 1900, { ticket: "ticket-1", resume_from_samples: 32000 }));
  const second = await reconnect(t, socket);
  second.open();
  assert.deepEqual(second.sent[0], { type: "start_session", config: {}, resume: "ticket-1" });
  second.say({ type: "session_started", session_id: "s1", resumed: true, resume_from_samples: 32000 });
  assert.deepEqual(second.audio, [...counting(32000, 16000)]);
  second.say(finalMessage("one", 0, 1900, { ticket: "ticket-1", resume_from_samples: 32000 }));
  second.say(finalMessage("two", 2000, 3000, { ticket: "ticket-2", resume_from_samples: 48000 }));
  assert.deepEqual(events.map((event) => event.text ?? event.type), ["one", "resumed", "two"]);
  assert.deepEqual(events[1], { type: "resumed", resumed: true, fromMs: 2000, lostMs: 0 });
  assert.equal(events[2].startMs, 2000);
});

test("tickets let go of silence, too", async (t) => {
  const { session, events, socket } = await begin(t, {}, { accept: false });
  socket.accept({ ticket: "ticket-0", resume_from_samples: 0 });
  session.sendAudio(counting(0, 48000));
  socket.say({ type: "ticket", ticket: "ticket-1", resume_from_samples: 40000 });
  const second = await reconnect(t, socket);
  second.open();
  assert.equal(second.sent[0].resume, "ticket-1");
  second.say({ type: "session_started", session_id: "s1", resumed: true, resume_from_samples: 40000, ticket: "x" });
  assert.deepEqual(second.audio, [...counting(40000, 8000)]);
  assert.deepEqual(events.map((event) => event.type), ["resumed"]);
});

test("a server without tickets begins anew behind the last final", async (t) => {
  const { session, events, socket } = await begin(t);
  session.sendAudio(counting(0, 48000));
  socket.say(finalMessage("one", 0, 2000));
  const second = await reconnect(t, socket);
  second.accept();
  assert.deepEqual(second.audio, [...counting(32000, 16000)]);
  second.say(finalMessage("two", 0, 1000));
  assert.equal(events.at(-1).endMs, 3000);
});

test("a warning about the sound, the probability of speech and the load are passed on", async (t) => {
  const { events, socket } = await begin(t);
  socket.say({ type: "audio_warning", kind: "clipping", t_ms: 20, value: 0.5 });
  socket.say({ type: "speech_probability", t_ms: 32, probability: 0.9 });
  socket.say({ type: "load_status", level: "high", rung: "no_speculation", interims_paused: false });
  socket.say({ type: "something_new", value: 1 });
  assert.deepEqual(events, [
    { type: "warning", kind: "clipping", tMs: 20, value: 0.5 },
    { type: "speech", tMs: 32, probability: 0.9 },
    { type: "load", level: "high", rung: "no_speculation", interimsPaused: false },
    { type: "message", message: { type: "something_new", value: 1 } },
  ]);
});

test("before the first final everything is sent again", async (t) => {
  const { session, socket } = await begin(t);
  session.sendAudio(counting(0, 1600));
  const second = await reconnect(t, socket, { code: 1012 });
  session.sendAudio(counting(1600, 1600));
  second.accept();
  assert.equal(second.sent[0].resume, "");
  assert.deepEqual(second.audio, [...counting(0, 3200)]);
});

for (const closes of [false, true]) {
  test(`a refused ticket leads to a fresh session, times go on${closes ? "; the server closes" : ""}`, async (t) => {
    const { session, events, socket } = await begin(t);
    session.sendAudio(counting(0, 48000));
    socket.say(finalMessage("one", 0, 1900, { ticket: "stale", resume_from_samples: 32000 }));
    let next = await reconnect(t, socket);
    next.open();
    next.say({ type: "error", code: "INVALID_TICKET", message: "unknown key", retryable: false });
    if (closes) {
      next = await reconnect(t, next, { code: 1008, waitMs: 500 });
      next.open();
    }
    assert.equal(next.sent.at(-1).resume, "");
    next.say({ type: "session_started", session_id: "s2" });
    assert.deepEqual(next.audio, [...counting(32000, 16000)]);
    next.say(finalMessage("two", 100, 900, { ticket: "ticket-2", resume_from_samples: 14400 }));
    const two = events.at(-1);
    assert.deepEqual([two.startMs, two.endMs, two.endpointMs], [2100, 2900, 2900]);
    assert.deepEqual([two.words[0].start, two.words[0].end], [2.1, 2.9]);
    // the new ticket counts from where the fresh session began
    const third = await reconnect(t, next);
    third.accept({ resumed: true, resume_from_samples: 14400 });
    assert.deepEqual(third.audio, [...counting(32000 + 14400, 1600)]);
    const ended = session.end();
    third.say({ type: "session_ended", reason: "completed", total_audio_ms: 1000, total_segments: 1 });
    assert.deepEqual(await ended, { type: "ended", reason: "completed", totalAudioMs: 3000, totalSegments: 2 });
  });
}

test("a flush and the end are said again, each behind its audio", async (t) => {
  const { session, socket } = await begin(t);
  session.sendAudio(counting(0, 1600));
  session.flush();
  session.sendAudio(counting(1600, 800));
  session.end();
  assert.deepEqual(socket.frames, ["start_session", 1600, "flush", 800, "end_session"]);
  const second = await reconnect(t, socket);
  second.accept();
  assert.deepEqual(second.frames, ["start_session", 1600, "flush", 800, "end_session"]);
});

test("old audio that was sent leaves when there is no more room, and that is said", async (t) => {
  const { session, events, socket } = await begin(t, { maxHeldSeconds: 1 });
  for (let at = 0; at < 24000; at += 800) session.sendAudio(counting(at, 800));
  const second = await reconnect(t, socket);
  second.accept();
  assert.deepEqual(second.audio, [...counting(8000, 16000)]);
  assert.deepEqual(events.at(-1), { type: "resumed", resumed: false, fromMs: 500, lostMs: 500 });
  second.say(finalMessage("late", 0, 1000));
  assert.equal(events.at(-1).startMs, 500);
});

test("audio that was never sent is not given up: the session fails instead", async (t) => {
  const { session, events } = await begin(t, { maxHeldSeconds: 1 }, { accept: false });
  session.sendAudio(counting(0, 16000));
  session.sendAudio(counting(16000, 1));
  await assert.rejects(session.ended, { code: "BUFFER_FULL" });
  assert.equal(events.at(-1).fatal, true);
});

test("a full server is tried again, later every time", async (t) => {
  const { session, socket } = await begin(t, {}, { accept: false });
  let last = socket;
  for (const waitMs of [250, 500, 1000]) {
    last.open();
    last.say({ type: "error", code: "MAX_SESSIONS_REACHED", message: "full", retryable: true });
    t.mock.timers.tick(waitMs - 1);
    await settle();
    assert.equal(FakeSocket.last, last);
    t.mock.timers.tick(1);
    await settle();
    assert.notEqual(FakeSocket.last, last);
    last = FakeSocket.last;
  }
  last.accept();
  assert.equal(session.state, "live");
});

test("waiting is spread by chance", async (t) => {
  const { socket } = await begin(t, { random: () => 0.5 });
  assert.notEqual(await reconnect(t, socket, { waitMs: 125 }), socket);
});

test("a server that stays away ends the session", async (t) => {
  const { session } = await begin(t, { retry: { maxAttempts: 2 } });
  for (let count = 0; count < 3; count += 1) {
    FakeSocket.last.drop();
    t.mock.timers.tick(1000);
    await settle();
  }
  await assert.rejects(session.ended, { code: "CONNECTION_LOST", retryable: true });
  assert.equal(FakeSocket.opened.length, 3);
});

test("a silent server is given up after the time limit", async (t) => {
  const { session, socket } = await begin(t, { openTimeoutMs: 5000 }, { accept: false });
  t.mock.timers.tick(5000);
  assert.equal(session.state, "reconnecting");
  assert.equal(socket.closedWith, 1000);
});

test("a refusal that no retry helps rejects start()", async (t) => {
  const { events, session, started, socket } = await begin(t, {}, { accept: false });
  socket.open();
  socket.say({ type: "error", code: "INVALID_MESSAGE", message: "vad_threshold", retryable: false });
  await assert.rejects(started, SessionError);
  await assert.rejects(session.ended, { code: "INVALID_MESSAGE" });
  assert.deepEqual(events, [
    { type: "error", code: "INVALID_MESSAGE", message: "vad_threshold", retryable: false, fatal: true },
  ]);
});

test("an error in a live session is told and the session goes on", async (t) => {
  const { events, session, socket } = await begin(t);
  socket.say({ type: "error", code: "INFERENCE_ERROR", message: "once", retryable: true });
  socket.onmessage({ data: "{" });
  assert.deepEqual(events.map((event) => [event.code, event.fatal]), [
    ["INFERENCE_ERROR", false],
    ["INVALID_MESSAGE", false],
  ]);
  assert.equal(session.state, "live");
});

test("the id of a connection that died may be in use a little longer", async (t) => {
  const { session, socket } = await begin(t);
  const second = await reconnect(t, socket);
  second.open();
  second.say({ type: "error", code: "SESSION_EXISTS", message: "in use", retryable: false });
  t.mock.timers.tick(500);
  await settle();
  FakeSocket.last.accept();
  assert.equal(session.state, "live");
});

test("a policy close ends the session with what the server said", async (t) => {
  const { session, socket } = await begin(t);
  socket.say({ type: "error", code: "INVALID_MESSAGE", message: "too many", retryable: false });
  socket.drop(1008);
  await assert.rejects(session.ended, { code: "INVALID_MESSAGE" });
});

test("cancel ends at once, with or without a connection", async (t) => {
  const { session, socket } = await begin(t);
  const ended = session.cancel();
  assert.deepEqual(socket.frames, ["start_session", "cancel"]);
  socket.say({ type: "session_ended", reason: "cancelled", total_audio_ms: 0, total_segments: 0 });
  assert.equal((await ended).reason, "cancelled");
  const offline = new LiveSession({ url: "http://host", WebSocket: FakeSocket });
  assert.equal((await offline.cancel()).reason, "cancelled");
});

test("an address may be made anew for every connection", async (t) => {
  let count = 0;
  const { socket } = await begin(t, { url: async () => `https://host?token=${(count += 1)}` });
  assert.equal(socket.url, "wss://host/ws/stt?token=1");
  assert.equal((await reconnect(t, socket)).url, "wss://host/ws/stt?token=2");
});

test("the caller's mistakes are told to the caller", async (t) => {
  assert.throws(() => new LiveSession({ url: "http://h", WebSocket: FakeSocket, config: { sample_rate: 8000 } }), TypeError);
  assert.throws(() => new LiveSession({ url: "http://h", WebSocket: null }), /pass one/);
  const { session } = await begin(t);
  assert.throws(() => session.sendAudio(new Float32Array(4)), TypeError);
  session.end();
  assert.throws(() => session.sendAudio(counting(0, 1)), /after end/);
  const wrong = new LiveSession({ url: "ftp://host", WebSocket: FakeSocket });
  await assert.rejects(wrong.start(), { code: "INVALID_ADDRESS" });
});

test("bytes are taken as little-endian samples wherever they begin", async (t) => {
  const { session, socket } = await begin(t);
  session.sendAudio(new Uint8Array([9, 1, 0, 255, 255]).subarray(1));
  session.sendAudio(new Uint8Array([2, 0]).buffer);
  assert.deepEqual(socket.audio, [1, -1, 2]);
});

const revision = (fields = {}) => ({
  type: "speaker_revision",
  session_id: "s1",
  segment_id: "seg-0000",
  speaker: "SPEAKER_02",
  words: ["SPEAKER_02"],
  start_ms: 0,
  end_ms: 1900,
  ...fields,
});

test("finals name their speaker, and a revision corrects it", async (t) => {
  const { events, socket } = await begin(t, { config: { diarization: true } });
  assert.equal(socket.sent[0].config.diarization, true);
  socket.say(finalMessage("one", 0, 1900));
  socket.say(finalMessage("two", 2000, 3000, { segment_id: "seg-0001", speaker: "SPEAKER_01" }));
  socket.say(revision());
  socket.say(revision({ words: null }));
  assert.deepEqual(events.map((event) => event.speaker), [null, "SPEAKER_01", "SPEAKER_02", "SPEAKER_02"]);
  assert.deepEqual(events[2], {
    type: "speaker", segmentId: "seg-0000", speaker: "SPEAKER_02", words: ["SPEAKER_02"], startMs: 0, endMs: 1900,
  });
  assert.equal(events[3].words, null);
});

test("the ticket of a revision is the newer one, unless its audio is gone", async (t) => {
  const { session, socket } = await begin(t);
  session.sendAudio(counting(0, 48000));
  socket.say(finalMessage("one", 0, 1900, { ticket: "ticket-1", resume_from_samples: 16000 }));
  socket.say(revision({ ticket: "ticket-2", resume_from_samples: 32000 }));
  socket.say(revision({ ticket: "ticket-3", resume_from_samples: 16000 }));
  socket.say(revision());
  const second = await reconnect(t, socket);
  second.open();
  assert.equal(second.sent[0].resume, "ticket-2");
  second.say({ type: "session_started", session_id: "s1", resumed: true, resume_from_samples: 32000 });
  assert.deepEqual(second.audio, [...counting(32000, 16000)]);
});

test("finals that want the same audio again all come, and each once", async (t) => {
  const { session, events, socket } = await begin(t);
  session.sendAudio(counting(0, 48000));
  const one = finalMessage("one", 0, 1900, { ticket: "ticket-1", resume_from_samples: 0 });
  const two = finalMessage("two", 2000, 3000, { segment_id: "seg-0001", ticket: "ticket-2", resume_from_samples: 0 });
  socket.say(one);
  socket.say(two);
  socket.say(two);
  assert.deepEqual(events.map((event) => event.text), ["one", "two"]);
});

test("every connection offers a fresh key", async (t) => {
  let made = 0;
  const protocols = async () => ["token", `key-${++made}`];
  const { socket } = await begin(t, { protocols });
  assert.deepEqual(socket.protocols, ["token", "key-1"]);
  const next = await reconnect(t, socket);
  assert.deepEqual(next.protocols, ["token", "key-2"]);
});
