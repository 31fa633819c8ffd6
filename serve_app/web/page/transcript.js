/** What was said, in order: finals as they came, and who spoke them as it is known now. */
export class Transcript {
  entries = [];
  #speakers = []; // labels in the order in which they were first heard
  #names = new Map(); // of speakers that were given one, by label

  /** Where the text ends: times of the next session on this page count from here. */
  get endMs() {
    return this.entries.at(-1)?.endMs ?? 0;
  }

  /** A `final` of a session that began at `offsetMs`; returns its entry, null where there is no text. */
  add(final, offsetMs = 0) {
    if (final.text.trim() === "") return null;
    const offsetS = offsetMs / 1000;
    const entry = {
      segmentId: final.segmentId,
      text: final.text.trim(),
      speaker: final.speaker,
      language: final.language,
      confidence: final.confidence,
      startMs: final.startMs + offsetMs,
      endMs: final.endMs + offsetMs,
      words: final.words.map((word) => ({ ...word, start: word.start + offsetS, end: word.end + offsetS })),
    };
    this.entries.push(entry);
    return entry;
  }

  /** A `speaker` event; returns the entry that it changed. Ids begin anew with a session, so the last one counts. */
  revise({ segmentId, speaker, words }) {
    const entry = this.entries.findLast((one) => one.segmentId === segmentId);
    if (entry === undefined) return null;
    entry.speaker = speaker;
    if (words?.length === entry.words.length) {
      entry.words = entry.words.map((word, index) => ({ ...word, speaker: words[index] }));
    }
    return entry;
  }

  /** A speaker's number on this page, from 0; null for nobody known. */
  speakerNumber(label) {
    if (label === null) return null;
    if (!this.#speakers.includes(label)) this.#speakers.push(label);
    return this.#speakers.indexOf(label);
  }

  /** Give the speaker of a number a name; without one it has its label again. Returns the label. */
  rename(number, name) {
    const label = this.#speakers[number];
    if (name.trim() === "") this.#names.delete(label);
    else this.#names.set(label, name.trim());
    return label;
  }

  /** A speaker as it is called; null for nobody known. */
  nameOf(label) {
    return this.#names.get(label) ?? label;
  }

  /** The entries with speakers as they are called. */
  named() {
    const named = (one) => (one.speaker == null ? one : { ...one, speaker: this.nameOf(one.speaker) });
    return this.entries.map((entry) => ({ ...named(entry), words: entry.words.map(named) }));
  }

  clear() {
    this.entries = [];
    this.#speakers = [];
    this.#names.clear();
  }
}
