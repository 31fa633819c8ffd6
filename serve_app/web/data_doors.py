"""`DELETE /v1/data`: every store that keeps something is asked to forget."""

from __future__ import annotations

import structlog
from starlette.requests import Request
from starlette.responses import Response

from serve_app.core.erasure import Erasure
from serve_app.core.errors import InvalidMessage
from serve_app.protocols.data_doors import Erased, ErasureQuery
from serve_app.web.door import Door, Endpoints
from serve_app.web.records import RecordResponse

log = structlog.get_logger(__name__)

_TRUE, _FALSE = ("true", "1"), ("false", "0", "")


def data_endpoints(door: Door) -> Endpoints:
    async def erase(request: Request) -> Response:
        query = _query(request.query_params.multi_items())
        wanted = Erasure(query.session, query.key, query.clip)
        erased, failed = {}, []
        for eraser in door.erasers:
            if eraser.only_if_asked and not query.audit:
                continue
            try:
                erased[eraser.name] = await eraser.erase(wanted)
            except Exception:
                log.exception("a store could not erase", store=eraser.name)
                failed.append(eraser.name)
        answer = Erased(erased=erased, failed=tuple(failed))
        return RecordResponse(answer, status_code=503 if failed else 200)

    return {"eraseData": erase}


def _query(items: list[tuple[str, str]]) -> ErasureQuery:
    given = dict(items)
    audit = given.pop("audit", "")
    unknown = sorted(given.keys() - {"session", "key", "clip"})
    if unknown or len(items) != len({name for name, _ in items}):
        raise InvalidMessage("the parameters are session, key, clip and audit, each once")
    if audit not in _TRUE + _FALSE:
        raise InvalidMessage("audit is true or false")
    return ErasureQuery(**given, audit=audit in _TRUE)
