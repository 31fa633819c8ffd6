"""The pages of the documentation in a real browser, against the real graph, with speech in the microphone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from benchmarks.service import ServiceUnderTest
from cluster.conftest import clip, reference, word_error_rate
from fakes.chromium import Page, code_blocks, microphone_of, needs_chromium, open_page, serving_pages

CHECKOUT = Path(__file__).resolve().parents[2]
NAME = "short_0"
PORT_SHOWN = "127.0.0.1:8000"
LEAD_S = 3.0
"""The recording begins when the browser opens the microphone, before its page listens."""

pytestmark = [pytest.mark.cluster, pytest.mark.models, needs_chromium]


def readmes_finals(page: Page) -> list[str]:
    return [line[1] for line in page.console if line[0] == "final"]


def recorders_finals(page: Page) -> list[str]:
    return [line[0] for line in page.console]


@pytest.mark.parametrize(
    ("shown_on", "start", "finals"),
    [("README.md", "#start", readmes_finals), ("docs/api.md", "#record", recorders_finals)],
    ids=["audio-worklet", "media-recorder"],
)
async def test_what_is_said_to_the_page_is_written_there(
    service: ServiceUnderTest,
    page_port: int,
    tmp_path: Path,
    shown_on: str,
    start: str,
    finals: Callable[[Page], list[str]],
) -> None:
    (example,) = code_blocks(CHECKOUT / shown_on, "html")
    address = urlsplit(service.url).netloc
    (tmp_path / "page.html").write_text(example.replace(PORT_SHOWN, address))
    spoken = np.concatenate([clip(NAME), np.zeros(32_000, np.int16)])
    microphone = microphone_of(spoken, tmp_path / "microphone.wav", lead_s=LEAD_S)
    said = reference(NAME)

    def is_said(page: Page) -> bool:
        return len(" ".join(finals(page)).split()) >= len(said.split()) - 1

    with serving_pages(tmp_path, page_port) as origin:
        async with open_page(f"{origin}/page.html", tmp_path, microphone) as page:
            await page.click(start)
            await page.until(lambda: is_said(page))
            assert page.failures == []
    assert word_error_rate(said, " ".join(finals(page))) <= 0.2
