/** One session from its first sound to its last word: what is heard goes to the server, what comes back is told. */
import { LiveSession } from "./client/sotto.js";
import { HeardTimes, levelDb } from "./lags.js";

const SAMPLES_PER_MS = 16;
const LATE_MS = 2_500;
const LOOK_MS = 500;

export class Listening {
  #session;
  #tell;
  #isRealTime;
  #heard = new HeardTimes();
  #heardMs = 0;
  #lagMs = 0;
  #source = null;
  #stopping = new AbortController();

  /**
   * `tell`: a function for each of the session's events, and for `sound`, `level`, `interimLag`, `finalLatency`,
   * `late`, `finishing`. `session`: options of the `LiveSession`.
   */
  constructor({ isRealTime, tell, ...session }) {
    this.#tell = tell;
    this.#isRealTime = isRealTime;
    this.#session = new LiveSession(session);
    for (const type of ["speaker", "speech", "load", "error", "resumed", "state", "message"]) {
      this.#session.on(type, tell[type]);
    }
    this.#session.on("partial", (event) => {
      this.#lagMs = this.#lag(event.endMs);
      if (this.#isRealTime) tell.interimLag(this.#lagMs);
      tell.partial(event);
    });
    this.#session.on("final", (event) => {
      this.#lagMs = 0;
      if (this.#isRealTime) tell.finalLatency(this.#lag(event.endpointMs ?? event.endMs));
      tell.final(event);
    });
  }

  #lag(positionMs) {
    return this.#heard.lagMs(positionMs, performance.now()) ?? 0;
  }

  /** Resolves when a recording has no more sound to send at once: the pace where there is no clock. */
  room() {
    return this.#session.drained();
  }

  /** Aborted by `stop()`. */
  get stopping() {
    return this.#stopping.signal;
  }

  /** What `promise` resolves with, or undefined as soon as this is stopped. */
  unlessStopped(promise) {
    const stopped = new Promise((resolve) => this.stopping.addEventListener("abort", () => resolve(), { once: true }));
    return Promise.race([promise, stopped]);
  }

  /** From `source` until it ends or `stop()`; rejects with the error that ended it before the last word. */
  async run(source) {
    this.#source = source;
    const looking = setInterval(() => this.#look(), LOOK_MS);
    const isOver = () => source.stop();
    this.#session.ended.then(isOver, isOver);
    try {
      this.#session.start().catch(() => {}); // why it failed is what `ended` rejects with
      try {
        await source.start((chunk) => this.#hear(chunk));
      } catch (error) {
        await this.#session.cancel();
        throw error;
      }
      await source.ended;
      await source.stop(); // again: one that was stopped while the browser asked for permission is open by now
      this.#tell.finishing();
      await this.#session.end();
    } finally {
      clearInterval(looking);
      this.#tell.late(0);
    }
  }

  #hear(chunk) {
    this.#heardMs += chunk.length / SAMPLES_PER_MS;
    this.#heard.heard(this.#heardMs, performance.now());
    this.#tell.level(levelDb(chunk));
    this.#tell.sound(chunk);
    this.#session.sendAudio(chunk);
  }

  #look() {
    const behindMs = Math.max(this.#session.queuedMs, this.#lagMs);
    this.#tell.late(this.#isRealTime && behindMs > LATE_MS ? behindMs : 0);
  }

  /** No more sound; the last words still come. */
  stop() {
    this.#stopping.abort();
    return this.#source?.stop();
  }
}
