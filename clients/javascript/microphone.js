import { deferred } from "./events.js";

const STOP_TIMEOUT_MS = 1_000;
const RESUME_TIMEOUT_MS = 3_000;

/**
 * The microphone, or any other MediaStream with sound, as chunks of 16 kHz mono PCM16.
 *
 * Conversion runs on the audio thread, so that a busy page loses no sound. Options: see `MicrophoneOptions` in
 * sotto.d.ts.
 */
export class Microphone {
  #options;
  #stream = null;
  #context = null;
  #node = null;
  #stopped = deferred();
  #onChunk = null;

  constructor(options = {}) {
    const chunkMs = options.chunkMs ?? 80;
    if (!(chunkMs >= 10 && chunkMs <= 1000)) throw new RangeError("chunkMs must be 10 to 1000");
    this.#options = {
      echoCancellation: true,
      noiseSuppression: true,
      autoGainControl: true,
      workletUrl: new URL("./pcm-worklet.js", import.meta.url),
      ...options,
      chunkMs,
    };
  }

  /** Ask for permission and begin: `onChunk(samples)` gets an Int16Array every `chunkMs`. */
  async start(onChunk) {
    if (this.#onChunk !== null) throw new TypeError("this microphone has been started already");
    this.#onChunk = onChunk;
    try {
      this.#stream = this.#options.stream ?? (await this.#ask());
      const AudioContext = this.#options.AudioContext ?? globalThis.AudioContext;
      this.#context = new AudioContext();
      await this.#context.audioWorklet.addModule(this.#options.workletUrl);
      await this.#resume(this.#context);
      this.#listen();
    } catch (error) {
      await this.#release();
      throw error;
    }
  }

  /** Deliver the last chunk, then let go of the microphone. */
  async stop() {
    if (this.#node !== null) {
      this.#node.port.postMessage("stop");
      const timer = setTimeout(this.#stopped.resolve, STOP_TIMEOUT_MS); // a closed context answers no more
      await this.#stopped.promise;
      clearTimeout(timer);
    }
    await this.#release();
  }

  /** Resolves when the sound ends by itself: the device is unplugged, the track removed, or after `stop()`. */
  get ended() {
    return this.#stopped.promise;
  }

  async #ask() {
    const devices = this.#options.mediaDevices ?? globalThis.navigator?.mediaDevices;
    if (!devices) throw new TypeError("no microphone here: browsers offer it on https and localhost only");
    const { echoCancellation, noiseSuppression, autoGainControl, deviceId } = this.#options;
    const audio = { channelCount: 1, echoCancellation, noiseSuppression, autoGainControl };
    if (deviceId !== undefined) audio.deviceId = { exact: deviceId };
    return devices.getUserMedia({ audio });
  }

  /** A browser may hold the sound of a page back until it is clicked, and a phone call interrupts it. */
  async #resume(context) {
    let timer;
    const late = new Promise((_, reject) => {
      const why = "the browser holds the sound back: start the microphone in a click or a key press";
      timer = setTimeout(() => reject(new TypeError(why)), this.#options.resumeTimeoutMs ?? RESUME_TIMEOUT_MS);
    });
    try {
      await Promise.race([context.resume(), late]);
    } finally {
      clearTimeout(timer);
    }
    context.onstatechange = () => {
      if (context.state === "suspended" || context.state === "interrupted") context.resume().catch(() => {});
    };
  }

  #listen() {
    const AudioWorkletNode = this.#options.AudioWorkletNode ?? globalThis.AudioWorkletNode;
    const node = new AudioWorkletNode(this.#context, "sotto-pcm-capture", {
      numberOfInputs: 1,
      numberOfOutputs: 0,
      processorOptions: { chunkMs: this.#options.chunkMs },
    });
    node.port.onmessage = ({ data }) => (data === "stopped" ? this.#stopped.resolve() : this.#onChunk(data));
    this.#context.createMediaStreamSource(this.#stream).connect(node);
    this.#node = node;
    for (const track of this.#stream.getAudioTracks()) {
      track.addEventListener("ended", () => node.port.postMessage("stop"));
    }
  }

  async #release() {
    // a stream that the caller passed in stays the caller's
    if (this.#options.stream === undefined) for (const track of this.#stream?.getTracks() ?? []) track.stop();
    const context = this.#context;
    this.#context = this.#node = null;
    if (context !== null && context.state !== "closed") await context.close();
    this.#stopped.resolve();
  }
}
