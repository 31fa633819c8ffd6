"""`sotto serve` with a certificate: HTTP/2, TLS and WebSocket over both, through the edge to the graph."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from cluster.conftest import LIMITS, SPOKEN, clip, reference, word_error_rate
from cluster.harmless import (
    REFUSED,
    a_slow_upload_harms_no_other_client,
    broken_uploads_harm_no_other_client,
    refusals_harm_no_other_client,
)
from fakes.extended_connect import extended_connect
from serve_app.launch.certificates import CertificateFiles, self_signed
from serve_app.launch.cluster import free_ports
from serve_app.launch.edge import EDGE_DIR
from serve_app.launch.processes import processes_of
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.messages import FinalTranscript, SessionEnded

pytestmark = [pytest.mark.cluster, pytest.mark.models]

START_TIMEOUT_S = 600


@dataclass
class SecureService:
    process: subprocess.Popen[bytes]
    port: int
    files: CertificateFiles
    runtime_dir: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def trust(self, *protocols: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.files.cert))
        context.set_alpn_protocols(list(protocols))
        return context

    def edges(self) -> list[psutil.Process]:
        folder = str(self.runtime_dir / EDGE_DIR)
        return [p for p in processes_of(self.runtime_dir) if any(folder in part for part in p.cmdline())]


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureService]:
    """A process of its own, as a person starts it: Ray reads its variables while it is imported."""
    folder = tmp_path_factory.mktemp("tls")
    files = self_signed(folder)
    port = free_ports(1)[0]
    said = folder / "said.txt"
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "STT_"))} | LIMITS
    command = [sys.executable, "-m", "serve_app.cli", "serve", "--profile", "cpu", "--port", str(port)]
    command += ["--tls-cert", str(files.cert), "--tls-key", str(files.key)]
    command += ["--model", "tiny.en", "--language", "en"]
    with said.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=environ,
        )
    try:
        yield SecureService(process, port, files, until_announced(process, said, port))
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=300)


def until_announced(process: subprocess.Popen[bytes], said: Path, port: int) -> Path:
    """Wait for the addresses; the runtime folder."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        logs = re.search(r"logs\s+(\S+)/session_latest", said.read_text())
        if logs is not None:
            assert f"Sotto answers at https://127.0.0.1:{port}" in said.read_text()
            assert f"wss://127.0.0.1:{port}/ws/stt" in said.read_text()
            assert "tiny.en on cpu" in said.read_text(), "the status was read past the edge"
            return Path(logs[1])
        time.sleep(0.2)
    pytest.fail(said.read_text())


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_ndjson_lines_come_before_the_upload_ends_over_http_2(secure: SecureService) -> None:
    data = (SPOKEN / "visit.flac").read_bytes()
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "-N", "--http2", "--cacert", str(secure.files.cert), "--noproxy", "*"),
        *("-X", "POST", "-T", ".", "-H", "Content-Type: audio/flac", "-w", "%{http_version}"),
        f"{secure.url}/transcribe/stream?language=en",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert curl.stdin is not None
    assert curl.stdout is not None
    heard = asyncio.Event()

    async def send() -> None:
        size = len(data) // 60 + 1
        for start in range(0, len(data), size):
            if start > len(data) * 4 // 5:
                await heard.wait()
            curl.stdin.write(data[start : start + size])
            await curl.stdin.drain()
        curl.stdin.close()

    sender = asyncio.create_task(send())
    lines, num_finals = [], 0
    while line := await curl.stdout.readline():
        lines.append(line)
        num_finals += b"final_transcript" in line
        if num_finals == 3:  # the rest is sent because these came
            heard.set()
    await sender
    assert await curl.wait() == 0
    assert lines[-1] == b"2"
    messages = [json.loads(line) for line in lines[:-1]]
    assert messages[-1]["type"] == "session_ended"
    said = " ".join(message["text"] for message in messages if message["type"] == "final_transcript")
    assert word_error_rate(reference("visit"), said) <= 0.08


async def test_live_over_wss(secure: SecureService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.files.cert))
    audio = clip("phone_call")
    async with LiveClient(secure.url) as client:
        await client.start(SessionConfig(lang_code="en"))
        for start in range(0, len(audio), 1600):
            await client.send_audio(audio[start : start + 1600])
        await client.end()
        messages = [message async for message in client]
    said = " ".join(message.text for message in messages if isinstance(message, FinalTranscript))
    assert isinstance(messages[-1], SessionEnded)
    assert word_error_rate(reference("phone_call"), said) <= 0.12


async def test_live_inside_an_http_2_stream(secure: SecureService) -> None:
    audio = clip("short_0")
    async with extended_connect(secure.port, "/ws/stt", secure.trust("h2")) as socket:
        await socket.send(json.dumps({"type": "start_session", "config": {"lang_code": "en"}}))
        assert json.loads(await socket.recv())["type"] == "session_started"
        for start in range(0, len(audio), 1600):
            await socket.send(audio[start : start + 1600].tobytes())
        await socket.send(json.dumps({"type": "end_session"}))
        finals = []
        while (message := json.loads(await socket.recv()))["type"] != "session_ended":
            finals += [message["text"]] if message["type"] == "final_transcript" else []
    assert word_error_rate(reference("short_0"), " ".join(finals)) <= 0.12


@pytest.mark.parametrize("http2", [False, True])
async def test_the_other_doors(secure: SecureService, http2: bool) -> None:
    async with httpx.AsyncClient(
        verify=secure.trust(), http1=not http2, http2=http2, trust_env=False, timeout=60
    ) as client:
        ready = await client.get(f"{secure.url}/health/ready", headers={"X-Request-ID": "visit-7"})
        data = (SPOKEN / "short_0.flac").read_bytes()
        answer = await client.post(f"{secure.url}/transcribe", files={"file": ("a.flac", data)})
    assert ready.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert ready.status_code == 200
    assert ready.headers.get_list("x-request-id", split_commas=True) == ["visit-7"]
    assert answer.status_code == 200
    assert word_error_rate(reference("short_0"), answer.json()["transcript"]) <= 0.12


@pytest.mark.parametrize("path", REFUSED)
async def test_refused_uploads_harm_no_other_client(secure: SecureService, path: str) -> None:
    await refusals_harm_no_other_client(secure.url, path, secure.trust("h2"), secure.trust())


@pytest.mark.parametrize("path", ["/transcribe", "/transcribe/stream"])
async def test_broken_uploads_harm_no_other_client(secure: SecureService, path: str) -> None:
    await broken_uploads_harm_no_other_client(secure.url, path, secure.trust("h2"), secure.trust())


async def test_a_slow_upload_harms_no_other_client(secure: SecureService) -> None:
    await a_slow_upload_harms_no_other_client(secure.url, secure.trust())


async def test_cleartext_is_no_door(secure: SecureService) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"http://localhost:{secure.port}/health/ready")
    listening = {
        connection.laddr.ip
        for process in processes_of(secure.runtime_dir)
        if process.name() == "haproxy"
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


async def test_a_killed_edge_comes_back(secure: SecureService) -> None:
    (edge,) = secure.edges()
    edge.kill()
    client = httpx.AsyncClient(verify=secure.trust(), trust_env=False, timeout=60)
    async with client, asyncio.timeout(120):
        answer = None
        while answer is None:
            try:
                answer = await client.get(f"{secure.url}/health/live")
            except httpx.TransportError:
                await asyncio.sleep(0.1)
    assert answer.status_code == 200
    assert [p.pid for p in secure.edges()] != [edge.pid]


async def test_stopping_waits_for_no_open_session_and_leaves_nothing(
    secure: SecureService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test here."""
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.files.cert))
    async with LiveClient(secure.url) as client:
        await client.start(SessionConfig(lang_code="en"))
        secure.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(secure.process.wait, 300)
    assert secure.process.returncode == 0
    assert processes_of(secure.runtime_dir) == []
    assert not secure.runtime_dir.exists()
