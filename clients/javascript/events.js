/** Listeners by event type. */
export class Events {
  #listeners = new Map();

  /** Returns a function that stops the listener. */
  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  emit(event) {
    for (const listener of [...(this.#listeners.get(event.type) ?? [])]) {
      try {
        listener(event);
      } catch (error) {
        // the caller's mistake must show, and must not stop what calls us
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

/** A promise with its `resolve` and `reject`; a rejection that is not awaited is no error. */
export function deferred() {
  const result = {};
  result.promise = new Promise((resolve, reject) => Object.assign(result, { resolve, reject }));
  result.promise.catch(() => {});
  return result;
}
