"""What can go wrong on the client's side of a connection.

SottoClientError
├── ServerUnreachable   nothing answers at the address
├── ConnectionLost      the connection ended before `session_ended`
├── GaveUp              a session could not be resumed in time
├── RequestFailed       an HTTP answer other than 2xx, with its status and the server's explanation
└── SessionFailed       the server refused or ended the session, with its protocol error code
"""

from __future__ import annotations

import re


class SottoClientError(Exception):
    """Base of all of them; `str(error)` can be shown to a person."""


class ServerUnreachable(SottoClientError):
    """`url` is shown without the name and the password that it may carry."""

    def __init__(self, url: str, reason: object) -> None:
        shown = re.sub(r"//[^/]*@", "//", url)
        super().__init__(f"No server answers at {shown} ({reason}). Start one with `sotto serve`.")


class ConnectionLost(SottoClientError):
    """`close_code` is the WebSocket's (RFC 6455, section 7.4.1); 1006 and 1012 are worth a new try."""

    def __init__(self, close_code: int | None, reason: str) -> None:
        super().__init__(f"The connection ended before the session did ({close_code} {reason})".rstrip())
        self.close_code = close_code


class GaveUp(SottoClientError):
    """`last` is what the last attempt failed with."""

    def __init__(self, after_s: float, last: SottoClientError | None) -> None:
        super().__init__(f"The session could not be resumed for {after_s:g} s. {last or ''}".rstrip())
        self.last = last


class RequestFailed(SottoClientError):
    """`retry_after_s` is set where the server said when to come back."""

    def __init__(self, status: int, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"The server answered {status}: {detail}")
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s


class SessionFailed(SottoClientError):
    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.retryable = retryable
