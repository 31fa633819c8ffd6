const MAX_FINALS = 64;

/** The newest finals: a resumed session says some of them once more where its ticket is older than they are. */
export class Repeats {
  #finals = [];

  /** Whether this final has come before; it has from now on. */
  has(message) {
    const said = `${message.segment_id} ${message.end_ms}`;
    if (this.#finals.includes(said)) return true;
    this.#finals = [...this.#finals, said].slice(-MAX_FINALS);
    return false;
  }

  clear() {
    this.#finals = [];
  }
}
