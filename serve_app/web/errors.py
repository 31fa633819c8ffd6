"""Errors as answers, in one place: in the shape of the door that was asked, with the error's status.

`{"detail": ...}`, OpenAI's `{"error": ...}` under `/v1`, Deepgram's at its own door, a text as `error` where
`/api/transcribe` stands for a page's own proxy; Retry-After where it helps.
No stack trace and no internal text leaves: an unexpected exception becomes a 500 with a fixed sentence.
"""

from __future__ import annotations

import uuid
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler, Receive, Scope, Send

from serve_app.core.errors import InternalError, InvalidKey, SottoError, WrongMethod
from serve_app.protocols.deepgram import doors as deepgram
from serve_app.protocols.deepgram.recorded import error_body
from serve_app.protocols.native.clips import ErrorText
from serve_app.protocols.native.doors import TRANSCRIBE_PATH
from serve_app.protocols.openai.errors import error_fields, error_status
from serve_app.protocols.openai.records import Error
from serve_app.web.records import RecordResponse
from serve_app.web.request_records import current_record
from serve_app.web.uploads import header_text
from sotto_client.wire import Detail

OPENAI_PREFIX = "/v1"
MAX_DG_ERROR_CHARS = 200

MAX_CLOSE_REASON_BYTES = 123
"""RFC 6455, section 5.5: a control frame's 125 bytes less the code."""


def error_response(scope: Scope, error: SottoError) -> Response:
    """`error` as clients of the path that `scope` asks for expect it."""
    current_record().failed(error)
    answer = _in_its_shape(scope, error)
    if error.retry_after_s is not None:
        answer.headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, InvalidKey):
        answer.headers["www-authenticate"] = "Bearer"  # RFC 9110, section 15.5.2
    return answer


def _in_its_shape(scope: Scope, error: SottoError) -> Response:
    path, text, status = asked_path(scope), str(error), error.http_status
    if path in (deepgram.PATH, deepgram.GRANT_PATH):
        request_id = str(uuid.uuid4())
        headers = {"dg-request-id": request_id, "dg-error": header_text(text, MAX_DG_ERROR_CHARS)}
        return RecordResponse(error_body(error, request_id), status_code=status, headers=headers)
    if path == OPENAI_PREFIX or path.startswith(f"{OPENAI_PREFIX}/"):
        return RecordResponse(Error(error=error_fields(error)), status_code=error_status(error))
    is_proxied = path == TRANSCRIBE_PATH and not _names_clip(scope)
    return RecordResponse(ErrorText(error=text) if is_proxied else Detail(detail=text), status_code=status)


def _names_clip(scope: Scope) -> bool:
    return any(name == "clip_id" for name, _ in parse_qsl(scope.get("query_string", b"").decode("latin-1")))


async def refuse(scope: Scope, receive: Receive, send: Send, error: SottoError) -> None:
    """Answer a request, or the handshake of a WebSocket, with `error`.

    A server that cannot give a handshake an answer of ours closes it before it was accepted (a bare 403).
    """
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        reason = str(error).encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")
        await send({"type": "websocket.close", "code": error.close_code, "reason": reason})
        return
    await error_response(scope, error)(scope, receive, send)


def asked_path(scope: Scope) -> str:
    """The path below where the application is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


async def _on_sotto_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SottoError)
    return error_response(request.scope, error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = error.headers or {}
    if error.status_code != WrongMethod.http_status:
        return RecordResponse(Detail(detail=error.detail), status_code=error.status_code, headers=headers)
    allowed = headers.get("Allow", "")
    wrong = WrongMethod(f"{request.method} is no method of {asked_path(request.scope)}: it takes {allowed}")
    answer = error_response(request.scope, wrong)
    answer.headers["allow"] = allowed
    return answer


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # the client is gone


async def _on_unexpected(request: Request, error: Exception) -> Response:
    return error_response(request.scope, InternalError("Internal server error"))


def exception_handlers() -> dict[type[Exception], ExceptionHandler]:
    """For `Starlette(exception_handlers=...)`; the unexpected ones are logged by the server that runs it."""
    return {
        SottoError: _on_sotto_error,
        HTTPException: _on_http_error,
        ClientDisconnect: _on_client_gone,
        Exception: _on_unexpected,
    }
