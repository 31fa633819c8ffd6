/**
 * A live session over the native WebSocket protocol, which outlives its connections.
 *
 *   idle -> connecting -> live <-> reconnecting -> ended
 *
 * Audio behind the newest ticket is kept. When a connection is lost, the next one presents the ticket, the
 * server says from which sample it goes on, and the audio is sent again from there: every final comes once.
 * Where the server cannot take the ticket (INVALID_TICKET), a fresh session begins at that sample and its times
 * are shifted, so that the caller sees one session throughout.
 */
import { liveUrl } from "./address.js";
import { SessionError } from "./errors.js";
import { deferred, Events } from "./events.js";
import { finalEvent, loadEvent, partialEvent, speakerEvent, speechEvent, vadEvent, warningEvent } from "./messages.js";
import { int16, SAMPLES_PER_MS, SAMPLE_RATE_HZ } from "./pcm.js";
import { Repeats } from "./repeats.js";
import { ReplayBuffer } from "./replay.js";

const MAX_FRAME_SAMPLES = SAMPLE_RATE_HZ / 4;
const PUMP_MS = 40;
const STEADY_MS = 30_000; // a connection that lived this long starts the count of attempts over
const NORMAL_CLOSE = 1000;
const REFUSING_CLOSES = new Set([1002, 1003, 1007, 1008, 1009, 4400, 4401, 4403]);
const RETRY = { initialMs: 250, maxMs: 8_000, maxAttempts: 12 };

export class LiveSession {
  #options;
  #retry;
  #events = new Events();
  #replay;
  #socket = null;
  #state = "idle";
  #sessionId = null;
  #started = deferred();
  #ended = deferred();
  #ticket = null; // {value, base}: the base that the ticket's session counts from
  #ackSamples = 0;
  #baseSamples = 0;
  #numFinals = 0;
  #repeats = new Repeats();
  #ending = false;
  #endSent = false;
  #cancelled = false;
  #attempt = 0;
  #connectedOnce = false;
  #connectedAt = 0;
  #lastError = null;
  #pumpTimer = null;
  #retryTimer = null;
  #openTimer = null;
  #stalledMs = 0;
  #lastBuffered = 0;
  #drainWaiters = [];

  /** Options: see `LiveSessionOptions` in sotto.d.ts. */
  constructor(options) {
    const config = options.config ?? {};
    if (["sample_rate", "encoding", "channels"].some((name) => name in config)) {
      throw new TypeError("audio is 16 kHz mono PCM16 here: leave sample_rate, encoding and channels out of config");
    }
    this.#options = {
      openTimeoutMs: 15_000,
      stallTimeoutMs: 20_000,
      maxBufferedBytes: 128 * 1024,
      maxHeldSeconds: 600,
      random: Math.random,
      WebSocket: globalThis.WebSocket,
      ...options,
      config,
    };
    if (typeof this.#options.WebSocket !== "function") {
      throw new TypeError("no WebSocket here: pass one, as in new LiveSession({ url, WebSocket })");
    }
    this.#retry = { ...RETRY, ...options.retry };
    this.#replay = new ReplayBuffer(this.#options.maxHeldSeconds * SAMPLE_RATE_HZ);
  }

  get state() {
    return this.#state;
  }

  get sessionId() {
    return this.#sessionId;
  }

  /** Milliseconds of audio that wait to be sent. */
  get queuedMs() {
    return this.#replay.unsentSamples / SAMPLES_PER_MS;
  }

  /** Resolves with the `ended` event, rejects with the `SessionError` that ended the session. */
  get ended() {
    return this.#ended.promise;
  }

  /** Call `listener` for every event of `type`; returns a function that stops it. */
  on(type, listener) {
    return this.#events.on(type, listener);
  }

  /** Connect; resolves with the session's id, rejects with `SessionError`. Audio may be sent before. */
  start() {
    if (this.#state === "idle") this.#connect("connecting");
    return this.#started.promise;
  }

  /** 16 kHz mono samples: an Int16Array, or the bytes of one. Never waits; see `drained`. */
  sendAudio(audio) {
    if (this.#state === "ended") return;
    if (this.#ending || this.#cancelled) throw new TypeError("audio after end() or cancel()");
    if (!this.#replay.push(int16(audio))) {
      const kept = this.#options.maxHeldSeconds;
      this.#fail(new SessionError("BUFFER_FULL", `${kept} s of audio wait and none of it can be sent`));
      return;
    }
    this.#pump();
  }

  /** Resolves once no more than `maxQueuedMs` wait to be sent: the pace of a caller faster than real time. */
  drained(maxQueuedMs = 1_000) {
    if (this.#state === "ended" || this.queuedMs <= maxQueuedMs) return Promise.resolve();
    return new Promise((resolve) => this.#drainWaiters.push({ maxQueuedMs, resolve }));
  }

  /** Ask for a final of the utterance in progress. */
  flush() {
    if (this.#state === "ended" || this.#ending || this.#cancelled) return;
    this.#replay.flush();
    this.#pump();
  }

  /** No more audio: the server finishes everything; resolves with the `ended` event. */
  end() {
    this.#ending = true;
    if (this.#state === "idle") this.#finish(this.#endedHere("completed"));
    this.#pump();
    return this.#ended.promise;
  }

  /** Drop what is not decoded and end. */
  cancel() {
    if (this.#state === "ended" || this.#cancelled) return this.#ended.promise;
    this.#cancelled = true;
    this.#replay.clear();
    if (this.#state === "live") this.#socket.send('{"type":"cancel"}');
    else this.#finish(this.#endedHere("cancelled"));
    return this.#ended.promise;
  }

  // connecting

  async #connect(state) {
    this.#setState(state);
    try {
      const { url, protocols, WebSocket } = this.#options;
      const address = liveUrl(typeof url === "function" ? await url() : url);
      const offered = typeof protocols === "function" ? await protocols() : protocols;
      if (this.#state === "ended") return;
      const socket = offered === undefined ? new WebSocket(address) : new WebSocket(address, offered);
      this.#socket = socket;
      socket.binaryType = "arraybuffer";
      const current = (handle) => (event) => this.#socket === socket && handle(event);
      socket.onopen = current(() => socket.send(JSON.stringify(this.#startMessage())));
      socket.onmessage = current(({ data }) => this.#receive(data));
      socket.onclose = current(({ code, reason }) => this.#lost(code, reason));
      socket.onerror = () => {}; // a close follows and says as much as there is to know
      const late = () => this.#lost(1006, "no session within the time limit");
      this.#openTimer = setTimeout(late, this.#options.openTimeoutMs);
    } catch (error) {
      if (error instanceof TypeError || error instanceof SyntaxError) {
        this.#fail(new SessionError("INVALID_ADDRESS", error.message));
      } else {
        this.#lost(1006, String(error));
      }
    }
  }

  #startMessage() {
    // a ticket names its session; an empty `resume` asks a new one for tickets
    if (this.#ticket !== null) {
      return { type: "start_session", config: this.#options.config, resume: this.#ticket.value };
    }
    const message = { type: "start_session", config: this.#options.config, resume: "" };
    if (this.#options.sessionId !== undefined) message.session_id = this.#options.sessionId;
    return message;
  }

  #lost(code, reason) {
    this.#detach();
    if (this.#cancelled) {
      this.#finish(this.#endedHere("cancelled"));
      return;
    }
    const refusal = this.#lastError;
    if (REFUSING_CLOSES.has(code) && !refusal?.retryable) {
      this.#fail(refusal ?? new SessionError("INVALID_MESSAGE", `the server closed with ${code} ${reason ?? ""}`));
      return;
    }
    if (this.#connectedAt > 0 && Date.now() - this.#connectedAt > STEADY_MS) this.#attempt = 0;
    this.#connectedAt = 0;
    this.#attempt += 1;
    if (this.#attempt > this.#retry.maxAttempts) {
      this.#fail(refusal ?? new SessionError("CONNECTION_LOST", `closed with ${code} ${reason ?? ""}`, true));
      return;
    }
    this.#setState("reconnecting");
    // full jitter: clients that one restart cut off must not come back together
    const ceilingMs = Math.min(this.#retry.maxMs, this.#retry.initialMs * 2 ** (this.#attempt - 1));
    const retry = () => this.#connect("reconnecting");
    this.#retryTimer = setTimeout(retry, this.#options.random() * ceilingMs);
  }

  // receiving

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      this.#events.emit({ type: "error", code: "INVALID_MESSAGE", message: "not JSON", retryable: false, fatal: false });
      return;
    }
    switch (message.type) {
      case "session_started":
        return this.#onStarted(message);
      case "partial_transcript":
        this.#attempt = 0;
        return this.#events.emit(partialEvent(message, this.#baseSamples));
      case "final_transcript":
        return this.#onFinal(message);
      case "speaker_revision":
        if (message.ticket) this.#acknowledged(message);
        return this.#events.emit(speakerEvent(message, this.#baseSamples));
      case "ticket":
        return this.#acknowledged(message);
      case "vad_event":
        return this.#events.emit(vadEvent(message, this.#baseSamples));
      case "audio_warning":
        return this.#events.emit(warningEvent(message, this.#baseSamples));
      case "speech_probability":
        return this.#events.emit(speechEvent(message, this.#baseSamples));
      case "load_status":
        return this.#events.emit(loadEvent(message));
      case "error":
        return this.#onError(message);
      case "session_ended":
        return this.#onEnded(message);
      default:
        return this.#events.emit({ type: "message", message });
    }
  }

  #onStarted(message) {
    clearTimeout(this.#openTimer);
    const again = this.#connectedOnce;
    const resumed = this.#ticket !== null && message.resumed === true;
    if (resumed) this.#baseSamples = this.#ticket.base;
    else this.#beginAnew();
    const from = this.#baseSamples + (message.resume_from_samples ?? 0);
    if (message.ticket) this.#ticket = { value: message.ticket, base: this.#baseSamples };
    const lostSamples = this.#replay.rewind(from) - from;
    if (lostSamples > 0) this.#baseSamples += lostSamples;
    this.#sessionId = message.session_id;
    this.#connectedOnce = true;
    this.#connectedAt = Date.now();
    this.#endSent = false;
    this.#lastError = null;
    this.#stalledMs = 0;
    this.#setState("live");
    this.#started.resolve(message.session_id);
    if (again) {
      const fromMs = this.#replay.sent / SAMPLES_PER_MS;
      this.#events.emit({ type: "resumed", resumed, fromMs, lostMs: Math.max(0, lostSamples) / SAMPLES_PER_MS });
    }
    this.#pump();
  }

  #beginAnew() {
    this.#ticket = null;
    this.#repeats.clear();
    this.#baseSamples = this.#ackSamples;
  }

  #onFinal(message) {
    this.#acknowledged(message);
    if (message.ticket && this.#repeats.has(message)) return; // it was received before the connection was lost
    this.#numFinals += 1;
    this.#events.emit(finalEvent(message, this.#baseSamples));
  }

  /** Give up the audio that no resumed session can ask for. A ticket for audio that is gone is of no use. */
  #acknowledged(message) {
    this.#attempt = 0;
    const position = this.#baseSamples + (message.resume_from_samples ?? Math.round(message.end_ms * SAMPLES_PER_MS));
    if (position < this.#ackSamples) return;
    if (message.ticket) this.#ticket = { value: message.ticket, base: this.#baseSamples };
    this.#ackSamples = position;
    this.#replay.acknowledge(position);
  }

  #onError(message) {
    const error = new SessionError(message.code, message.message, message.retryable === true);
    if (this.#state === "live") {
      this.#lastError = error;
      this.#events.emit(error.event(false));
    } else if (message.code === "INVALID_TICKET") {
      this.#lastError = new SessionError(message.code, message.message, true);
      this.#beginAnew();
      this.#socket.send(JSON.stringify(this.#startMessage()));
    } else if (error.retryable || (message.code === "SESSION_EXISTS" && this.#connectedOnce)) {
      // SESSION_EXISTS: the server has not noticed yet that the former connection is gone
      this.#lastError = new SessionError(message.code, message.message, true);
      this.#lost(1013, message.code);
    } else {
      this.#fail(error);
    }
  }

  #onEnded(message) {
    const totalAudioMs = message.total_audio_ms + this.#baseSamples / SAMPLES_PER_MS;
    this.#finish({ type: "ended", reason: message.reason, totalAudioMs, totalSegments: this.#numFinals });
  }

  // sending

  #pump() {
    if (this.#state !== "live" || this.#cancelled) return;
    const socket = this.#socket;
    while (socket.bufferedAmount < this.#options.maxBufferedBytes) {
      const step = this.#replay.next(MAX_FRAME_SAMPLES);
      if (step === null) break;
      socket.send(step.flush ? '{"type":"flush"}' : step.samples);
    }
    this.#wakeDrained();
    if (this.#ending && !this.#endSent && !this.#replay.hasUnsent) {
      this.#endSent = true;
      socket.send('{"type":"end_session"}');
    }
    this.#lastBuffered = socket.bufferedAmount;
    if (this.#lastBuffered > 0) this.#pumpTimer ??= setTimeout(() => this.#pumpLater(), PUMP_MS);
  }

  /** WebSockets do not tell when they have room again, nor that the other side is gone. */
  #pumpLater() {
    this.#pumpTimer = null;
    if (this.#socket === null) return;
    this.#stalledMs = this.#socket.bufferedAmount < this.#lastBuffered ? 0 : this.#stalledMs + PUMP_MS;
    if (this.#stalledMs < this.#options.stallTimeoutMs) this.#pump();
    else this.#lost(1006, "the connection takes no more data");
  }

  #wakeDrained(all = false) {
    const queuedMs = this.queuedMs;
    const ready = this.#drainWaiters.filter((waiter) => all || queuedMs <= waiter.maxQueuedMs);
    this.#drainWaiters = this.#drainWaiters.filter((waiter) => !ready.includes(waiter));
    for (const waiter of ready) waiter.resolve();
  }

  // ending

  /** The `ended` event where no server is there to say it. */
  #endedHere(reason) {
    const totalAudioMs = this.#replay.end / SAMPLES_PER_MS;
    return { type: "ended", reason, totalAudioMs, totalSegments: this.#numFinals };
  }

  #fail(error) {
    if (this.#state === "ended") return;
    this.#events.emit(error.event(true));
    this.#stop();
    this.#started.reject(error);
    this.#ended.reject(error);
  }

  #finish(event) {
    if (this.#state === "ended") return;
    this.#stop();
    this.#events.emit(event);
    this.#started.reject(new SessionError("CANCELLED", "the session ended before it began"));
    this.#ended.resolve(event);
  }

  #stop() {
    this.#detach();
    clearTimeout(this.#retryTimer);
    this.#replay.clear();
    this.#setState("ended");
    this.#wakeDrained(true);
  }

  #detach() {
    clearTimeout(this.#pumpTimer);
    this.#pumpTimer = null;
    clearTimeout(this.#openTimer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket !== null && socket.readyState <= 1) socket.close(NORMAL_CLOSE);
  }

  #setState(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#events.emit({ type: "state", state });
  }
}
