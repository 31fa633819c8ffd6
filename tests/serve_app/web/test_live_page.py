"""The live page in a real Chromium, against the doors with a scripted service behind them."""

from __future__ import annotations

import json
import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from fakes import fake_service
from fakes.app_server import running_app
from fakes.chromium import Page, microphone_of, needs_chromium, open_page
from fakes.fake_service import FakeService, FakeSettings
from fakes.live_page import (
    DROP,
    LINES,
    SECOND,
    SHIFTS,
    SOCKETS,
    STATUSES,
    Visit,
    at_full_speed,
    finals,
    live_page,
    live_page_at,
    picture,
    sample,
    says,
    text_of,
)
from serve_app.access.keyring import Keyring
from serve_app.audio.recordings import decode_recording
from serve_app.web.app import Guards, create_app

SPOKEN = Path(__file__).resolve().parents[3] / "audio" / "spoken"
KEY = "secret-of-the-operator"
pytestmark = [needs_chromium, pytest.mark.slow]


@pytest.fixture
def microphone(tmp_path: Path) -> Path:
    samples = decode_recording((SPOKEN / "visit.flac").read_bytes(), max_samples=60 * SECOND).samples
    return microphone_of(samples, tmp_path / "microphone.wav")


async def test_the_sample_plays_and_its_words_settle(
    port: int, service: FakeService, tmp_path: Path, microphone: Path
) -> None:
    async with live_page(port, tmp_path, microphone) as page:
        await says(page, "#models", "base (final), tiny.en (interim)")
        await page.click("#sample")

        async def has_interim() -> bool:
            return "halves" in await text_of(page, "#interim")

        await page.until(has_interim)
        assert await finals(page) == []
        await says(page, "#status", "Finished.")
        (session,) = service.sessions
        assert await finals(page) == [f"Olá, mundo. {len(session.audio)}"]
        assert await text_of(page, "#interim") == ""
        for plot in ("level", "interim-lag", "final-latency"):
            assert (await text_of(page, f"#{plot}")).split()[1] in ("dB", "ms")
        assert await text_of(page, "#load") == "normal"
        assert await page.value(PAINTED)
    # the browser decodes the sample as we do
    heard, own = session.audio.astype(int), sample().astype(int)
    assert len(heard) == len(own)
    assert np.abs(heard - own).max() <= 1


PAINTED = """
[...document.querySelectorAll("canvas:not(#speech-plot)")].every((canvas) =>
  canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0))
"""


async def test_the_microphone_with_options(
    port: int, service: FakeService, tmp_path: Path, microphone: Path
) -> None:
    async with live_page(port, tmp_path, microphone) as page:
        await page.click("#options summary")
        await page.value("document.querySelector('#language').value = 'pt', 1")
        await page.value("document.querySelector('#keyterms').value = ' Ana, Lisboa ', 1")
        await page.click("#translate")
        await page.click("#microphone")

        async def is_heard() -> bool:
            return any(np.abs(one.audio.astype(int)).max(initial=0) > 1000 for one in service.sessions)

        await page.until(is_heard)
        await says(page, "#status", "Listening.")
        await page.click("#stop")
        await says(page, "#status", "Finished.")
        (session,) = service.sessions
        assert await finals(page) == [f"Olá, mundo. {len(session.audio)}"]
    assert session.options.language == "pt"
    assert session.options.task == "translate"
    assert session.options.hotwords == "Ana, Lisboa"


async def test_a_file_that_is_dropped_is_sent_whole_and_its_text_downloaded(
    port: int, service: FakeService, tmp_path: Path, microphone: Path
) -> None:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    async with live_page(port, tmp_path, microphone) as page:
        await page.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        await at_full_speed(page)
        for count in (1, 2):
            await page.value(DROP)
            await says(page, "#status", "Finished.")
            await page.until(partial(shows, page, count))
        total = len(sample())
        assert await finals(page) == [f"Olá, mundo. {total}"] * 2
        kept = {name: await downloaded(page, downloads, name) for name in ("txt", "srt", "vtt", "json")}
    end_ms = round(total / 16)
    assert kept["txt"] == f"Olá, mundo. {total}\n" * 2
    assert kept["srt"].startswith("1\n00:00:00,000 --> 00:00:0")
    assert kept["vtt"].startswith("WEBVTT\n\n00:00:00.000 --> ")
    segments = json.loads(kept["json"])["segments"]
    # the second recording's times go on where the first one's text ended
    assert [round(1000 * one["start"]) for one in segments] == [0, end_ms]
    assert [round(1000 * one["end"]) for one in segments] == [end_ms, 2 * end_ms]
    assert service.sessions[0].audio.tobytes() == service.sessions[1].audio.tobytes()


async def shows(page: Page, num_finals: int) -> bool:
    return len(await finals(page)) == num_finals


async def downloaded(page: Page, folder: Path, name: str) -> str:
    await page.click(f"[data-download={name}]")
    path = folder / f"transcript.{name}"

    async def is_there() -> bool:
        return path.exists()

    await page.until(is_there)
    return path.read_text()


async def test_a_connection_that_is_cut_twice_loses_nothing_and_the_page_says_so(
    port: int, service: FakeService, tmp_path: Path, microphone: Path
) -> None:
    async with live_page(port, tmp_path, microphone) as page:
        await page.value(SOCKETS)
        await page.value(STATUSES)
        await page.click("#sample")
        for cut in (1, 2):

            async def is_heard(cut: int = cut) -> bool:
                return len(service.sessions) == cut and service.sessions[-1].num_samples > SECOND * cut

            await page.until(is_heard)
            await page.value("sockets.at(-1).close(), 1")
        await says(page, "#status", "Finished.")
        total = len(sample())
        assert await finals(page) == [f"Olá, mundo. {total}"]
        said = await page.value("statuses")
    assert len(service.sessions) == 3
    assert len(service.sessions[-1].audio) == total
    assert said.count("Connection lost. Trying again; what is said meanwhile is kept.") == 2
    assert said.count("Connected again; nothing was lost.") == 2


async def test_a_server_with_keys_is_given_one(
    service: FakeService, tmp_path: Path, microphone: Path
) -> None:
    app = create_app(service, FakeSettings(idle_timeout_s=120.0), guards=Guards(keys=Keyring(plain=KEY)))
    with running_app(app) as port:
        async with open_page(f"http://127.0.0.1:{port}/", tmp_path, microphone) as page:
            await says(page, "#status", "Ready.")
            await at_full_speed(page)
            await page.click("#sample")
            for entered, question in (
                (
                    "wrong",
                    "This server asks for an API key. It stays in this page "
                    "and is forgotten when you close it.",
                ),
                (KEY, "The server does not take this key."),
            ):
                await says(page, "#key-question", question)
                await page.until(lambda: page.value("document.querySelector('#key-dialog').open"))
                await page.click("#key")
                await page.ask("Input.insertText", text=entered)
                await page.click("#key-form .main")
            await says(page, "#status", "Finished.")
            assert await finals(page) == [f"Olá, mundo. {len(sample())}"]
            assert page.failures == []
            assert len(page.complaints) == 2  # the browser's own lines about the two answers 401
            kept: Any = await page.value(
                "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
            )
    assert KEY not in kept


async def test_what_cannot_be_read_is_said_and_another_try_works(
    port: int, service: FakeService, tmp_path: Path, microphone: Path
) -> None:
    async with live_page(port, tmp_path, microphone) as page:
        await at_full_speed(page)
        await page.value(DROP.replace("[sound]", "['no sound']"))
        await says(page, "#status", "The browser cannot read this recording.")
        await page.click("#sample")
        await says(page, "#status", "Finished.")
        assert await finals(page) == [f"Olá, mundo. {len(sample())}"]


async def test_it_works_below_a_path(service: FakeService, tmp_path: Path, microphone: Path) -> None:
    app = Starlette(routes=[Mount("/speech", app=create_app(service, FakeSettings()))])
    with running_app(app) as port:
        async with live_page_at(f"http://127.0.0.1:{port}/speech/", tmp_path, microphone) as page:
            await at_full_speed(page)
            await page.click("#sample")
            await says(page, "#status", "Finished.")
            assert await finals(page) == [f"Olá, mundo. {len(sample())}"]


async def test_speakers_have_colours_and_nothing_above_the_interim_line_moves(
    port: int, tmp_path: Path, microphone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also makes the picture of docs/live-page.md, where `STT_PICTURES_DIR` says so."""
    monkeypatch.setattr(fake_service, "FakeSession", Visit)
    async with live_page(port, tmp_path, microphone) as page:
        await page.ask(
            "Emulation.setDeviceMetricsOverride", width=900, height=720, deviceScaleFactor=1, mobile=False
        )
        await page.value(SHIFTS)
        await page.value("document.querySelector('#diarize').checked = true, 1")
        await page.click("#sample")
        await says(page, "#stable", "Does light make")
        await page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
        taken = await picture(page, "live-page")
        assert await finals(page) == ["SPEAKER_01" + LINES[0][3], "SPEAKER_02" + LINES[1][3]]
        colours = await page.value(
            "[...document.querySelectorAll('.speaker')].map((name) => getComputedStyle(name).color)"
        )
        assert len(set(colours)) == 2
        await page.click("#stop")
        await says(page, "#status", "Finished.")
        assert await page.value("shifted") == []
    assert struct.unpack(">II", taken[16:24]) == (900, 720)


async def test_all_languages_fit_a_phone_in_both_themes(port: int, tmp_path: Path, microphone: Path) -> None:
    async with live_page(port, tmp_path, microphone) as page:
        await page.ask(
            "Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True
        )
        for theme in ("light", "dark"):
            media = [{"name": "prefers-color-scheme", "value": theme}]
            await page.ask("Emulation.setEmulatedMedia", features=media)
            assert await page.value(CONTRASTS) == []
        for language, ready in {
            "en": "Ready.",
            "de": "Bereit.",
            "pt": "Pronto.",
            "es": "Listo.",
            "fr": "Prêt.",
        }.items():
            await page.value(
                f"(document.querySelector('#interface').value = '{language}',"
                " document.querySelector('#interface').dispatchEvent(new Event('change')), 1)"
            )
            assert await text_of(page, "#status") == ready
            assert await page.value("document.documentElement.lang") == language
            assert await page.value("document.documentElement.scrollWidth <= innerWidth")
        await page.click("#options summary")
        tree = (await page.ask("Accessibility.getFullAXTree"))["nodes"]
    controls = [one for one in tree if one.get("role", {}).get("value") in CONTROLS]
    assert len(controls) >= 18
    assert [one for one in controls if not one["name"]["value"]] == []


CONTROLS = {"button", "checkbox", "combobox", "textbox", "log", "DisclosureTriangle"}
"""What a screen reader must be able to name."""


CONTRASTS = """
(() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[0-9.]+/g).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const own = getComputedStyle(element).backgroundColor;
    return own === "rgba(0, 0, 0, 0)" ? ground(element.parentElement) : own;
  };
  const samples = [0, 1, 2, 3, 4, 5].map((number) => {
    const sample = document.createElement("span");
    sample.className = `speaker speaker-${number}`;
    document.querySelector("#finals").append(sample);
    return sample;
  });
  const all = [...document.querySelectorAll("body *")];
  const texts = all.filter((one) => one.closest("dialog, details") === null);
  const faint = texts.filter((one) => {
    const [a, b] = [light(getComputedStyle(one).color), light(ground(one))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
  });
  samples.forEach((sample) => sample.remove());
  return faint.map((one) => one.outerHTML);
})()
"""
"""Elements whose text has a contrast below 4.5, which WCAG 2.2 AA asks for."""
