/** What the page shows: its texts in one language, the transcript, and one line each of status and of delay. */
import { TEXTS, textIn } from "./texts.js";
import { clock, doubtOf, piecesOf } from "./words.js";

const SPOKEN = [
  ..."ar bg ca cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv ms".split(" "),
  ..."nl no pl pt ro ru sk sl sr sv ta th tr uk ur vi zh".split(" "),
];
const NUM_COLOURS = 6;
const MAX_NAME_CHARS = 40;

export const byId = (id) => document.getElementById(id);

export class View {
  #code = "en";
  #lines = {}; // what `status` and `late` say: [key, values]
  #paragraphs = new WeakMap(); // by entry of the transcript
  #entries = new WeakMap(); // by paragraph
  #shown = null; // the element of the word whose times are shown

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

  /** Append a final. `speaker`: `{number, name}` of who spoke it; null where it is not known, and may come. */
  append(entry, speaker) {
    const paragraph = document.createElement("p");
    paragraph.dir = "auto";
    for (const { text, word } of piecesOf(entry.text, entry.words)) {
      if (word === null) {
        paragraph.append(text);
        continue;
      }
      const element = document.createElement("span");
      element.className = `word ${doubtOf(word)}`.trim();
      element.textContent = text;
      paragraph.append(element);
    }
    this.#paragraphs.set(entry, paragraph);
    this.#entries.set(paragraph, entry);
    if (speaker !== undefined) this.name(entry, speaker);
    this.#follow(() => byId("finals").append(paragraph));
  }

  /** Who spoke an entry. One element of each speaker can be reached with the tabulator: the newest. */
  name(entry, speaker) {
    const paragraph = this.#paragraphs.get(entry);
    let button = paragraph.querySelector("button.speaker");
    if (button === null) {
      button = document.createElement("button");
      button.dir = "auto"; // a name has no say in where the words begin
      paragraph.prepend(button);
    }
    button.disabled = speaker === null;
    button.className = speaker === null ? "speaker" : `speaker speaker-${speaker.number % NUM_COLOURS}`;
    button.textContent = speaker === null ? "" : speaker.name;
    if (speaker === null) return;
    for (const other of this.#buttonsOf(speaker.number)) other.tabIndex = -1;
    button.dataset.speaker = speaker.number;
    button.tabIndex = 0;
  }

  #buttonsOf(number) {
    return document.querySelectorAll(`#finals button[data-speaker="${number}"]`);
  }

  /** A speaker is called otherwise. */
  rename({ number, name }) {
    for (const button of this.#buttonsOf(number)) button.textContent = name;
  }

  /** Let a person write over a speaker's name; resolves with it, with null where it stays. */
  askName(button) {
    const input = document.createElement("input");
    input.className = button.className;
    input.value = button.textContent;
    input.maxLength = MAX_NAME_CHARS;
    input.dir = "auto";
    input.setAttribute("aria-label", textIn(this.#code, "rename"));
    button.hidden = true;
    button.after(input);
    input.focus();
    input.select();
    return new Promise((resolve) => {
      const done = (name, isFocused) => {
        input.onblur = null;
        input.remove();
        button.hidden = false;
        if (isFocused) button.focus();
        resolve(name);
      };
      input.onblur = () => done(input.value, false);
      input.onkeydown = (event) => {
        const isDone = (event.key === "Enter" && !event.isComposing) || event.key === "Escape";
        if (!isDone) return;
        event.preventDefault(); // the rest of this key press would go to the button
        done(event.key === "Enter" ? input.value : null, true);
      };
    });
  }

  /** The word that an element shows, from `entry.words`. */
  wordAt(element) {
    const paragraph = element.closest("p");
    const entry = this.#entries.get(paragraph);
    const index = [...paragraph.querySelectorAll(".word")].indexOf(element);
    return piecesOf(entry.text, entry.words).filter(({ word }) => word !== null)[index].word;
  }

  /** Times and confidence of the word that `element` shows, beside it; `isSaid`: to a screen reader too. */
  showWord(element, { isSaid }) {
    const { word, start, end, probability } = this.wordAt(element);
    const box = byId("word");
    const times = `${clock(start)} – ${clock(end)} · ${Math.round(100 * probability)} %`;
    box.setAttribute("aria-live", isSaid ? "polite" : "off");
    box.textContent = isSaid ? `${word} ${times}` : times;
    this.#shown = element;
    this.placeWord();
  }

  /** What is shown of a word stays beside it where the text is scrolled. */
  placeWord() {
    if (this.#shown === null) return;
    const box = byId("word");
    const [at, own] = [this.#shown.getBoundingClientRect(), box.getBoundingClientRect()];
    const top = at.top >= own.height + 4 ? at.top - own.height - 4 : at.bottom + 4;
    box.style.top = `${top}px`;
    box.style.left = `${Math.max(0, Math.min(at.left, innerWidth - own.width))}px`;
  }

  hideWord() {
    this.#shown = null;
    byId("word").textContent = "";
  }

  /** The word that the arrow keys have come to, `step` words from the one before; null where there is none. */
  moveWord(step) {
    const words = [...document.querySelectorAll("#finals .word")];
    const old = this.currentWord();
    const index = old === null ? words.length - 1 : words.indexOf(old) + step;
    const next = words[Math.max(0, Math.min(words.length - 1, index))] ?? null;
    old?.classList.remove("current");
    next?.classList.add("current");
    next?.scrollIntoView({ block: "nearest" });
    return next;
  }

  currentWord() {
    return document.querySelector("#finals .current");
  }

  clear() {
    byId("finals").replaceChildren();
    this.hideWord();
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
