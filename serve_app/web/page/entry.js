/** Requests to the server that this page came from, with a key where it asks for one. */

const SERVER = new URL(".", location.href); // also where a proxy serves it below a path

/** An answer other than 2xx, with the server's own sentence. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Asks for a key once it is needed (`#key-dialog`), and keeps it in this page's memory and nowhere else. */
export class Entry {
  #say;
  #key = "";
  #asking = null;

  /** `say(key)`: a text of the question in the dialog. */
  constructor(say) {
    this.#say = say;
    const dialog = document.getElementById("key-dialog");
    document.getElementById("key-form").onsubmit = (event) => {
      event.preventDefault();
      dialog.close(document.getElementById("key").value.trim());
    };
    document.getElementById("key-cancel").onclick = () => dialog.close("");
  }

  /** The JSON that is answered; null for a key that was not entered. Rejects with `Refused`. */
  async json(path, options = {}) {
    return this.#withKey(async (headers) => {
      const answer = await fetch(new URL(path, SERVER), { ...options, headers: { ...options.headers, ...headers } });
      return [answer.status, await answer.text()];
    });
  }

  /** `POST` a file as it is; `progress` hears of the share that is sent. Answers as `json`. */
  async upload(path, file, progress, signal) {
    return this.#withKey((headers) => sent(new URL(path, SERVER), file, headers, progress, signal));
  }

  async #withKey(ask) {
    for (let question = "keyNeeded"; ; question = "keyRefused") {
      const used = this.#key;
      const [status, text] = await ask(used === "" ? {} : { authorization: `Bearer ${used}` });
      if (status !== 401) return read(status, text);
      if (used !== this.#key) continue; // another request was given one meanwhile
      this.#asking ??= this.#askedKey(question).finally(() => (this.#asking = null));
      this.#key = await this.#asking;
      if (this.#key === "") return null;
    }
  }

  #askedKey(question) {
    const dialog = document.getElementById("key-dialog");
    this.#say(question);
    document.getElementById("key").value = "";
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
    });
  }
}

/** `fetch` does not tell how much of a body has been sent. */
function sent(address, file, headers, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address);
    request.setRequestHeader("content-type", /^(audio|video)\//.test(file.type) ? file.type : "application/octet-stream");
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => progress(total > 0 ? loaded / total : 0);
    request.onload = () => resolve([request.status, request.responseText]);
    request.onerror = () => reject(new TypeError("the server cannot be reached"));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

function read(status, text) {
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // not every proxy in between answers in JSON
  }
  if (status >= 200 && status < 300) return body;
  const detail = body?.detail ?? body?.error?.message ?? body?.error ?? text;
  throw new Refused(status, (typeof detail === "string" ? detail : JSON.stringify(detail)).slice(0, 300));
}
