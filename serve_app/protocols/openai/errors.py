"""OpenAI's shape of errors, `{"error": {"message", "type", "param", "code"}}`, and two of this door's own."""

from __future__ import annotations

from typing import Literal

from serve_app.core.errors import (
    ClientAddressRefused,
    ClientError,
    InvalidAudio,
    InvalidKey,
    InvalidMessage,
    LimitReached,
    OriginRefused,
    SottoError,
    SpeakersUnavailable,
    UnknownPath,
    UnsupportedFormat,
    UnsupportedLanguage,
    WrongMethod,
    WrongScope,
)
from serve_app.protocols.openai.records import ErrorFields


class RefusedParameter(InvalidMessage):
    """A request that cannot be served as it is: `param` names the field, `reason` is OpenAI's code for it."""

    def __init__(self, message: str, *, param: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.reason = reason


class ModelNotFound(RefusedParameter):
    """A model that is not hosted here."""

    http_status = 404

    def __init__(self, message: str, *, param: str = "model") -> None:
        super().__init__(message, param=param, reason="model_not_found")


def error_fields(error: SottoError) -> ErrorFields:
    """A code of ours only where the fault is ours."""
    param, code = _param_and_code(error)
    kind: Literal["invalid_request_error", "rate_limit_error", "server_error"] = "server_error"
    if isinstance(error, ClientError):
        kind = "invalid_request_error"
    elif isinstance(error, LimitReached):
        kind = "rate_limit_error"
    return ErrorFields(message=str(error), type=kind, param=param, code=code)


def error_status(error: SottoError) -> int:
    """OpenAI answers a file that it cannot read with 400, where our own doors say 415."""
    return 400 if isinstance(error, UnsupportedFormat) else error.http_status


def _param_and_code(error: SottoError) -> tuple[str | None, str | None]:
    match error:
        case RefusedParameter():
            return error.param, error.reason
        case UnsupportedLanguage():
            return "language", "invalid_language"
        case SpeakersUnavailable():
            return None, "speakers_unavailable"
        case UnsupportedFormat():
            return "file", "unsupported_format"
        case InvalidAudio():
            return None, "invalid_audio"
        case UnknownPath():
            return None, "unknown_url"
        case WrongMethod():
            return None, "method_not_supported"
        case InvalidKey():
            return None, "invalid_api_key"
        case WrongScope():
            return None, "missing_scope"
        case OriginRefused():
            return None, "origin_not_allowed"
        case ClientAddressRefused():
            return None, "ip_not_authorized"
        case LimitReached():
            return None, "rate_limit_exceeded"
        case ClientError():
            return None, None
        case _:
            return None, error.code.lower()
