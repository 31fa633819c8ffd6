import assert from "node:assert/strict";
import { test } from "node:test";

import { counting } from "../fakes/socket.js";
import { ReplayBuffer } from "../replay.js";

function drain(replay, maxSamples = 1000) {
  const taken = [];
  for (let step = replay.next(maxSamples); step !== null; step = replay.next(maxSamples)) {
    if (step.flush) taken.push("flush");
    else taken.push(...step.samples);
  }
  return taken;
}

test("what went in comes out, in pieces no larger than asked for", () => {
  const replay = new ReplayBuffer(10_000);
  replay.push(counting(0, 7));
  replay.push(counting(7, 5));
  assert.deepEqual([...replay.next(4).samples], [0, 1, 2, 3]);
  assert.deepEqual([...replay.next(4).samples], [4, 5, 6]);
  assert.deepEqual([...replay.next(9).samples], [7, 8, 9, 10, 11]);
  assert.equal(replay.next(4), null);
});

test("the caller may use its array again", () => {
  const replay = new ReplayBuffer(100);
  const samples = counting(0, 3);
  replay.push(samples);
  samples.fill(-1);
  assert.deepEqual(drain(replay), [0, 1, 2]);
});

test("whatever is acknowledged and wherever it goes back to, nothing is lost and nothing doubled", () => {
  let seed = 7;
  const random = (limit) => (seed = (seed * 48271) % 2147483647) % limit;
  for (let round = 0; round < 200; round += 1) {
    const replay = new ReplayBuffer(1e6);
    let acknowledged = 0;
    for (let step = 0; step < 40; step += 1) {
      const action = random(4);
      if (action === 0) replay.push(counting(replay.end, random(50)));
      else if (action === 1) replay.next(1 + random(60));
      else if (action === 2) replay.acknowledge((acknowledged += random(replay.sent - acknowledged + 1)));
      else {
        const from = replay.rewind(acknowledged);
        assert.equal(from, acknowledged);
        assert.deepEqual(drain(replay, 1 + random(30)), [...counting(acknowledged, replay.end - acknowledged)]);
      }
      assert.ok(replay.start <= acknowledged);
    }
  }
});

test("flushes stay where they were asked for", () => {
  const replay = new ReplayBuffer(100);
  replay.flush();
  replay.flush();
  replay.push(counting(0, 2));
  replay.flush();
  replay.push(counting(2, 1));
  assert.deepEqual(drain(replay), ["flush", 0, 1, "flush", 2]);
  replay.rewind(1);
  assert.deepEqual(drain(replay), [1, "flush", 2]);
  replay.acknowledge(3);
  replay.rewind(3);
  assert.deepEqual(drain(replay), []);
});

test("only audio that was sent makes room", () => {
  const replay = new ReplayBuffer(10);
  assert.ok(replay.push(counting(0, 8)));
  assert.ok(!replay.push(counting(8, 4)));
  replay.next(8);
  assert.ok(replay.push(counting(8, 4)));
  assert.equal(replay.rewind(0), 2);
  assert.deepEqual(drain(replay), [...counting(2, 10)]);
});
