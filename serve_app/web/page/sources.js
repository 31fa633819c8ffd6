/** Where the sound comes from. A source has `start(onChunk)`, `stop()` and `ended`, as `Microphone` has. */
import { deferred } from "./client/events.js";
import { mono, Pcm16Chunker } from "./client/pcm-worklet.js";

const SAMPLE_RATE_HZ = 16_000;
const CHUNK_SAMPLES = 1_280;
const CHUNK_MS = (1000 * CHUNK_SAMPLES) / SAMPLE_RATE_HZ;

/** A recording in any format that the browser decodes, as Int16Array chunks of 16 kHz. Rejects where it cannot. */
export async function decoded(bytes) {
  const context = new OfflineAudioContext(1, 1, SAMPLE_RATE_HZ);
  return chunksOf(await context.decodeAudioData(bytes));
}

/** Made as they are asked for: an hour at once would hold the page up. */
function* chunksOf(buffer) {
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, index) => buffer.getChannelData(index));
  let chunk;
  const chunker = new Pcm16Chunker(CHUNK_SAMPLES, (made) => (chunk = made));
  for (let start = 0; start < buffer.length; start += CHUNK_SAMPLES) {
    chunker.push(mono(channels.map((channel) => channel.subarray(start, start + CHUNK_SAMPLES))));
    chunker.finish();
    yield chunk;
  }
}

/** `chunks` one by one: at the pace of speech, or each once `room()` resolves. */
export class RecordingSource {
  #chunks;
  #room;
  #now;
  #wait;
  #stopped = deferred();
  #isStopped = false;

  constructor(chunks, { room = null, now = () => performance.now(), wait = sleep } = {}) {
    this.#chunks = chunks;
    this.#room = room;
    this.#now = now;
    this.#wait = wait;
  }

  get ended() {
    return this.#stopped.promise;
  }

  async start(onChunk) {
    this.#play(onChunk);
  }

  async stop() {
    this.#isStopped = true;
    this.#stopped.resolve();
  }

  async #play(onChunk) {
    const startedAt = this.#now();
    let numPlayed = 0;
    for (const chunk of this.#chunks) {
      numPlayed += 1;
      if (this.#room !== null) await this.#room();
      else await this.#wait(startedAt + numPlayed * CHUNK_MS - this.#now()); // late timers are made up for
      if (this.#isStopped) return;
      onChunk(chunk);
    }
    await this.stop();
  }
}

function sleep(ms) {
  return ms > 0 ? new Promise((resolve) => setTimeout(resolve, ms)) : undefined;
}
