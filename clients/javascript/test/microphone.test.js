import assert from "node:assert/strict";
import { test } from "node:test";

import { Microphone } from "../sotto.js";

/** The browser's parts, small; `port` is the worklet's side. */
function browser() {
  const made = { constraints: null, node: null, closed: 0, stopped: 0, trackEnded: null };
  const track = {
    stop: () => (made.stopped += 1),
    addEventListener: (_, listener) => (made.trackEnded = listener),
  };
  const stream = { getTracks: () => [track], getAudioTracks: () => [track] };
  class AudioContext {
    state = "running";
    audioWorklet = { addModule: async (url) => (made.workletUrl = String(url)) };
    async resume() {
      made.resumed = (made.resumed ?? 0) + 1;
    }
    async close() {
      made.closed += 1;
    }
    createMediaStreamSource() {
      return { connect: () => {} };
    }
  }
  class AudioWorkletNode {
    constructor(context, name, options) {
      made.context = context;
      Object.assign(made, { node: this, name, chunkMs: options.processorOptions.chunkMs });
      const answer = (data) => data === "stop" && this.port.onmessage({ data: "stopped" });
      this.port = { postMessage: answer, onmessage: null };
    }
  }
  const mediaDevices = {
    getUserMedia: async (constraints) => {
      made.constraints = constraints;
      return stream;
    },
  };
  return { made, stream, options: { AudioContext, AudioWorkletNode, mediaDevices } };
}

test("chunks of the audio thread reach the caller until it stops", async () => {
  const { made, options } = browser();
  const microphone = new Microphone({ ...options, noiseSuppression: false, deviceId: "d", chunkMs: 40 });
  const chunks = [];
  await microphone.start((samples) => chunks.push(samples));
  const chunk = Int16Array.of(1, 2);
  made.node.port.onmessage({ data: chunk });
  assert.deepEqual(chunks, [chunk]);
  assert.equal(made.name, "sotto-pcm-capture");
  assert.equal(made.chunkMs, 40);
  assert.match(made.workletUrl, /pcm-worklet\.js$/);
  assert.deepEqual(made.constraints.audio, {
    channelCount: 1,
    echoCancellation: true,
    noiseSuppression: false,
    autoGainControl: true,
    deviceId: { exact: "d" },
  });
  await microphone.stop();
  await microphone.ended;
  assert.deepEqual([made.closed, made.stopped], [1, 1]);
});

test("a stream of the caller's stays open", async () => {
  const { made, stream, options } = browser();
  const microphone = new Microphone({ ...options, stream });
  await microphone.start(() => {});
  assert.equal(made.constraints, null);
  await microphone.stop();
  assert.deepEqual([made.closed, made.stopped], [1, 0]);
});

test("an unplugged microphone ends the sound", async () => {
  const { made, options } = browser();
  const microphone = new Microphone(options);
  await microphone.start(() => {});
  made.trackEnded();
  await microphone.ended;
});

test("what fails on the way leaves nothing open", async () => {
  const { made, options } = browser();
  const microphone = new Microphone({ ...options, AudioWorkletNode: class { constructor() { throw new Error("no"); } } });
  await assert.rejects(microphone.start(() => {}), /no/);
  assert.deepEqual([made.closed, made.stopped], [1, 1]);
  await assert.rejects(new Microphone({ mediaDevices: null }).start(() => {}), /https and localhost/);
  assert.throws(() => new Microphone({ chunkMs: 0 }), RangeError);
});

test("sound that the browser holds back is an error, not silence", async () => {
  const { made, options } = browser();
  class AudioContext extends options.AudioContext {
    resume() {
      return new Promise(() => {});
    }
  }
  const microphone = new Microphone({ ...options, AudioContext, resumeTimeoutMs: 1 });
  await assert.rejects(microphone.start(() => {}), /in a click/);
  assert.deepEqual([made.closed, made.stopped], [1, 1]);
});

test("sound that is interrupted goes on", async () => {
  const { made, options } = browser();
  const microphone = new Microphone(options);
  await microphone.start(() => {});
  for (const [state, resumed] of [["interrupted", 2], ["running", 2], ["suspended", 3], ["closed", 3]]) {
    made.context.state = state;
    made.context.onstatechange();
    assert.equal(made.resumed, resumed);
  }
});
