"""Errors as HTTP answers, in one place: `{"detail": ...}`, the error's status, Retry-After where it helps.

No stack trace and no internal text leaves: an unexpected exception becomes a 500 with a fixed sentence.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler

from serve_app.errors import SottoError


def error_response(error: SottoError) -> JSONResponse:
    headers = {"retry-after": str(error.retry_after_s)} if error.retry_after_s is not None else None
    return JSONResponse({"detail": str(error)}, status_code=error.http_status, headers=headers)


async def _on_sotto_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SottoError)
    return error_response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _on_unexpected(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": "Internal server error"}, status_code=500)


def exception_handlers() -> dict[type[Exception], ExceptionHandler]:
    """For `Starlette(exception_handlers=...)`; the unexpected ones are logged by the server that runs it."""
    return {
        SottoError: _on_sotto_error,
        HTTPException: _on_http_error,
        ClientDisconnect: _on_client_gone,
        Exception: _on_unexpected,
    }
