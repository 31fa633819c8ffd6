"""Every error that a caller can see, once: what it is called on the wire and whether to try again.

    SottoError
    ├── ClientError            the caller's fault: the same call will fail again
    │   ├── InvalidMessage     malformed JSON, unknown type, field out of range
    │   ├── InvalidAudio       bytes that are no decodable audio, odd byte counts, wrong rates
    │   ├── UnsupportedFormat  a container or codec outside the allowed list
    │   ├── UnsupportedLanguage
    │   ├── UnsupportedPolicy  a streaming policy that the engine here cannot serve
    │   ├── SpeakersUnavailable  nothing here tells speakers apart
    │   ├── PayloadTooLarge    a frame, body or recording over its limit
    │   ├── HeadersTooLarge    more headers than a request has
    │   ├── AddressTooLong     a path and query over the limit
    │   ├── BodyTooSlow        a body that trickles
    │   ├── SessionExists      the session id is in use
    │   ├── InvalidTicket      a resume ticket that is foreign, changed, expired or for other choices
    │   ├── UnknownClip        no clip of this key has the id
    │   ├── QuotaExceeded      the key's clips take all the room that it has
    │   ├── NothingKept        this server stores no recordings
    │   ├── UnknownPath        no door is there
    │   ├── WrongMethod        a door that takes other methods
    │   ├── UnknownJob         no job of this caller has that id
    │   ├── JobConflict        an idempotency key that came with another request
    │   ├── AddressRefused     an address that this server does not connect to for its clients
    │   ├── OriginRefused      a web page whose origin is not listed
    │   ├── ClientAddressRefused  a client whose address is not let in
    │   ├── InvalidKey         no key, or one that is not known, expired or revoked
    │   └── WrongScope         a key that does not open this door
    ├── CapacityError          we are full: try again after `retry_after_s`
    │   ├── MaxSessionsReached
    │   ├── QueueFull
    │   ├── QueueCongestion
    │   └── LimitReached       a key or an address has used what it may
    └── ServerError            our fault: the same call may succeed
        ├── InferenceError     a model failed on this item
        ├── RequestTimedOut    a recording took longer than requests may
        ├── JobsUnavailable    the store of jobs does not answer
        ├── ModelUnavailable   a model is missing or not loaded
        │   └── ReplicaUnhealthy  a model hangs or writes nonsense: its process is being replaced
        ├── StorageUnavailable  the storage of the clips does not answer
        └── InternalError

`code` is the native protocol's error code (seven are fixed by that protocol, `INVALID_TICKET`, `INVALID_KEY`,
`WRONG_SCOPE` and `LIMIT_REACHED` are ours); `http_status` and `close_code` (RFC 6455, section 7.4.1) are what
the HTTP and WebSocket doors answer with.
"""

from __future__ import annotations

from typing import ClassVar


class SottoError(Exception):
    """Base of everything a caller can see; `str(error)` is safe to send to the caller."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    http_status: ClassVar[int] = 500
    close_code: ClassVar[int] = 1011
    retryable: ClassVar[bool] = False
    retry_after_s: int | None = None


class ClientError(SottoError):
    code = "INVALID_MESSAGE"
    http_status = 400
    close_code = 1008


class InvalidMessage(ClientError):
    """A control message or parameter that cannot be understood or is out of range."""


class InvalidAudio(ClientError):
    """Audio that cannot be decoded; what was decoded before it has been kept."""


class UnsupportedFormat(ClientError):
    http_status = 415
    close_code = 1003


class UnsupportedLanguage(ClientError):
    pass


class UnsupportedPolicy(ClientError):
    pass


class SpeakersUnavailable(ClientError):
    """Who spoke was asked for where nothing tells speakers apart; the message says what to install."""


class PayloadTooLarge(ClientError):
    http_status = 413
    close_code = 1009


class HeadersTooLarge(ClientError):
    http_status = 431


class AddressTooLong(ClientError):
    http_status = 414


class BodyTooSlow(ClientError):
    http_status = 408


class SessionExists(ClientError):
    code = "SESSION_EXISTS"
    http_status = 409


class InvalidTicket(ClientError):
    code = "INVALID_TICKET"


class UnknownClip(ClientError):
    """Also for another key's: that it exists is not said."""

    http_status = 404


class QuotaExceeded(ClientError):
    http_status = 413


class NothingKept(ClientError):
    """Strict privacy: the doors of clips are closed."""

    http_status = 409


class UnknownPath(ClientError):
    http_status = 404


class WrongMethod(ClientError):
    http_status = 405


class UnknownJob(ClientError):
    http_status = 404


class JobConflict(ClientError):
    """An idempotency key was used before, for a request that was another one."""

    http_status = 409


class AddressRefused(ClientError):
    """A webhook's or a recording's address that could reach what only this server can reach."""


class OriginRefused(ClientError):
    """The browser says that the request comes from a page that may not use this server."""

    http_status = 403


class ClientAddressRefused(ClientError):
    """`allow_addresses` and `deny_addresses` keep the client's address out."""

    http_status = 403


class InvalidKey(ClientError):
    code = "INVALID_KEY"
    http_status = 401


class WrongScope(ClientError):
    """A key that holds, for other doors than this one."""

    code = "WRONG_SCOPE"
    http_status = 403


class CapacityError(SottoError):
    http_status = 503
    close_code = 1013
    retryable = True
    retry_after_s = 2


class MaxSessionsReached(CapacityError):
    code = "MAX_SESSIONS_REACHED"


class QueueFull(CapacityError):
    code = "QUEUE_FULL"


class QueueCongestion(CapacityError):
    code = "QUEUE_CONGESTION"


class LimitReached(CapacityError):
    """A key or an address has used what it may; there is more after `retry_after_s`."""

    code = "LIMIT_REACHED"
    http_status = 429

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServerError(SottoError):
    retryable = True


class InferenceError(ServerError):
    code = "INFERENCE_ERROR"


class RequestTimedOut(ServerError):
    """What was decoded so far is dropped: the request may be sent again when there is less to do."""

    http_status = 504
    retry_after_s = 30


class JobsUnavailable(ServerError):
    """The store of jobs, or the storage of their audio, does not answer."""

    http_status = 503
    retry_after_s = 5


class ModelUnavailable(ServerError):
    http_status = 503
    retry_after_s = 5


class ReplicaUnhealthy(ModelUnavailable):
    """What a replica's health check raises, and every call to it until it has been replaced."""


class StorageUnavailable(ServerError):
    http_status = 503
    retry_after_s = 5


class InternalError(ServerError):
    pass
