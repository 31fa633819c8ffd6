/** What the page shows: its texts in one language, the transcript, and one line each of status and of delay. */
import { TEXTS, textIn } from "./texts.js";

const SPOKEN = [
  ..."ar bg ca cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv ms".split(" "),
  ..."nl no pl pt ro ru sk sl sr sv ta th tr uk ur vi zh".split(" "),
];
const NUM_COLOURS = 6;

export const byId = (id) => document.getElementById(id);

export class View {
  #code = "en";
  #lines = {}; // what `status` and `late` say: [key, values]
  #elements = new WeakMap(); // of the transcript's entries

  constructor(code) {
    for (const name of Object.keys(TEXTS)) {
      byId("interface").add(new Option(new Intl.DisplayNames([name], { type: "language" }).of(name), name));
    }
    this.speak(code);
  }

  /** Show the interface in a language. */
  speak(code) {
    this.#code = code;
    document.documentElement.lang = code;
    byId("interface").value = code;
    for (const element of document.querySelectorAll("[data-text]")) {
      element.textContent = textIn(code, element.dataset.text);
    }
    this.#offerLanguages();
    for (const id of Object.keys(this.#lines)) this.#write(id);
  }

  #offerLanguages() {
    const select = byId("language");
    const chosen = select.value;
    const names = new Intl.DisplayNames([this.#code], { type: "language" });
    const spoken = SPOKEN.map((code) => new Option(names.of(code), code));
    spoken.sort((one, other) => one.text.localeCompare(other.text, this.#code));
    const set = new Option(textIn(this.#code, "serverLanguage"), "");
    const detected = new Option(textIn(this.#code, "detected"), "auto");
    select.replaceChildren(set, detected, ...spoken);
    select.value = chosen;
  }

  /** Say a text in the line `id`; no key: nothing. */
  say(id, key = null, values = {}) {
    this.#lines[id] = [key, values];
    this.#write(id);
  }

  #write(id) {
    const [key, values] = this.#lines[id];
    const text = key === null ? "" : textIn(this.#code, key, values);
    if (byId(id).textContent !== text) byId(id).textContent = text; // said once by a screen reader
  }

  /** The interim text of the segment in progress, below all finals. */
  interim(stable, unstable) {
    byId("stable").textContent = stable;
    byId("unstable").textContent = unstable;
    this.#follow(() => {});
  }

  /** Append a final; `speaker`: its number on this page. */
  append(entry, speaker) {
    const paragraph = document.createElement("p");
    paragraph.dir = "auto";
    const name = document.createElement("span");
    const words = document.createElement("span");
    words.textContent = entry.text;
    paragraph.append(name, words);
    this.#elements.set(entry, name);
    this.name(entry, speaker);
    this.#follow(() => byId("finals").append(paragraph));
  }

  /** Who spoke an entry. */
  name(entry, speaker) {
    const element = this.#elements.get(entry);
    element.className = entry.speaker === null ? "" : `speaker speaker-${speaker % NUM_COLOURS}`;
    element.textContent = entry.speaker ?? "";
  }

  clear() {
    byId("finals").replaceChildren();
    this.interim("", "");
  }

  /** The newest text stays in sight, unless the reader has gone back. */
  #follow(change) {
    const box = byId("transcript");
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    change();
    if (isAtEnd) box.scrollTop = box.scrollHeight;
  }

  running(isRunning) {
    for (const id of ["microphone", "sample", "file", "clear"]) byId(id).disabled = isRunning;
    byId("stop").disabled = !isRunning;
  }
}
