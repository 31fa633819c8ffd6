/** A list of the server's that comes in pages, the newest first, kept up to date while it is looked at. */
const PAGE_ITEMS = 20;

export class Pages {
  items = [];
  hasOlder = false;
  #ask;
  #idOf;
  #next;
  #isExtended = false;

  /** `ask(query)` answers `{items, next}`, null where there is nothing to be had; `idOf(item)` names one. */
  constructor(ask, idOf) {
    this.#ask = ask;
    this.#idOf = idOf;
  }

  /** The newest ones again, in front of the older ones that were loaded. */
  async refresh() {
    const page = await this.#ask(`limit=${PAGE_ITEMS}`);
    if (page === null) return;
    const last = page.items.at(-1);
    const known = new Set(page.items.map(this.#idOf));
    // what stood among the newest and is not there any more has been deleted
    const older = page.next === undefined ? [] : this.items.filter((one) => one.created_at <= last.created_at);
    this.items = [...page.items, ...older.filter((one) => this.#isExtended && !known.has(this.#idOf(one)))];
    if (!this.#isExtended || page.next === undefined) this.#setNext(page.next);
  }

  async older() {
    const page = await this.#ask(`limit=${PAGE_ITEMS}&before=${encodeURIComponent(this.#next)}`);
    if (page === null) return;
    const known = new Set(this.items.map(this.#idOf));
    this.items = [...this.items, ...page.items.filter((one) => !known.has(this.#idOf(one)))];
    this.#isExtended = true;
    this.#setNext(page.next);
  }

  #setNext(next) {
    this.#next = next;
    this.hasOlder = next !== undefined;
  }

  /** It is gone, or has changed. */
  put(id, item) {
    this.items = this.items.flatMap((one) => (this.#idOf(one) !== id ? [one] : item === null ? [] : [item]));
  }
}
