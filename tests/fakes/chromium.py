"""A real headless Chromium with a recording for its microphone, driven over its own DevTools protocol.

That protocol is JSON over a WebSocket, so that nothing has to be installed but the browser.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import os
import re
import shutil
import signal
import threading
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from websockets.asyncio.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next(filter(None, map(shutil.which, PROGRAMS)), None)
LIMIT_S = 120.0
DEVTOOLS_BYTES = 16 * 1024 * 1024

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it refuses to run as root with one; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--use-fake-ui-for-media-stream",  # the microphone is allowed without a question
    "--use-fake-device-for-media-stream",
)

needs_chromium = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium here: `apt-get install chromium`, or Google Chrome"
)


class Page:
    """One tab. `console` is what its scripts wrote, a list of arguments each; `failures` what they threw;
    `complaints` the browser's own errors: what could not be loaded, what a policy forbade."""

    def __init__(self, devtools: ClientConnection) -> None:
        self._devtools = devtools
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session: dict[str, str] = {}
        self._changed = asyncio.Event()
        self.console: list[list[Any]] = []
        self.failures: list[str] = []
        self.complaints: list[str] = []

    async def read(self) -> None:
        """Take what the browser says, until it hangs up."""
        async for text in self._devtools:
            message = json.loads(text)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            else:
                self._take(message["method"], message["params"])
            self._changed.set()

    def _take(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled":
            self.console.append([one.get("value", one.get("description")) for one in params["args"]])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.failures.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    async def open(self, address: str) -> None:
        target = await self.ask("Target.createTarget", url="about:blank")
        attached = await self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        await self.ask("Runtime.enable")
        await self.ask("Log.enable")
        await self.ask("Page.enable")
        await self.ask("Page.navigate", url=address)
        await self.until(lambda: self.value("document.readyState === 'complete'"))

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._devtools.send(
            json.dumps({"id": number, "method": method, "params": params, **self._session})
        )
        async with asyncio.timeout(LIMIT_S):
            message = await answer
        assert "error" not in message, f"{method}: {message['error']}"
        result: dict[str, Any] = message["result"]
        return result

    async def value(self, expression: str) -> Any:
        """Of JavaScript, awaited where it is a promise."""
        result = await self.ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def click(self, selector: str) -> None:
        """As a person does: the browser takes it for a gesture."""
        middle = (
            f"(() => {{ const element = document.querySelector({json.dumps(selector)});"
            " element.scrollIntoView({block: 'nearest'}); const box = element.getBoundingClientRect();"
            " return {x: box.x + box.width / 2, y: box.y + box.height / 2}; })()"
        )
        at = await self.value(middle)
        for kind in ("mousePressed", "mouseReleased"):
            await self.ask("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    async def until(self, condition: Callable[[], Any], limit_s: float = LIMIT_S) -> None:
        """Wait for a condition on what the page has said, or a `value` of it; a script's failure is ours."""
        async with asyncio.timeout(limit_s):
            while True:
                self._changed.clear()
                met = condition()
                if await met if asyncio.iscoroutine(met) else met:
                    return
                assert self.failures == [], self.failures
                if asyncio.iscoroutine(met):
                    await asyncio.sleep(0.05)
                else:
                    await self._changed.wait()


@asynccontextmanager
async def open_page(address: str, folder: Path, microphone: Path) -> AsyncIterator[Page]:
    """The page at `address` in a browser of its own; `folder` is for its files, `microphone` a recording."""
    assert PROGRAM is not None
    sound = f"--use-file-for-fake-audio-capture={microphone}%noloop"
    profile = f"--user-data-dir={folder / 'profile'}"
    browser = await asyncio.create_subprocess_exec(
        *(PROGRAM, *FLAGS, sound, profile, "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "HOME": str(folder)},
    )
    draining: asyncio.Task[None] | None = None
    try:
        devtools = await _devtools_address(browser)
        draining = asyncio.create_task(_drain(browser))
        async with connect(devtools, max_size=DEVTOOLS_BYTES, ping_interval=None) as connection:
            page = Page(connection)
            reading = asyncio.create_task(page.read())
            await page.open(address)
            yield page
            await connection.close()
            await reading
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        await browser.wait()
        if draining is not None:
            await draining


async def _devtools_address(browser: asyncio.subprocess.Process) -> str:
    said = []
    async with asyncio.timeout(LIMIT_S):
        assert browser.stderr is not None
        async for line in browser.stderr:
            said.append(line.decode(errors="replace"))
            if found := re.search(r"DevTools listening on (ws://\S+)", said[-1]):
                return found[1]
    raise AssertionError("Chromium did not start: " + "".join(said)[-2000:])


async def _drain(browser: asyncio.subprocess.Process) -> None:
    assert browser.stderr is not None
    async for _ in browser.stderr:
        pass


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving_pages(folder: Path, port: int = 0) -> Iterator[str]:
    """The origin at which `folder` is served."""
    server = ThreadingHTTPServer(("127.0.0.1", port), functools.partial(_QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def microphone_of(
    samples: npt.NDArray[np.int16], path: Path, *, rate_hz: int = 16_000, lead_s: float = 0.0
) -> Path:
    """A recording for the browser's microphone, with silence in front of it and behind."""
    silence = np.zeros(round(lead_s * rate_hz), np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.concatenate([silence, samples, np.zeros(rate_hz, np.int16)]).tobytes())
    return path


def code_blocks(page: Path, language: str) -> list[str]:
    """The examples of a Markdown page, as they stand."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
