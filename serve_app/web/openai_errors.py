"""Errors as OpenAI's doors answer them, in one place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serve_app.core.errors import InternalError, SottoError
from serve_app.protocols.openai.errors import error_fields, error_status
from serve_app.protocols.openai.records import Error
from serve_app.web.door import Door
from serve_app.web.records import RecordResponse
from serve_app.web.request_records import current_record

log = structlog.get_logger(__name__)


def refused(error: SottoError) -> Response:
    """`{"error": ...}` with its status, Retry-After where it helps."""
    current_record().failed(error)
    headers = {"retry-after": str(error.retry_after_s)} if error.retry_after_s is not None else None
    return RecordResponse(Error(error=error_fields(error)), status_code=error_status(error), headers=headers)


def answering(
    answer: Callable[[Request], Awaitable[Response]], counting: Door | None = None
) -> Callable[[Request], Awaitable[Response]]:
    """`answer` with its errors in OpenAI's shape; those of `counting` are counted."""

    async def answering(request: Request) -> Response:
        try:
            return await answer(request)
        except ClientDisconnect:
            raise
        except Exception as error:
            if counting is not None:
                counting.metrics.request_failed()
            if isinstance(error, SottoError):
                return refused(error)
            log.exception("openai door failed")
            return refused(InternalError("internal error"))

    return answering
