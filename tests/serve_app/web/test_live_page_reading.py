"""What a person does with the text of the live page: rename who spoke, look at words, hear them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import fake_service
from fakes.chromium import Page, needs_chromium
from fakes.fake_service import TIMING, FakeService, FakeSession
from fakes.live_page import (
    DROP,
    LINES,
    SECOND,
    SOCKETS,
    Visit,
    at_full_speed,
    finals,
    live_page,
    picture,
    sample,
    says,
    text_of,
)
from serve_app.core.events import Final, SpeakerRevision, SpeechHeard
from serve_app.core.jobs import Word

pytestmark = [needs_chromium, pytest.mark.slow]


PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}

PLAYED = """
window.played = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
  if (played.length === 0) played.push(...this.buffer.getChannelData(0).slice(0, 1600));
  return start.call(this, when);
}; 1
"""
"""The first tenth of a second that the page plays."""


async def press(page: Page, key: str, text: str | None = None) -> None:
    more = {} if text is None else {"text": text}
    codes = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "Tab": 9}
    await page.ask(
        "Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=codes[key], **more
    )
    await page.ask("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=codes[key])


async def hover(page: Page, selector: str) -> None:
    box = await page.value(
        f"(element => {{ element.scrollIntoView({{block: 'nearest'}});"
        " const {x, y, width, height} = element.getBoundingClientRect();"
        f" return [x + width / 2, y + height / 2]; }})(document.querySelector({json.dumps(selector)}))"
    )
    await page.ask("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])


async def speakers(page: Page) -> list[tuple[str, str]]:
    pairs = await page.value(
        "[...document.querySelectorAll('button.speaker')].map((one) =>"
        " [one.textContent, getComputedStyle(one).color])"
    )
    return [(name, colour) for name, colour in pairs]


async def test_speakers_are_renamed_in_place_and_words_are_played(
    port: int, tmp_path: Path, microphone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_service, "FakeSession", Visit)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    async with live_page(port, tmp_path, microphone) as page:
        await page.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        await page.value(PLAYED)
        await at_full_speed(page)
        await page.click("#diarize")
        await page.click("#sample")
        await says(page, "#status", "Finished.")
        before = await speakers(page)
        assert [name for name, _ in before] == ["SPEAKER_01", "SPEAKER_02", "SPEAKER_01"]
        assert await text_of(page, "#speech") == "90 %"

        await page.click("button.speaker")
        await page.ask("Input.insertText", text="  Dra. Ana ")
        await press(page, "Enter")
        renamed = [("Dra. Ana", before[0][1]), before[1], ("Dra. Ana", before[2][1])]
        assert await speakers(page) == renamed
        assert await page.value("document.activeElement.textContent") == "Dra. Ana"
        await press(page, "Enter", "\r")  # what has the focus is written over once more
        await page.ask("Input.insertText", text="Somebody")
        await press(page, "Escape")
        assert await speakers(page) == renamed
        await page.click("[data-download=txt]")

        async def is_there() -> bool:
            return (downloads / "transcript.txt").exists()

        await page.until(is_there)

        word = "#finals p:nth-child(2) .word:nth-of-type(4)"
        await hover(page, word)
        shown = await text_of(page, "#word")
        step_s = 2.5 / len(LINES[1][3].split())
        start_s = 2.5 + step_s * 3
        assert shown == f"0:{start_s:04.1f} – 0:{start_s + step_s:04.1f} · 95 %"
        await page.click(word)
        assert not await page.value("document.querySelector('#quiet').disabled")
        played: Any = await page.value("played")
        at = 16 * round(1000 * start_s)
        own = sample()[at : at + 1600] / 32768
        assert np.abs(np.array(played) - own).max() < 0.001
        await page.click("#quiet")
        await page.until(lambda: page.value("document.querySelector('#quiet').disabled"))

        plain = await shade(page)
        assert len(set(plain)) == 1
        await page.click("#shade")
        unsure, doubtful, rest = await shade(page)
        assert len({unsure, doubtful, rest}) == 3
        await page.ask("Emulation.setDeviceMetricsOverride", **PHONE)
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        await page.ask("Emulation.setEmulatedMedia", features=dark)
        await page.click("#options summary")
        await hover(page, ".doubtful")
        await picture(page, "live-page-phone")
        await page.click("#clear")
        assert await finals(page) == []
    assert (downloads / "transcript.txt").read_text() == (
        f"Dra. Ana: {LINES[0][3]}\nSPEAKER_02: {LINES[1][3]}\nDra. Ana: {LINES[2][3]}\n"
    )


async def shade(page: Page) -> list[str]:
    colours: list[str] = await page.value(
        "['.unsure', '.doubtful', '.word:not(.unsure, .doubtful)'].map((one) =>"
        " getComputedStyle(document.querySelector(one)).backgroundColor)"
    )
    return colours


async def test_stop_takes_effect_while_a_recording_is_decoded(
    port: int, service: FakeService, tmp_path: Path, microphone: Path
) -> None:
    async with live_page(port, tmp_path, microphone) as page:
        await at_full_speed(page)
        await page.value(
            "window.decode = OfflineAudioContext.prototype.decodeAudioData;"
            "window.asked = 0;"
            "OfflineAudioContext.prototype.decodeAudioData = () => new Promise(() => { asked += 1; }); 1"
        )
        await page.value(DROP)
        await page.until(lambda: page.value("asked === 1"))
        await page.click("#stop")
        await says(page, "#status", "Ready.")
        assert service.sessions == []
        await page.value("OfflineAudioContext.prototype.decodeAudioData = decode, 1")
        await page.click("#sample")
        await says(page, "#status", "Finished.")
        assert len(service.sessions) == 1


async def test_the_policy_and_the_probability_of_speech_are_asked_for(
    port: int, service: FakeService, tmp_path: Path, microphone: Path
) -> None:
    service.on_open = lambda session: session.say(SpeechHeard(512, 0.42))
    async with live_page(port, tmp_path, microphone) as page:
        await at_full_speed(page)
        await page.value("document.querySelector('#policy').value = 'local_agreement', 1")
        await page.click("#sample")
        await says(page, "#status", "Finished.")
        assert await text_of(page, "#speech") == "42 %"
    (session,) = service.sessions
    assert session.options.speech_probability
    assert session.options.policy.name == "local_agreement"


POSSIBLE = "import('./page/opus_socket.js').then(({ OpusSocket }) => OpusSocket.isPossible())"


async def test_opus_carries_the_sound_and_a_cut_connection_loses_none_of_it(
    port: int, service: FakeService, tmp_path: Path, microphone: Path
) -> None:
    async with live_page(port, tmp_path, microphone) as page:
        await page.click("#options summary")
        if not await page.value(POSSIBLE):
            pytest.skip("this Chromium encodes no Opus")
        await page.until(lambda: page.value("!document.querySelector('#opus').disabled"))
        await page.value(SOCKETS)
        await page.click("#opus")
        await page.click("#sample")

        async def is_heard() -> bool:
            return len(service.sessions) == 1 and service.sessions[0].num_samples > 2 * SECOND

        await page.until(is_heard)
        await page.value("sockets.at(-1).close(), 1")
        await says(page, "#status", "Finished.")
        (told,) = await finals(page)
        assert set(await page.value("sockets.map(({ url }) => new URL(url).pathname)")) == {"/ws/stream"}
    assert len(service.sessions) == 2
    heard, own = service.sessions[-1].audio.astype(float), sample().astype(float)
    assert told == f"Olá, mundo. {len(heard)}"
    assert 0 <= len(heard) - len(own) <= 1_280
    match = np.corrcoef(heard[: len(own)], own)[0, 1]
    assert match > 0.9, match


def say_in_arabic(session: FakeSession) -> None:
    words = tuple(
        Word(f" {word}", at_s, at_s + 0.5, 0.9) for word, at_s in (("مرحبا", 0.0), ("بالعالم", 0.5))
    )
    session.say(
        Final("seg-7777", 0, "مرحبا بالعالم", words, 0.9, -0.1, "ar", 0.9, 0, SECOND, SECOND, TIMING, SECOND)
    )
    session.say(SpeakerRevision("seg-7777", 0, 0, (0, 0), 0, SECOND))


async def test_text_from_right_to_left_and_its_keys(
    port: int, service: FakeService, tmp_path: Path, microphone: Path
) -> None:
    service.on_open = say_in_arabic
    async with live_page(port, tmp_path, microphone) as page:
        await at_full_speed(page)
        await page.click("#diarize")
        await page.click("#sample")
        await says(page, "#status", "Finished.")
        first = "getComputedStyle(document.querySelector('#finals p')).direction"
        assert (await finals(page))[0] == "SPEAKER_01مرحبا بالعالم"
        assert await page.value(first) == "rtl"
        await page.value("document.querySelector('#finals p:last-child').remove()")
        await page.value("document.querySelector('#transcript').focus()")
        for key, word in (("ArrowRight", "بالعالم"), ("ArrowRight", "مرحبا"), ("ArrowLeft", "بالعالم")):
            await press(page, key)
            assert await text_of(page, ".current") == word
