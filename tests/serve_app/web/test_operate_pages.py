"""The pages of recordings and for operators in a real Chromium, against the doors with a scripted service."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fakes.app_server import running_app
from fakes.axe import axe
from fakes.chromium import Page, needs_chromium, open_page
from fakes.encoded_audio import chirp, wav
from fakes.fake_service import TWO_VOICES, FakeService, FakeSettings
from fakes.job_office import JobOffice, job_office
from fakes.kept_keys import MemoryKeys, cheap_key
from fakes.local_metrics import LocalInstruments
from serve_app.access.caller import KeyLimits, Scope
from serve_app.access.keyring import Keyring
from serve_app.clips.store import StoredClips
from serve_app.service.contract import DeploymentReplicas, ServiceStatus
from serve_app.telemetry.exposition import merge_expositions
from serve_app.telemetry.families import (
    GPU_MEMORY_TOTAL,
    GPU_MEMORY_USED,
    GPU_POWER,
    GPU_TEMPERATURE,
    GPU_UTILISATION,
)
from serve_app.telemetry.metrics import Metrics
from serve_app.web.app import Guards, create_app
from serve_app.web.door import Kept

PICTURES_DIR = os.environ.get("STT_PICTURES_DIR")
"""Where the pictures of the documentation are written: `docs/images`."""

LANGUAGES = ("en", "de", "pt", "es", "fr")
TALK = wav(chirp(2.0, 16_000), 16_000)
REPLICAS = [
    DeploymentReplicas("Ingress", "HEALTHY", (("RUNNING", 2),)),
    DeploymentReplicas("FinalAsr", "UPSCALING", (("RUNNING", 1), ("STARTING", 1))),
]

pytestmark = [needs_chromium, pytest.mark.slow]


class Cluster(FakeService):
    """Two replicas that have counted something."""

    def __init__(self) -> None:
        super().__init__(diarized=TWO_VOICES)
        self.locals = LocalInstruments(), LocalInstruments()
        for local in self.locals:
            metrics = Metrics(local)
            metrics.connections(21)
            metrics.queue_depth("final", 1)
            metrics.queue_depth("interim", 3)
            for resumed in (False, False, True):
                metrics.session_started(resumed=resumed)
            metrics.session_ended("completed")
            metrics.refused("session", "max_sessions")
            metrics.backpressure(1, 1)
            metrics.failed("/transcribe", "400", "INVALID_MESSAGE", 1_796_040_000)
            metrics.failed("/ws/stt", "1013", "MAX_SESSIONS_REACHED", 1_796_043_600)
            card = {"gpu_id": "0", "gpu_uuid": "GPU-5f1c", "gpu_name": "NVIDIA L4"}
            for family, value in (
                (GPU_MEMORY_TOTAL, 24e9),
                (GPU_MEMORY_USED, 9.1e9),
                (GPU_UTILISATION, 0.43),
                (GPU_TEMPERATURE, 58.0),
                (GPU_POWER, 41.5),
            ):
                local.instrument(family).record(value, card)

    async def metrics_text(self) -> str:
        return merge_expositions([local.exposition() for local in self.locals])

    def status(self) -> ServiceStatus:
        status = super().status()
        return ServiceStatus(ready=True, accepting=True, models=status.models, max_sessions=64)


async def replicas() -> list[DeploymentReplicas]:
    return REPLICAS


ADMIN, ADMIN_KEY = cheap_key(Scope.ADMIN, name="operator")
SHOP, SHOP_KEY = cheap_key(
    Scope.LIVE, Scope.RECORDINGS, name="web shop", limits=KeyLimits(sessions=20), expires_s=2_000_000_000
)


EVIL = "<img src=x onerror=alert(1)>"
_, EVIL_KEY = cheap_key(Scope.METRICS, name=EVIL)


def keyring() -> Keyring:
    return Keyring(MemoryKeys(ADMIN_KEY, SHOP_KEY, EVIL_KEY))


@pytest.fixture
def microphone(tmp_path: Path) -> Path:
    path = tmp_path / "microphone.wav"
    path.write_bytes(TALK)
    return path


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[JobOffice]:
    async with job_office(tmp_path / "office", max_file_size_mb=8.0) as office:
        yield office


@pytest.fixture
def port(office: JobOffice) -> Iterator[int]:
    with running_app(office.app) as port:
        yield port


@asynccontextmanager
async def page_at(
    address: str, folder: Path, microphone: Path, *, complaints: int = 0
) -> AsyncIterator[Page]:
    """A page of which nothing may fail, be missing or be forbidden, but for so many answers that refuse."""
    async with open_page(address, folder, microphone) as page:
        yield page
        assert page.failures == []
        assert len(page.complaints) == complaints, page.complaints


async def says(page: Page, selector: str, part: str) -> None:
    async def said() -> bool:
        return part in await text_of(page, selector)

    await page.until(said)


async def text_of(page: Page, selector: str) -> str:
    text: str = await page.value(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''")
    return text


async def rows(page: Page, table: str) -> list[list[str]]:
    found: list[list[str]] = await page.value(
        f"[...document.querySelectorAll('#{table} tbody tr')].map((row) =>"
        " [...row.children].map((cell) => cell.textContent.trim()))"
    )
    return found


async def enter(page: Page, key: str, question: str) -> None:
    await says(page, "#key-question", question)
    await page.until(lambda: page.value("document.querySelector('#key-dialog').open"))
    await page.click("#key")
    await page.ask("Input.insertText", text=key)
    await page.click("#key-form .main")


async def is_sound(page: Page) -> None:
    """In both themes, all languages, and at the width of a phone."""
    await page.ask(
        "Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True
    )
    for language in LANGUAGES:
        await page.value(
            f"(document.querySelector('#interface').value = '{language}',"
            " document.querySelector('#interface').dispatchEvent(new Event('change')), 1)"
        )
        assert await page.value("document.documentElement.lang") == language
        assert await page.value("document.documentElement.scrollWidth <= innerWidth"), language
        assert "undefined" not in await text_of(page, "body")
    tree = (await page.ask("Accessibility.getFullAXTree"))["nodes"]
    controls = {"button", "checkbox", "combobox", "textbox", "link", "region"}
    named = [one for one in tree if one.get("role", {}).get("value") in controls]
    assert len(named) >= 6
    assert [one for one in named if not one["name"]["value"]] == []
    for theme in ("light", "dark"):
        await page.ask(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}]
        )
        assert await axe(page) == [], theme


async def picture(page: Page, name: str) -> None:
    """Of the documentation, where `STT_PICTURES_DIR` says so."""
    await page.ask(
        "Emulation.setDeviceMetricsOverride", width=1000, height=980, deviceScaleFactor=1, mobile=False
    )
    await page.value("(scrollTo(0, 0), document.activeElement.blur(), 1)")
    taken = base64.b64decode((await page.ask("Page.captureScreenshot", format="png"))["data"])
    assert taken.startswith(b"\x89PNG")
    if PICTURES_DIR is not None:
        await asyncio.to_thread(Path(PICTURES_DIR, name).write_bytes, taken)


async def test_operators_see_the_whole_service_with_an_admins_key(tmp_path: Path, microphone: Path) -> None:
    app = create_app(Cluster(), FakeSettings(), guards=Guards(keys=keyring()), replicas=replicas)
    with running_app(app) as port:
        address = f"http://127.0.0.1:{port}/operate"
        async with page_at(address, tmp_path, microphone, complaints=2) as page:
            await enter(page, "sotto_wrong", "scope admin")
            await enter(page, ADMIN, "does not take this key")
            await says(page, "#status", "The whole service, as of")
            tiles = await text_of(page, "#now")
            for shown in (
                "Open connections42",
                "Sessions since the start62 of them resumed",
                "2 / 6",
                "high",
            ):
                assert shown in tiles
            assert await rows(page, "replicas") == [
                ["Ingress", "HEALTHY", "RUNNING 2"],
                ["FinalAsr", "UPSCALING", "RUNNING 1, STARTING 1"],
            ]
            assert (await rows(page, "models"))[0] == ["base", "final", "ctranslate2", "cpu, int8"]
            assert await rows(page, "gpus") == [["NVIDIA L4", "9.1 GB / 24 GB", "43 %", "58 °C", "41.5 W"]]
            assert await rows(page, "refused") == [["session", "max_sessions", "2"]]
            failures = await rows(page, "failures")
            assert [row[1:] for row in failures] == [
                ["/ws/stt", "1013", "MAX_SESSIONS_REACHED", "2"],
                ["/transcribe", "400", "INVALID_MESSAGE", "2"],
            ]
            keys = {row[0]: row for row in await rows(page, "keys")}
            assert keys["web shop"][2:4] == ["active", "live, recordings"]
            assert keys["web shop"][5] == "sessions 20"
            assert EVIL in keys  # as text: nothing was loaded for it
            await picture(page, "operate-page.png")
            await is_sound(page)
            kept: Any = await page.value(
                "JSON.stringify([{...localStorage}, document.cookie, location.href])"
            )
    assert ADMIN not in kept


async def test_another_key_sees_nothing_of_it(tmp_path: Path, microphone: Path) -> None:
    with running_app(create_app(Cluster(), FakeSettings(), guards=Guards(keys=keyring()))) as port:
        async with page_at(f"http://127.0.0.1:{port}/operate", tmp_path, microphone, complaints=2) as page:
            await enter(page, SHOP, "scope admin")
            await says(page, "#status", "This key has not the scope admin.")
            assert await text_of(page, "#now") == ""


async def choose(page: Page, *paths: Path) -> None:
    """As the browser's own dialog does."""
    document = await page.ask("DOM.getDocument")
    found = await page.ask("DOM.querySelector", nodeId=document["root"]["nodeId"], selector="#file")
    await page.ask("DOM.setFileInputFiles", nodeId=found["nodeId"], files=list(map(str, paths)))


async def has_content(path: Path) -> bool:
    return await asyncio.to_thread(lambda: path.exists() and path.stat().st_size > 0)


async def press(page: Page, table: str, label: str) -> None:
    """A button of the first row, from the keyboard."""
    button = f'#{table} button[aria-label^="{label}"]'
    await page.until(lambda: page.value(f"document.querySelector({json.dumps(button)}) !== null"))
    await page.value(f"document.querySelector({json.dumps(button)}).focus(), 1")
    for kind in ("keyDown", "keyUp"):
        await page.ask(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            text="\r",
            windowsVirtualKeyCode=13,
        )


async def test_recordings_are_sent_worked_on_read_and_deleted(
    office: JobOffice, port: int, tmp_path: Path, microphone: Path
) -> None:
    (tmp_path / "visit.wav").write_bytes(TALK)
    (tmp_path / "noise.txt").write_bytes(b"no sound")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    async with page_at(f"http://127.0.0.1:{port}/recordings", tmp_path, microphone) as page:
        await page.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        await says(page, "#jobs", "None.")
        await page.value(
            "(document.querySelector('#language').value = 'pt',"
            " document.querySelector('#diarize').click(), 1)"
        )
        await choose(page, tmp_path / "visit.wav")
        await says(page, "#status", "visit.wav was sent.")
        await says(page, "#jobs", "waiting")
        assert await office.worker.work_on_one()
        ((_, options),) = office.service.uploads
        assert (options.language, options.word_timestamps) == ("pt", True)
        await says(page, "#jobs", "done")
        assert (await rows(page, "jobs"))[0][1:3] == ["visit.wav", "done"]
        await press(page, "jobs", "Text")
        await says(page, "#status", "The text of visit.wav.")
        lines = await page.value(
            "[...document.querySelectorAll('#finals p')].map((line) => line.textContent)"
        )
        assert lines == ["SPEAKER_01Hello there.", "SPEAKER_02General Kenobi."]
        colours = (
            "[...document.querySelectorAll('#finals .speaker')].map((one) => getComputedStyle(one).color)"
        )
        assert len(set(await page.value(colours))) == 2
        for name, begins in (("srt", "1\n00:00:00,000 --> 00:00:01,000\nSPEAKER_01: Hello"), ("json", "{")):
            await page.click(f"[data-download={name}]")
            path = downloads / f"visit.wav.{name}"

            await page.until(partial(has_content, path))
            assert path.read_text().startswith(begins)
        await picture(page, "recordings-page.png")
        await is_sound(page)
        await page.value(
            "(document.querySelector('#interface').value = 'en',"
            " document.querySelector('#interface').dispatchEvent(new Event('change')), 1)"
        )
        await press(page, "jobs", "Delete")
        await says(page, "#jobs", "None.")
        assert (await office.client.get("/api/jobs")).json() == {"jobs": []}


async def test_a_job_that_waits_is_cancelled_and_a_recording_is_kept_and_transcribed(
    office: JobOffice, port: int, tmp_path: Path, microphone: Path
) -> None:
    (tmp_path / "visit.wav").write_bytes(TALK)
    async with page_at(f"http://127.0.0.1:{port}/recordings", tmp_path, microphone) as page:
        await says(page, "#clips", "None.")
        await page.value("document.querySelector('#purpose').value = 'clips', 1")
        await choose(page, tmp_path / "visit.wav")
        await says(page, "#clips", "visit.wav")
        assert (await rows(page, "clips"))[0][2:5] == ["0:02", "wav", "64 kB"]
        await press(page, "clips", "Transcribe")
        await says(page, "#jobs", "waiting")
        await press(page, "jobs", "Cancel")
        await says(page, "#jobs", "cancelled")
        (job,) = (await office.client.get("/api/jobs")).json()["jobs"]
        assert job["status"] == "cancelled"
        await press(page, "clips", "Delete")
        await says(page, "#clips", "None.")
        assert (await office.client.get("/api/audio")).json() == {"clips": []}


async def test_an_upload_shows_how_far_it_is_and_can_be_stopped(
    office: JobOffice, port: int, tmp_path: Path, microphone: Path
) -> None:
    (tmp_path / "long.wav").write_bytes(wav(chirp(120.0, 16_000), 16_000))
    async with page_at(f"http://127.0.0.1:{port}/recordings", tmp_path, microphone) as page:
        await page.ask("Network.enable")
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 256 * 1024}
        await page.ask("Network.emulateNetworkConditions", **slow)
        await choose(page, tmp_path / "long.wav")
        part = "document.querySelector('#uploads progress')?.value ?? 0"
        await page.until(lambda: page.value(f"({part}) > 0.01 && ({part}) < 1"))
        await page.click("#uploads button")
        await says(page, "#status", "long.wav was not sent.")
        assert await text_of(page, "#uploads") == ""
    assert (await office.client.get("/api/jobs")).json() == {"jobs": []}


async def test_a_long_list_has_older_pages(
    office: JobOffice, port: int, tmp_path: Path, microphone: Path
) -> None:
    for _ in range(20):
        answer = await office.client.post("/api/jobs", content=TALK, headers={"content-type": "audio/wav"})
        assert answer.status_code == 202
        await office.worker.work_on_one()
    last = await office.client.post("/api/audio", content=TALK, headers={"content-type": "audio/wav"})
    clip_id = last.json()["clip_id"]
    answer = await office.client.post(f"/api/jobs?clip_id={clip_id}")
    assert answer.status_code == 202
    async with page_at(f"http://127.0.0.1:{port}/recordings", tmp_path, microphone) as page:
        await says(page, "#jobs", "waiting")
        assert len(await rows(page, "jobs")) == 20
        await page.click("#jobs-older")

        async def has_all() -> bool:
            return len(await rows(page, "jobs")) == 21

        await page.until(has_all)
        assert await page.value("document.querySelector('#jobs-older').hidden")
        assert await office.worker.work_on_one()

        async def is_done() -> bool:
            return "waiting" not in await text_of(page, "#jobs")

        await page.until(is_done)
        assert len(await rows(page, "jobs")) == 21


async def test_where_nothing_is_kept_the_page_says_so(tmp_path: Path, microphone: Path) -> None:
    with running_app(create_app(FakeService(), FakeSettings())) as port:
        address = f"http://127.0.0.1:{port}/recordings"
        async with page_at(address, tmp_path, microphone, complaints=2) as page:
            for note in ("#jobs-note", "#clips-note"):
                await says(page, note, "This server keeps no recordings")
            await page.until(lambda: page.value("document.querySelector('#file').disabled"))


async def test_each_key_has_its_own_recordings(office: JobOffice, tmp_path: Path, microphone: Path) -> None:
    answer = await office.client.post("/api/jobs", content=TALK, headers={"content-type": "audio/wav"})
    assert answer.status_code == 202
    (tmp_path / "visit.wav").write_bytes(TALK)
    kept = Kept(jobs=office.desk, clips=StoredClips(str(tmp_path / "clips")))
    app = create_app(FakeService(), FakeSettings(), guards=Guards(keys=keyring()), kept=kept)
    with running_app(app) as port:
        address = f"http://127.0.0.1:{port}/recordings"
        async with page_at(address, tmp_path, microphone, complaints=1) as page:
            await enter(page, SHOP, "asks for an API key")
            await says(page, "#clips", "None.")
            await says(page, "#jobs", "None.")
            await choose(page, tmp_path / "visit.wav")
            await says(page, "#jobs", "visit.wav")
            assert len(await rows(page, "jobs")) == 1
    (job,) = await office.desk.newest(SHOP_KEY.id, None, 9)
    assert (await office.client.get("/api/jobs")).json()["jobs"][0]["job_id"] != job.job_id
