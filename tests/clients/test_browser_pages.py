"""The pages that the documentation shows, as they stand, in a real browser against the doors; the JavaScript
module's microphone there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fakes.app_server import running_app
from fakes.chromium import code_blocks, microphone_of, needs_chromium, open_page, serving_pages
from fakes.fake_service import FakeService, FakeSettings
from serve_app.audio.recordings import decode_recording
from serve_app.web.app import Guards, create_app

CHECKOUT = Path(__file__).resolve().parents[2]
CLIENT = CHECKOUT / "clients" / "javascript"
SPOKEN = CHECKOUT / "audio" / "spoken"
PORT_SHOWN = "127.0.0.1:8000"
SECOND = 16_000

pytestmark = [needs_chromium, pytest.mark.slow]


@dataclass
class Site:
    """Pages in `folder` at `origin`, and the doors that let them in, on a port of their own."""

    folder: Path
    origin: str
    port: int
    service: FakeService
    microphone: Path

    def shows(self, page: str) -> str:
        """The address of a page, which talks to the doors instead of to the port in the documentation."""
        (self.folder / "page.html").write_text(page.replace(PORT_SHOWN, f"127.0.0.1:{self.port}"))
        return f"{self.origin}/page.html"

    def heard_samples(self) -> int:
        return sum(session.num_samples for session in self.service.sessions)

    def hears_speech(self) -> bool:
        return any(is_heard(session.audio) for session in self.service.sessions)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    service = FakeService()
    folder = tmp_path / "pages"
    folder.mkdir()
    samples = decode_recording((SPOKEN / "visit.flac").read_bytes(), max_samples=60 * SECOND).samples
    microphone = microphone_of(samples, tmp_path / "microphone.wav")
    with serving_pages(folder) as origin:
        app = create_app(service, FakeSettings(idle_timeout_s=120.0), guards=Guards(cors_origins=[origin]))
        with running_app(app) as port:
            yield Site(folder, origin, port, service, microphone)


def is_heard(samples: np.ndarray) -> bool:
    """Someone speaks: louder than any noise of a silent microphone."""
    return float(np.abs(samples.astype(np.float64)).max(initial=0.0)) > 1000


async def test_the_readmes_page_shows_what_is_said(site: Site, tmp_path: Path) -> None:
    (example,) = code_blocks(CHECKOUT / "README.md", "html")
    async with open_page(site.shows(example), tmp_path, site.microphone) as page:
        await page.click("#start")
        await page.until(lambda: any(line[0] == "..." for line in page.console))
        await page.until(lambda: served(site.hears_speech()))
        await page.click("#stop")
        await page.until(lambda: any(line[0] == "final" for line in page.console))
        assert page.failures == []
    (session,) = site.service.sessions
    assert session.options.language == "en"
    assert is_heard(session.audio)
    sizes = [len(piece) for piece in session.samples[1:-1]]
    assert min(sizes) >= 0.09 * SECOND
    assert [line for line in page.console if line[0] == "final"] == [
        ["final", f"Olá, mundo. {len(session.audio)}"]
    ]


async def test_the_media_recorder_page_records(site: Site, tmp_path: Path) -> None:
    (example,) = code_blocks(CHECKOUT / "docs" / "api.md", "html")
    async with open_page(site.shows(example), tmp_path, site.microphone) as page:
        await page.click("#record")
        await page.until(lambda: served(site.heard_samples() > SECOND))
        await page.click("#stop")
        await page.until(lambda: page.console)
        assert page.failures == []
    (session,) = site.service.sessions
    assert session.options.language == "en"
    assert is_heard(session.audio)
    assert page.console == [[f"Olá, mundo. {len(session.audio)}"]]


async def served(condition: bool) -> bool:
    """What is looked at again and again, since no message of the browser tells of it."""
    return condition


CAPTIONS = """
<button id="start">Start</button> <button id="stop">Stop</button>
<script type="module">
const show = (stable, unstable) => console.log("...", stable + unstable);
const append = (text) => console.log("final", text);
const stopWith = (message) => console.log("stopped", message);
const clicked = (id) => new Promise((resolve) => (document.querySelector(id).onclick = resolve));
await clicked("#start");
%s
</script>
"""
"""What surrounds the example of the module's page: its callbacks, a click to start it, one to end it."""


def modules_page(site: Site) -> str:
    """The captions example with the module beside the page, as the module's page says."""
    for file in CLIENT.glob("*.js"):
        shutil.copy(file, site.folder)
    example = next(block for block in code_blocks(CLIENT / "README.md", "js") if "Microphone" in block)
    code = example.replace("https://speech.example.org", f"http://127.0.0.1:{site.port}")
    assert code != example
    imports, rest = code.split("\n\n", 1)
    return CAPTIONS.replace('<script type="module">', f'<script type="module">\n{imports}') % rest.replace(
        "// later", 'await clicked("#stop");'
    )


async def test_captions_from_the_microphone_with_the_module(site: Site, tmp_path: Path) -> None:
    async with open_page(site.shows(modules_page(site)), tmp_path, site.microphone) as page:
        await page.click("#start")
        await page.until(lambda: any(line[0] == "..." for line in page.console))
        await page.until(lambda: served(site.hears_speech()))
        await page.click("#stop")
        await page.until(lambda: any(line[0] == "final" for line in page.console))
        assert page.failures == []
    (session,) = site.service.sessions
    assert is_heard(session.audio)
    assert min(len(piece) for piece in session.samples[:-1]) >= 0.08 * SECOND


HELD_BACK = """
<button id="start">Start</button>
<script type="module">
import { Microphone } from "./sotto.js";
const tone = new AudioContext();
const sink = tone.createMediaStreamDestination();
const oscillator = tone.createOscillator();
oscillator.connect(sink);
oscillator.start();
const listen = async () => {
  const microphone = new Microphone({ stream: sink.stream, resumeTimeoutMs: 500 });
  await microphone.start((samples) => console.log("samples", samples.length));
};
document.querySelector("#start").onclick = () => { tone.resume(); listen(); };
listen().catch((error) => console.log("failed", error.message));
</script>
"""
"""A sound of the page's own: unlike one that captures, such a page stays suspended until it is clicked."""


async def test_sound_that_the_browser_holds_back_is_an_error_until_the_page_is_clicked(
    site: Site, tmp_path: Path
) -> None:
    for file in CLIENT.glob("*.js"):
        shutil.copy(file, site.folder)
    async with open_page(site.shows(HELD_BACK), tmp_path, site.microphone) as page:
        await page.until(lambda: page.console)
        assert page.console[0][0] == "failed"
        assert "in a click" in page.console[0][1]
        await page.click("#start")
        await page.until(lambda: len(page.console) >= 3)
    assert page.console[1:3] == [["samples", 1280]] * 2


async def test_a_page_of_another_origin_is_told_nothing(site: Site, tmp_path: Path) -> None:
    (example,) = code_blocks(CHECKOUT / "README.md", "html")
    address = site.shows(example).replace("127.0.0.1", "localhost", 1)
    async with open_page(address, tmp_path, site.microphone) as page:
        await page.value(
            "window.WebSocket = class extends WebSocket { constructor(...all) { super(...all);"
            " this.onerror = () => console.log('refused'); } }, 1"
        )
        await page.click("#start")
        await page.until(lambda: page.console)
    assert page.console == [["refused"]]
    assert site.service.sessions == []
