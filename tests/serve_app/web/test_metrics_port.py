"""`/metrics` off, and on a port of its own that several processes share."""

import asyncio
import socket

import httpx
import pytest

from fakes.fake_service import FakeService, FakeSettings
from serve_app.web.app import create_app
from serve_app.web.metrics_port import listen_for_scrapers, serve_metrics


async def text():
    return "stt_active_connections 0.0\n"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        (FakeSettings(), 200),
        (FakeSettings(metrics_enabled=False), 404),
        (FakeSettings(metrics_port=9090), 404),
    ],
)
async def test_on_the_services_port(settings, status):
    app = create_app(FakeService(), settings)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.get("/metrics")
    assert answer.status_code == status
    if status == 404:
        assert "metrics_port" in answer.json()["detail"]


async def test_replicas_share_the_port_and_each_answers():
    port = free_port()
    listeners = [listen_for_scrapers("127.0.0.1", port) for _ in range(2)]
    tasks = [asyncio.create_task(serve_metrics(listener, text)) for listener in listeners]
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            url = f"http://127.0.0.1:{port}"
            answers = [await client.get(f"{url}/metrics", headers={"connection": "close"}) for _ in range(8)]
            assert {answer.text for answer in answers} == {await text()}
            assert answers[0].headers["content-type"].startswith("text/plain; version=0.0.4")
            assert (await client.get(f"{url}/transcribe")).status_code == 404
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert all(listener.fileno() == -1 for listener in listeners)


def test_another_programs_port_is_refused_by_name():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"metrics_port: 127.0.0.1:{port} cannot be listened on"):
            listen_for_scrapers("127.0.0.1", port)
