"""What one client does to the others, through whatever stands in front of the graph."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import httpx

from cluster.conftest import SPOKEN
from fakes.refused_uploads import broken_upload, refused_over_http2

REFUSED = {"/nope": 404, "/transcribe?language=klingon": 400, "/health": 405, "/v1/audio/translations": 400}
NUM_VICTIMS = 8
PATIENCE_S = 60
"""For one answer; a connection that still waits for the body of another client is never answered."""


def port_of(url: str) -> int:
    port = httpx.URL(url).port
    assert port is not None
    return port


async def other_clients_are_answered(url: str, verify: ssl.SSLContext | bool = True) -> None:
    """Two requests, each on a connection of its own, by HTTP/1.1 and HTTP/2."""
    for http2 in (False, True):
        async with httpx.AsyncClient(
            verify=verify, http1=not http2, http2=http2, trust_env=False, timeout=PATIENCE_S
        ) as client:
            assert (await client.get(f"{url}/health/live")).status_code == 200


async def refusals_harm_no_other_client(
    url: str, path: str, h2: ssl.SSLContext | None, verify: ssl.SSLContext | bool = True
) -> None:
    for _ in range(NUM_VICTIMS):
        async with asyncio.timeout(PATIENCE_S):
            assert await refused_over_http2(port_of(url), path, h2) == REFUSED[path]
        await other_clients_are_answered(url, verify)


async def broken_uploads_harm_no_other_client(
    url: str, path: str, h2: ssl.SSLContext | None, verify: ssl.SSLContext | bool = True
) -> None:
    for attempt in range(NUM_VICTIMS):
        await broken_upload(port_of(url), path, h2, reset=attempt % 2 == 0)
        await other_clients_are_answered(url, verify)


async def a_slow_upload_harms_no_other_client(url: str, verify: ssl.SSLContext | bool = True) -> None:
    """Others are answered while a body has stopped half way; then it goes on and is transcribed."""
    data = (SPOKEN / "short_0.flac").read_bytes()
    half_sent, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield data[: len(data) // 2]
        half_sent.set()
        await go_on.wait()
        yield data[len(data) // 2 :]

    async with httpx.AsyncClient(
        verify=verify, http1=False, http2=True, trust_env=False, timeout=PATIENCE_S
    ) as client:
        headers = {"content-type": "audio/flac"}
        upload = asyncio.create_task(
            client.post(f"{url}/transcribe", params={"language": "en"}, content=body(), headers=headers)
        )
        await half_sent.wait()
        for _ in range(NUM_VICTIMS):
            await other_clients_are_answered(url, verify)
        assert not upload.done()
        go_on.set()
        answer = await upload
    assert answer.status_code == 200
    assert answer.json()["transcript"]
