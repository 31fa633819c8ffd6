"""The live page in a real Chromium against the real graph: speech, lost connections, a killed ingress."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.service import ServiceUnderTest
from cluster.conftest import SPOKEN, clip, kill_ingress, reference, word_error_rate
from fakes.chromium import Page, microphone_of, needs_chromium
from fakes.live_page import finals, live_page_at, open_file, says, text_of

NAME = "short_0"
VISIT = SPOKEN / "visit.flac"
LEAD_S = 3.0
"""The recording begins when the browser opens the microphone, before the page listens."""

pytestmark = [pytest.mark.cluster, pytest.mark.models, needs_chromium]

HEARD = """
window.sockets = [];
window.told = [];
window.interims = [];
window.WebSocket = class extends WebSocket {
  constructor(...all) {
    super(...all);
    sockets.push(this);
    this.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "final_transcript" && message.text.trim() !== "") {
        if (!told.some(({ segment_id: id }) => id === message.segment_id)) told.push(message);
      }
      if (message.type === "partial_transcript") interims.push(message.text);
    });
  }
}; 1
"""
"""What the server says, read beside the page; and its sockets, so that a test can cut them."""


async def told(page: Page) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = await page.value("told")
    return messages


async def prepare(page: Page) -> None:
    await page.value(HEARD)
    await page.click("#options summary")
    await page.value("document.querySelector('#language').value = 'en', 1")


async def in_mid_sentence(page: Page, number: int) -> None:
    """Once the page shows interim words behind `number` finals."""

    async def is_said() -> bool:
        interim = await text_of(page, "#interim")
        return len(await finals(page)) >= number and len(interim.split()) >= 2

    await page.until(is_said)


async def undisturbed_text(service: ServiceUnderTest, folder: Path) -> list[str]:
    """The recording's finals where nothing goes wrong."""
    async with live_page_at(f"{service.url}/", folder, folder / "none.wav") as page:
        await prepare(page)
        await open_file(page, VISIT)
        await says(page, "#status", "Finished.")
        shown = await finals(page)
        assert shown == [message["text"].strip() for message in await told(page)]
        assert await page.value("interims.length") > 0
        assert (await text_of(page, "#speech")).endswith(" %")
    return shown


async def test_what_is_said_settles_into_the_servers_own_text(
    service: ServiceUnderTest, tmp_path: Path
) -> None:
    spoken = np.concatenate([clip(NAME), np.zeros(32_000, np.int16)])
    microphone = microphone_of(spoken, tmp_path / "microphone.wav", lead_s=LEAD_S)
    said = reference(NAME)
    async with live_page_at(f"{service.url}/", tmp_path, microphone) as page:
        await prepare(page)
        await page.click("#microphone")

        async def is_said() -> bool:
            return len(" ".join(await finals(page)).split()) >= len(said.split()) - 1

        await page.until(is_said)
        await page.click("#stop")
        await says(page, "#status", "Finished.")
        shown = await finals(page)
        messages = await told(page)
        interims = await page.value("interims.length")
    assert interims > 0
    assert shown == [message["text"].strip() for message in messages]
    assert word_error_rate(said, " ".join(shown)) <= 0.2


async def test_cut_connections_and_a_killed_ingress_lose_no_word(
    service: ServiceUnderTest, tmp_path: Path
) -> None:
    undisturbed = await undisturbed_text(service, tmp_path)
    for name, num_sockets in (("cut", 3), ("killed", 2)):
        folder = tmp_path / name
        await asyncio.to_thread(folder.mkdir)
        async with live_page_at(f"{service.url}/", folder, folder / "none.wav") as page:
            await prepare(page)
            await open_file(page, VISIT)
            if name == "cut":
                for count in (1, 2):
                    await in_mid_sentence(page, count - 1)
                    await page.value("sockets.at(-1).close(), 1")
                    await says(page, "#status", "Connected again; nothing was lost.")
            else:
                await in_mid_sentence(page, 1)
                await asyncio.to_thread(kill_ingress, service)
                await says(page, "#status", "Connected again; nothing was lost.")
                page.complaints.clear()  # the browser's own lines about sockets that were refused meanwhile
            await says(page, "#status", "Finished.")
            assert await finals(page) == undisturbed, name
            assert await page.value("sockets.length") >= num_sockets
