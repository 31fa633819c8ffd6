"""No client's refused, broken or slow request harms the next one's, and what a client reads at the front."""

from __future__ import annotations

import json

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from benchmarks.service import ServiceUnderTest
from cluster.harmless import (
    REFUSED,
    a_slow_upload_harms_no_other_client,
    broken_uploads_harm_no_other_client,
    other_clients_are_answered,
    refusals_harm_no_other_client,
)

pytestmark = [pytest.mark.cluster, pytest.mark.models]


@pytest.mark.parametrize("path", REFUSED)
async def test_refused_uploads(service: ServiceUnderTest, path: str) -> None:
    await refusals_harm_no_other_client(service.url, path, None)


@pytest.mark.parametrize("path", ["/transcribe", "/transcribe/stream"])
async def test_broken_uploads(service: ServiceUnderTest, path: str) -> None:
    await broken_uploads_harm_no_other_client(service.url, path, None)


async def test_a_slow_upload(service: ServiceUnderTest) -> None:
    await a_slow_upload_harms_no_other_client(service.url)


@pytest.mark.parametrize(
    ("path", "origin", "status"),
    [("/nope", None, 404), ("/v1/nope", None, 404), ("/ws/stt", "https://evil.example", 403)],
)
async def test_a_refused_handshake_says_why(
    service: ServiceUnderTest, path: str, origin: str | None, status: int
) -> None:
    url = service.url.replace("http", "ws") + path
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, proxy=None, additional_headers={"Origin": origin} if origin else None):
            pass
    answer = refused.value.response
    assert answer.status_code == status
    assert answer.body is not None
    body = json.loads(answer.body)
    assert body["error"]["message"] if path.startswith("/v1/") else body["detail"]
    assert len(answer.headers.get_all("x-request-id")) == 1
    await other_clients_are_answered(service.url)


async def test_a_page_of_the_service_itself_may_open_a_socket(service: ServiceUnderTest) -> None:
    url = service.url.replace("http", "ws") + "/ws/stt"
    async with connect(url, proxy=None, additional_headers={"Origin": service.url}) as socket:
        assert socket.response is not None
        assert len(socket.response.headers.get_all("x-request-id")) == 1


@pytest.mark.parametrize("given", ["visit-7", "a b", None])
async def test_an_answer_has_one_request_id(service: ServiceUnderTest, given: str | None) -> None:
    headers = {"x-request-id": given} if given else {}
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{service.url}/health/live", headers=headers)
    (request_id,) = answer.headers.get_list("x-request-id")
    assert (request_id == given) == (given == "visit-7")
