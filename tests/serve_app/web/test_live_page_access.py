"""The live page for people who do not point or do not see: axe-core, the keyboard, screen readers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from fakes import fake_service
from fakes.app_server import running_app
from fakes.axe import axe, axe_script
from fakes.chromium import Page, needs_chromium, open_page
from fakes.fake_service import FakeService, FakeSettings
from fakes.live_page import Visit, at_full_speed, finals, live_page, says, text_of
from serve_app.access.keyring import Keyring
from serve_app.web.app import Guards, create_app

pytestmark = [needs_chromium, pytest.mark.slow]


SIZES = {"phone": (360, 740, True), "desk": (1200, 800, False)}


async def faultless(page: Page) -> None:
    """No serious fault at any size in any theme."""
    for width, height, mobile in SIZES.values():
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        await page.ask("Emulation.setDeviceMetricsOverride", **metrics)
        for theme in ("light", "dark"):
            media = [{"name": "prefers-color-scheme", "value": theme}]
            await page.ask("Emulation.setEmulatedMedia", features=media)
            assert await axe(page) == [], (width, theme)


async def speaks(page: Page) -> bool:
    return bool(await finals(page)) and await text_of(page, "#interim") != ""


async def test_axe_finds_no_serious_fault_in_any_state(
    port: int, tmp_path: Path, microphone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axe_script()  # skips before a browser is started
    monkeypatch.setattr(fake_service, "FakeSession", Visit)
    async with live_page(port, tmp_path, microphone) as page:
        await faultless(page)
        await at_full_speed(page)
        await page.click("#diarize")
        await faultless(page)  # options are open
        await page.click("#realtime")
        await page.click("#sample")
        await page.until(partial(speaks, page))
        await faultless(page)  # in the middle of it
        await page.click("#stop")
        await says(page, "#status", "Finished.")
        await page.click("#shade")
        await page.click(".doubtful")
        await faultless(page)  # shaded, a word's times shown, playing or not
        await page.click("#quiet")
        await page.click("button.speaker")
        assert await page.value("document.activeElement.matches('input.speaker')")
        await faultless(page)  # a speaker's name is written
        await page.value("document.querySelector('#late').textContent = 'Late: the text is 3.0 s behind.', 1")
        await faultless(page)


async def test_axe_finds_no_serious_fault_where_a_key_is_asked_for(
    service: FakeService, tmp_path: Path, microphone: Path
) -> None:
    axe_script()
    app = create_app(service, FakeSettings(), guards=Guards(keys=Keyring(plain="secret-of-the-operator")))
    with running_app(app) as port:
        async with open_page(f"http://127.0.0.1:{port}/", tmp_path, microphone) as page:
            await says(page, "#status", "Ready.")
            await page.click("#sample")
            await page.until(lambda: page.value("document.querySelector('#key-dialog').open"))
            await faultless(page)


KEYS = {
    "Tab": (9, None),
    "Enter": (13, "\r"),
    " ": (32, " "),
    "Escape": (27, None),
    "ArrowLeft": (37, None),
    "ArrowRight": (39, None),
}


async def press(page: Page, key: str) -> None:
    code, text = KEYS[key]
    typed = {} if text is None else {"text": text}
    for kind, more in (("keyDown", typed), ("keyUp", {})):
        await page.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)


async def tab_to(page: Page, selector: str) -> None:
    for _ in range(40):
        if await page.value(f"document.activeElement.matches({selector!r})"):
            return
        await press(page, "Tab")
    raise AssertionError(f"the tabulator does not reach {selector}")


async def test_all_of_it_works_from_the_keyboard(
    port: int, tmp_path: Path, microphone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_service, "FakeSession", Visit)
    async with live_page(port, tmp_path, microphone) as page:
        await tab_to(page, "#options summary")
        await press(page, "Enter")
        await tab_to(page, "#diarize")
        await press(page, " ")
        await tab_to(page, "#realtime")
        await press(page, " ")
        await tab_to(page, "#sample")
        await press(page, "Enter")
        await says(page, "#status", "Finished.")
        assert len(await finals(page)) == 3

        await tab_to(page, "#transcript")
        for key in ("ArrowRight", "ArrowLeft", "ArrowLeft"):
            await press(page, key)
        assert await text_of(page, ".current") == "worse"
        assert (await text_of(page, "#word")).startswith("worse 0:06.")
        assert await page.value("document.querySelector('#word').ariaLive") == "polite"
        await press(page, "Enter")
        assert not await page.value("document.querySelector('#quiet').disabled")
        await press(page, "Escape")
        assert await page.value("document.querySelector('#quiet').disabled")

        await tab_to(page, "button.speaker")
        await press(page, "Enter")
        await page.ask("Input.insertText", text="Rui")
        await press(page, "Enter")
        await press(page, "Tab")  # one stop for each speaker, however often each of them spoke
        assert await page.value("document.activeElement.matches('button.speaker')")
        await press(page, "Tab")
        assert await page.value("document.activeElement.id") == "copy"
        named = await page.value(
            "[...document.querySelectorAll('button.speaker')].map((one) => one.textContent)"
        )
        assert named.count("Rui") in (1, 2)
        await tab_to(page, "#clear")
        await press(page, "Enter")
        assert await finals(page) == []


ANNOUNCED = """
window.announced = [];
for (const region of document.querySelectorAll("[role=log], [role=status], [aria-live=polite]")) {
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) for (const one of addedNodes) announced.push(one.textContent);
  }).observe(region, { childList: true, subtree: true });
} 1
"""
"""What a screen reader is given to say."""


async def test_a_screen_reader_is_told_finals_and_no_interims(
    port: int, tmp_path: Path, microphone: Path
) -> None:
    async with live_page(port, tmp_path, microphone) as page:
        await page.value(ANNOUNCED)
        await page.value(
            "window.interims = 0; new MutationObserver(() => { interims += 1; })"
            ".observe(document.querySelector('#interim'), { childList: true, subtree: true }); 1"
        )
        await at_full_speed(page)
        await page.click("#sample")
        await says(page, "#status", "Finished.")
        (final,) = await finals(page)
        said = await page.value("announced")
        assert await page.value("interims") > 0
        tree = (await page.ask("Accessibility.getFullAXTree"))["nodes"]
    assert said.count(final) == 1
    assert not any("halves" in one for one in said)
    (log,) = [one for one in tree if one.get("role", {}).get("value") == "log"]
    live = {one["name"]: one["value"].get("value") for one in log["properties"]}
    assert live["live"] == "polite"
