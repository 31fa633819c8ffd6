const SAMPLE_RATE_HZ = 16_000;
const PIECE_MS = 20_000;

/** Plays what a `SoundArchive` keeps, from any moment to its end or until it is stopped. */
export class Player {
  #archive;
  #tell;
  #context = null;
  #sources = new Set();
  #nextMs = 0; // of the archive, where the piece behind those scheduled begins
  #nextS = 0; // of the context's clock, when it does

  /** `tell(isPlaying)` whenever that changes. */
  constructor(archive, tell) {
    this.#archive = archive;
    this.#tell = tell;
  }

  /** In a click or a key press. False where that sound is not kept. */
  play(ms) {
    this.stop();
    if (this.#archive.slice(ms, 1) === null) return false;
    this.#context ??= new AudioContext();
    this.#context.resume();
    this.#nextMs = ms;
    this.#nextS = this.#context.currentTime;
    this.#schedule();
    this.#schedule(); // one piece ahead of what is heard
    this.#tell(true);
    return true;
  }

  stop() {
    if (this.#sources.size === 0) return;
    for (const source of this.#sources) source.onended = null;
    for (const source of this.#sources) source.stop();
    this.#over();
  }

  #over() {
    this.#sources.clear();
    this.#context.suspend(); // lets the device go
    this.#tell(false);
  }

  #schedule() {
    const samples = this.#archive.slice(this.#nextMs, PIECE_MS);
    if (samples === null) return;
    const buffer = this.#context.createBuffer(1, samples.length, SAMPLE_RATE_HZ);
    buffer.copyToChannel(Float32Array.from(samples, (sample) => sample / 32_768), 0);
    const source = this.#context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.#context.destination);
    source.start(this.#nextS);
    source.onended = () => {
      this.#sources.delete(source);
      this.#schedule();
      if (this.#sources.size === 0) this.#over();
    };
    this.#sources.add(source);
    this.#nextMs += (1000 * samples.length) / SAMPLE_RATE_HZ;
    this.#nextS = Math.max(this.#nextS, this.#context.currentTime) + buffer.duration;
  }
}
