/** A page's own texts in the language that is chosen, and the choice itself (`#interface`). */
import { pickLanguage } from "./texts.js";

export class Interface {
  #texts;
  #onSpoken;
  #lines = {}; // what is said in an element: [key, values] by its id

  /** `texts`: by language, the same keys in each; `onSpoken` is called when another language is chosen. */
  constructor(texts, onSpoken = () => {}) {
    this.#texts = texts;
    this.#onSpoken = onSpoken;
    const select = document.getElementById("interface");
    for (const code of Object.keys(texts)) {
      select.add(new Option(new Intl.DisplayNames([code], { type: "language" }).of(code), code));
    }
    select.onchange = () => this.#speak(select.value);
    this.#speak(pickLanguage(navigator.languages));
  }

  get code() {
    return document.documentElement.lang;
  }

  text(key, values = {}) {
    return this.#texts[this.code][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  }

  /** A name that the server uses, where there is a text for it; else as it comes. */
  word(group, name) {
    return this.#texts[this.code][group]?.[name] ?? name;
  }

  #speak(code) {
    document.documentElement.lang = code;
    document.getElementById("interface").value = code;
    for (const element of document.querySelectorAll("[data-text]")) {
      element.textContent = this.text(element.dataset.text);
    }
    for (const id of Object.keys(this.#lines)) this.#write(id);
    this.#onSpoken();
  }

  /** Say a text in the element `id`; no key: nothing. */
  say(id, key = null, values = {}) {
    this.#lines[id] = [key, values];
    this.#write(id);
  }

  #write(id) {
    const [key, values] = this.#lines[id];
    const element = document.getElementById(id);
    const text = key === null ? "" : this.text(key, values);
    if (element.textContent !== text) element.textContent = text; // said once by a screen reader
  }
}
