"""The live page over a long talk: nothing that was read moves, no update holds it up, its memory stays.

A minute of talk as fast as it goes, ten updates for each of its seconds. The measurement is the same, longer:
`STT_PAGE_MINUTES=10 STT_PAGE_PACE=speech pytest -s tests/serve_app/web/test_live_page_endurance.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes import fake_service
from fakes.app_server import running_app
from fakes.chromium import Page, needs_chromium
from fakes.fake_service import TIMING, FakeService, FakeSession, FakeSettings
from fakes.live_page import SECOND, SHIFTS, at_full_speed, live_page, says, spaced
from serve_app.core.events import Final, Partial, SpeechHeard
from serve_app.core.samples import Pcm16
from serve_app.web.app import create_app

MINUTES = int(os.environ.get("STT_PAGE_MINUTES", "1"))
AT_PACE = os.environ.get("STT_PAGE_PACE") == "speech"
IS_MEASURED = MINUTES >= 10
STEP = SECOND // 10
STEPS_PER_FINAL = 40
WORDS = ["this", "is", "one", "of", "the", "many", "sentences", "that", "were", "said"]
MAX_HEAP_GROWTH = 1.10
MAX_TASK_MS = 50

pytestmark = [needs_chromium, pytest.mark.slow]


class LongTalk(FakeSession):
    """Ten interims a second, a final with words every four."""

    async def push(self, samples: Pcm16) -> None:
        before, self._total = self._total, self._total + len(samples)
        for step in range(before // STEP + 1, self._total // STEP + 1):
            number, part = divmod(step, STEPS_PER_FINAL)
            utterance, at = f"seg-{(step - 1) // STEPS_PER_FINAL:04d}", step * STEP
            self.say(SpeechHeard(at, (step % 10) / 10))
            if part == 0:
                start = at - STEPS_PER_FINAL * STEP
                text = f"{' '.join(WORDS).capitalize()} {number}."
                words = spaced(text.split(), start / SECOND, at / SECOND)
                self.say(
                    Final(utterance, number - 1, text, words, 0.9, -0.1, "en", 0.9, start, at, at, TIMING, at)
                )
            else:
                said = WORDS[: 1 + part * len(WORDS) // STEPS_PER_FINAL]
                text, stable = " ".join(said), len(" ".join(said[:-1]))
                start = number * STEPS_PER_FINAL * STEP
                self.say(Partial(utterance, text, stable, 0.9, "en", start, at, TIMING))

    def flush(self) -> None:
        pass


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(fake_service, "FakeSession", LongTalk)
    settings = FakeSettings(idle_timeout_s=120.0, max_session_s=3600.0)
    with running_app(create_app(FakeService(), settings)) as port:
        yield port


SILENCE = """
(() => {
  const samples = %d;
  const head = new ArrayBuffer(44);
  const view = new DataView(head);
  [..."RIFF....WAVEfmt "].forEach((letter, at) => view.setUint8(at, letter.charCodeAt(0)));
  view.setUint32(4, 36 + 2 * samples, true);
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, 16000, true);
  view.setUint32(28, 32000, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  [..."data"].forEach((letter, at) => view.setUint8(36 + at, letter.charCodeAt(0)));
  view.setUint32(40, 2 * samples, true);
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([head, new Uint8Array(2 * samples)], "long.wav", { type: "audio/wav" }));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
  return 1;
})()
"""

TASKS = """
window.tasks = [];
new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration)))
  .observe({ type: "longtask" }); 1
"""


@dataclass(frozen=True)
class Memory:
    """Bytes after a garbage collection: JavaScript's heap, the browser's own objects of the page, sound."""

    heap: float
    dom: float
    sound: float


async def memory(page: Page) -> Memory:
    await page.ask("HeapProfiler.collectGarbage")
    usage = await page.ask("Runtime.getHeapUsage")
    return Memory(usage["usedSize"], usage.get("embedderHeapUsedSize", 0), usage.get("backingStorageSize", 0))


async def num_finals(page: Page) -> int:
    number: int = await page.value("document.querySelectorAll('#finals p').length")
    return number


async def test_a_long_talk_moves_nothing_and_takes_no_more_memory(port: int, tmp_path: Path) -> None:
    async with live_page(port, tmp_path, tmp_path / "none.wav") as page:
        await page.value(SHIFTS)
        if not AT_PACE:
            await at_full_speed(page)
        await page.value(SILENCE % (MINUTES * 60 * SECOND))

        async def has_begun() -> bool:
            return await num_finals(page) >= 60 / 4 - 1

        await page.until(has_begun, limit_s=300)
        first = await memory(page)
        await page.value(TASKS)
        total = MINUTES * 60 * 10 // STEPS_PER_FINAL

        async def is_over() -> bool:
            return await num_finals(page) == total

        await page.until(is_over, limit_s=120 + 120 * MINUTES)
        tasks: list[Any] = await page.value("tasks")
        last = await memory(page)
        await says(page, "#status", "Finished.")
        shifted = await page.value("shifted")
        words = await page.value("document.querySelectorAll('#finals .word').length")
    figures = {"first": first, "last": last, "growth": last.heap / first.heap, "long_tasks_ms": tasks}
    print(figures, file=sys.stderr)
    assert shifted == []
    assert words == total * (len(WORDS) + 1)
    if IS_MEASURED:
        assert last.heap / first.heap <= MAX_HEAP_GROWTH
        assert [ms for ms in tasks if ms > MAX_TASK_MS] == []
