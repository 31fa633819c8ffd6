/**
 * What `LiveSession` takes for a WebSocket, and sends Opus: `/ws/stream` in place of `/ws/stt`.
 *
 * The session keeps its sound as samples, so that it goes on at any of them after a lost connection: every connection
 * has an encoder and an Ogg stream of its own. (A `MediaRecorder` can begin nowhere but now.)
 */
import { OggOpus } from "./ogg.js";

const SAMPLE_RATE_HZ = 16_000;
const ENCODING = {
  codec: "opus",
  sampleRate: SAMPLE_RATE_HZ,
  numberOfChannels: 1,
  bitrate: 24_000,
  opus: { frameDuration: 40_000 },
};
const QUEUED_BYTES = 2 * 4_000; // of one call to the encoder, at most
const [CONNECTING, OPEN, CLOSED] = [0, 1, 3];

export class OpusSocket {
  binaryType = "arraybuffer";
  readyState = CONNECTING;
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  #address;
  #protocols;
  #socket = null;
  #encoder = null;
  #numSamples = 0;

  /** Whether this browser encodes Opus. */
  static async isPossible() {
    try {
      return (await AudioEncoder.isConfigSupported(ENCODING)).supported;
    } catch {
      return false; // there is none, or it does not know these options
    }
  }

  constructor(address, protocols) {
    this.#address = address.replace(/\/ws\/stt$/, "/ws/stream");
    this.#protocols = protocols;
    queueMicrotask(() => {
      this.readyState = OPEN;
      this.onopen?.();
    });
  }

  /** Bytes that wait, samples that are not encoded among them. */
  get bufferedAmount() {
    return (this.#socket?.bufferedAmount ?? 0) + QUEUED_BYTES * (this.#encoder?.encodeQueueSize ?? 0);
  }

  /** A message of the native protocol, or Int16Array samples. */
  send(data) {
    if (typeof data !== "string") return this.#encode(data);
    const message = JSON.parse(data);
    if (message.type === "start_session") return this.#start(message);
    const socket = this.#socket;
    const send = () => socket.readyState === OPEN && socket.send(data);
    if (message.type === "end_session") this.#encoder.flush().then(send, send); // the last sound goes first
    else send();
  }

  close(code) {
    this.readyState = CLOSED;
    this.#release(code);
  }

  /** The address says what the first message would, so that every start is a socket. */
  #start({ config, resume, session_id: sessionId }) {
    this.#release();
    const address = new URL(this.#address);
    for (const [name, value] of Object.entries(config)) address.searchParams.set(name, value);
    address.searchParams.set("resume", resume);
    if (sessionId !== undefined) address.searchParams.set("session_id", sessionId);
    const socket = new WebSocket(address, this.#protocols ?? []);
    const container = new OggOpus();
    this.#socket = socket;
    this.#numSamples = 0;
    this.#encoder = new AudioEncoder({
      output: (chunk) => {
        const durationUs = chunk.duration ?? ENCODING.opus.frameDuration;
        const packet = new Uint8Array(chunk.byteLength);
        chunk.copyTo(packet);
        if (socket.readyState === OPEN) socket.send(container.pages(packet, durationUs));
      },
      error: () => socket.close(),
    });
    this.#encoder.configure(ENCODING);
    const current = (handle) => (event) => this.#socket === socket && handle(event);
    socket.onmessage = current((event) => this.onmessage?.(event));
    socket.onclose = current((event) => {
      this.readyState = CLOSED;
      this.onclose?.(event);
    });
  }

  #encode(samples) {
    if (this.#encoder.state !== "configured") return;
    const timestamp = Math.round((1e6 * this.#numSamples) / SAMPLE_RATE_HZ);
    const [numberOfFrames, numberOfChannels] = [samples.length, 1];
    const [format, sampleRate] = ["s16", SAMPLE_RATE_HZ];
    const data = new AudioData({ format, sampleRate, numberOfFrames, numberOfChannels, timestamp, data: samples });
    this.#encoder.encode(data);
    data.close();
    this.#numSamples += samples.length;
  }

  #release(code = 1000) {
    if (this.#encoder !== null && this.#encoder.state !== "closed") this.#encoder.close();
    const socket = this.#socket;
    this.#socket = null;
    if (socket !== null && socket.readyState <= OPEN) socket.close(code);
  }
}
