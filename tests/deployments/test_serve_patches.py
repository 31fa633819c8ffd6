"""Serve's own server names requests by our middleware, and so once."""

from __future__ import annotations

import httpx
import pytest
from ray.serve._private import http_util

from deployments.serve_patches import name_requests_once
from fakes.fake_service import FakeService, FakeSettings
from serve_app.web.app import create_app


@pytest.mark.parametrize("given", [{}, {"x-request-id": "visit-7"}])
async def test_an_answer_through_serves_middlewares_has_one_id(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    monkeypatch.setattr(http_util, "RequestIdMiddleware", http_util.RequestIdMiddleware)
    name_requests_once()
    served = http_util._apply_middlewares(create_app(FakeService(), FakeSettings()), [])
    transport = httpx.ASGITransport(served)
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as client:
        answer = await client.get("/health/live", headers=given)
    ids = answer.headers.get_list("x-request-id")
    assert len(ids) == 1
    assert ids[0] == given.get("x-request-id", ids[0])
