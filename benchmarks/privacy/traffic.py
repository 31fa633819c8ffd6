"""A run's traffic: the doors that take words, with planted ones; what goes well, is refused, or fails."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from benchmarks.privacy.leaky_engine import DIE, FAIL
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16

TIMEOUT_S: Final = 60.0
FAILING_S: Final = 15.0
"""What fails is tried again for a while; how long that takes is not what this is about."""
FRAME_SAMPLES: Final = SAMPLE_RATE_HZ // 5
LARGE_BYTES: Final = 24 * 1024 * 1024
"""More than is kept in memory where privacy is not strict."""


class Traffic:
    """`words` by kind; `audio` has speech; `wav` is the same as a file."""

    def __init__(self, url: str, words: Mapping[str, str], audio: Pcm16, wav: bytes) -> None:
        self._url = url
        self._words = words
        self._audio = audio
        self._wav = wav
        self._headers = {
            "authorization": f"Bearer {words['apikey']}",
            "x-request-id": words["requestid"],
            "user-agent": words["useragent"],
        }
        self.num_requests = 0

    async def run(self) -> None:
        await self.live()
        await self.uploads()
        await self.refused()
        await self.live(FAIL)
        await self.uploads(FAIL)

    async def live(self, more: str = "") -> None:
        """A session of our own protocol, one of Deepgram's and one of OpenAI's."""
        prompt, timeout_s = f"{self._words['prompt']} {more}", FAILING_S if more else TIMEOUT_S
        start = {"prompt": prompt, "hotwords": self._words["hotword"], "lang_code": "en"}
        session_id = f"{self._words['sessionid']}{more}"
        async with self._socket("/ws/stt") as native:
            await native.send(
                json.dumps({"type": "start_session", "session_id": session_id, "config": start})
            )
            await self._speak(native, json.dumps({"type": "end_session"}), timeout_s)
        keyterm = f"{self._words['keyterm']} {more}".replace(" ", "%20")
        query = f"/v1/listen?encoding=linear16&sample_rate=16000&keyterm={keyterm}&tag={self._words['tag']}"
        async with self._socket(query) as deepgram:
            await self._speak(deepgram, json.dumps({"type": "CloseStream"}), timeout_s)

    async def uploads(self, more: str = "") -> None:
        prompt, name = f"{self._words['prompt']} {more}", f"{self._words['filename']}.wav"
        async with self._client(FAILING_S if more else TIMEOUT_S) as client:
            file = {"file": (name, self._wav)}
            words = {"prompt": prompt, "hotwords": self._words["hotword"]}
            for path, fields in (
                ("/transcribe", words),
                ("/v1/audio/transcriptions", {"model": "leaky", "prompt": prompt}),
                ("/v1/audio/transcriptions", {"model": "leaky", "prompt": prompt, "stream": "true"}),
            ):
                await self._post(client, path, files=file, data=fields)
            await self._post(
                client,
                f"/v1/listen?keyterm={self._words['keyterm']}%20{more}",
                content=self._wav,
                headers={"content-type": "audio/wav"},
            )
            await self._post(
                client,
                "/transcribe/stream",
                params=words,
                content=self._audio.tobytes(),
                headers={"content-type": "audio/pcm"},
            )

    async def refused(self) -> None:
        """What is malformed, damaged or not there, with words in each place."""
        words = " ".join(self._words.values())
        async with self._client() as client:
            name = f"{self._words['filename']}.mp3"
            await self._post(client, "/transcribe", files={"file": (name, words.encode() * 20)})
            await self._post(client, "/transcribe", files={name: (name, self._wav)})
            await self._post(client, "/transcribe", params={"language": self._words["prompt"]})
            await self._post(
                client, "/transcribe", content=words, headers={"content-type": f"text/{self._words['tag']}"}
            )
            fields = {"model": self._words["prompt"]}
            await self._post(
                client, "/v1/audio/transcriptions", files={"file": (name, self._wav)}, data=fields
            )
            await client.get(f"/{self._words['filename']}", params={"prompt": self._words["prompt"]})
            await client.get(f"/v1/models/{self._words['filename']}")
            await client.get("/v1/models", headers={"authorization": f"Bearer {self._words['wrongkey']}"})
            await client.get(
                f"/{self._words['filename']}", headers={"authorization": f"Bearer {self._words['wrongkey']}"}
            )
            page = {"origin": f"http://{self._words['tag']}.example"}
            await self._post(client, f"/transcribe/{self._words['filename']}", headers=page)
            await client.get("/v1/models", params={"api_key": self._words["wrongkey"]})
            await client.delete("/v1/data", params={"session": self._words["sessionid"]})
        async with self._socket("/ws/stt") as socket_:
            for text in (
                words,
                json.dumps({"type": self._words["prompt"]}),
                '{"type": "start_session", "config": ',
            ):
                await socket_.send(text)
            await socket_.send(
                json.dumps({"type": "start_session", "config": {"lang_code": self._words["prompt"]}})
            )
        with suppress(WebSocketException, OSError):
            async with connect(
                self._ws("/ws/stt"), proxy=None, additional_headers={"x-api-key": self._words["wrongkey"]}
            ):
                pass

    async def die(self) -> None:
        """Ends the recogniser's process in the middle of a decode."""
        start = {"prompt": self._words["prompt"], "hotwords": DIE, "lang_code": "en"}
        async with self._socket("/ws/stt") as native:
            await native.send(json.dumps({"type": "start_session", "config": start}))
            await self._speak(native, json.dumps({"type": "end_session"}), timeout_s=FAILING_S)

    def with_a_large_upload_in_flight(self, work: Callable[[], None]) -> None:
        """Do `work` while the service has most of a large upload and waits for the rest."""
        host, _, port = self._url.removeprefix("http://").partition(":")
        body = (self._audio.tobytes() * (1 + LARGE_BYTES // self._audio.nbytes))[:LARGE_BYTES]
        head = (
            f"POST /transcribe HTTP/1.1\r\nhost: {host}\r\n"
            f"authorization: {self._headers['authorization']}\r\n"
            f"content-type: audio/wav\r\ncontent-length: {len(body) + 1000}\r\n\r\n"
        )
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
            connection.sendall(head.encode() + body)
            self.num_requests += 1
            work()

    async def _speak(self, socket_: ClientConnection, last: str, timeout_s: float) -> None:
        for first in range(0, len(self._audio), FRAME_SAMPLES):
            await socket_.send(self._audio[first : first + FRAME_SAMPLES].tobytes())
        await socket_.send(last)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                async for _ in socket_:
                    continue

    @asynccontextmanager
    async def _socket(self, path: str) -> AsyncIterator[ClientConnection]:
        self.num_requests += 1
        with suppress(WebSocketException):
            async with connect(
                self._ws(path), proxy=None, additional_headers=self._headers, ping_interval=None
            ) as socket_:
                yield socket_

    def _client(self, timeout_s: float = TIMEOUT_S) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._url, headers=self._headers, timeout=timeout_s, trust_env=False
        )

    async def _post(self, client: httpx.AsyncClient, path: str, **request: Any) -> None:
        self.num_requests += 1
        with suppress(httpx.TimeoutException):
            await client.post(path, **request)

    def _ws(self, path: str) -> str:
        return f"{self._url.replace('http', 'ws', 1)}{path}"
