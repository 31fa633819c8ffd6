/** Why a session failed: `code` is the protocol's error code, CONNECTION_LOST, BUFFER_FULL or INVALID_ADDRESS. */
export class SessionError extends Error {
  constructor(code, message, retryable = false) {
    super(`${code}: ${message}`);
    this.name = "SessionError";
    this.code = code;
    this.detail = message;
    this.retryable = retryable;
  }

  /** As the `error` event; `fatal` where the session is over. */
  event(fatal) {
    return { type: "error", code: this.code, message: this.detail, retryable: this.retryable, fatal };
  }
}
