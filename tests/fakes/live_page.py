"""The live page as its tests use it: open, looked at, cut off; and a service that tells a conversation."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from fakes.chromium import Page, open_page
from fakes.fake_service import TIMING, FakeSession
from serve_app.audio.recordings import decode_recording
from serve_app.core.events import Final, Partial, SpeakerRevision, SpeechHeard
from serve_app.core.jobs import Word
from serve_app.core.samples import Pcm16
from serve_app.web.page_files import page_files

SECOND = 16_000
PICTURES_DIR = os.environ.get("STT_PICTURES_DIR")
"""Where the pictures of the documentation are written: `docs/images`."""

SOCKETS = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...all) { super(...all); sockets.push(this); }
}; 1
"""
"""Lets a test cut the page's connections."""


@asynccontextmanager
async def live_page(port: int, folder: Path, microphone: Path) -> AsyncIterator[Page]:
    """The page, of which nothing may fail, be missing or be forbidden while a test uses it."""
    async with live_page_at(f"http://127.0.0.1:{port}/", folder, microphone) as page:
        yield page


@asynccontextmanager
async def live_page_at(address: str, folder: Path, microphone: Path) -> AsyncIterator[Page]:
    async with open_page(address, folder, microphone) as page:
        await says(page, "#status", "Ready.")
        yield page
        assert page.failures == []
        assert page.complaints == []


async def text_of(page: Page, selector: str) -> str:
    text: str = await page.value(f"document.querySelector({json.dumps(selector)}).textContent")
    return text


async def says(page: Page, selector: str, text: str) -> None:
    async def said() -> bool:
        return await text_of(page, selector) == text

    await page.until(said)


async def finals(page: Page) -> list[str]:
    lines: list[str] = await page.value(
        "[...document.querySelectorAll('#finals p')].map((line) => line.textContent)"
    )
    return lines


async def picture(page: Page, name: str) -> bytes:
    """The page as it looks now, a PNG; kept for the documentation where `STT_PICTURES_DIR` says so."""
    taken = base64.b64decode((await page.ask("Page.captureScreenshot", format="png"))["data"])
    if PICTURES_DIR is not None:
        await asyncio.to_thread(Path(PICTURES_DIR, f"{name}.png").write_bytes, taken)
    return taken


async def open_file(page: Page, path: Path) -> None:
    """As if a person had chosen it."""
    chosen = await page.ask("Runtime.evaluate", expression="document.querySelector('#file')")
    await page.ask("DOM.setFileInputFiles", files=[str(path)], objectId=chosen["result"]["objectId"])


async def at_full_speed(page: Page) -> None:
    await page.click("#options summary")
    await page.click("#realtime")


def sample() -> np.ndarray:
    return decode_recording(page_files()["sample.flac"].content, max_samples=60 * SECOND).samples


DROP = """
fetch("page/sample.flac").then((answer) => answer.blob()).then((sound) => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([sound], "spoken.flac", { type: "audio/flac" }));
  document.querySelector("#status").textContent = "";
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
})
"""


SHIFTS = """
window.shifted = [];
const lines = document.querySelector("#finals");
new PerformanceObserver((list) => {
  for (const { sources } of list.getEntries()) {
    for (const { node } of sources) if (lines.contains(node)) shifted.push(node.outerHTML);
  }
}).observe({ type: "layout-shift" }); 1
"""
"""Finals that the browser saw move."""


STATUSES = """
window.statuses = [];
new MutationObserver(() => statuses.push(document.querySelector("#status").textContent))
  .observe(document.querySelector("#status"), { childList: true }); 1
"""


LINES = (
    (0.0, 2.5, 0, "Good morning, what brings you here today?"),
    (2.5, 5.0, 1, "I have had a headache since Tuesday, mostly on the left."),
    (5.0, 7.0, 0, "Does light make it worse, or noise?"),
)
"""Start, end, speaker, words."""


def spaced(words: list[str], start_s: float, end_s: float) -> tuple[Word, ...]:
    """Words in equal time, the last of them uncertain."""
    step_s = (end_s - start_s) / len(words)
    times = [start_s + step_s * number for number in range(len(words))]
    sure = [0.95] * (len(words) - 2) + [0.6, 0.3]
    return tuple(
        Word(f" {word}", at_s, at_s + step_s, probability)
        for word, at_s, probability in zip(words, times, sure, strict=True)
    )


class Visit(FakeSession):
    """Says `LINES` as their sound comes, words one by one, who spoke a line behind its final."""

    async def push(self, samples: Pcm16) -> None:
        before, self._total = self._total, self._total + len(samples)
        for number, (start_s, end_s, speaker, text) in enumerate(LINES):
            start, end = round(start_s * SECOND), round(end_s * SECOND)
            words = text.split()
            where = (f"seg-{number:04d}", number)
            for count in range(1, len(words)):
                due = start + (end - start) * count // len(words)
                if before < due <= self._total:
                    said, kept = " ".join(words[:count]), len(" ".join(words[: count - 1]))
                    self.say(Partial(where[0], said, kept, 0.9, "en", start, due, TIMING))
            if before < end <= self._total:
                span = (start, end, end, TIMING, end)
                self.say(Final(*where, text, spaced(words, start_s, end_s), 0.9, -0.1, "en", 0.99, *span))
                self.say(SpeechHeard(end, 0.9))
                self.say(SpeakerRevision(*where, speaker, (), start, end))

    def flush(self) -> None:
        """Nothing more is known of a line that was not spoken to its end."""
