"""The JavaScript examples at work: an utterance by way of a proxy route, captions of a conference."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest

from fakes.app_server import running_app
from fakes.chromium import microphone_of, needs_chromium, open_page, serving_pages
from fakes.fake_service import FakeService, FakeSettings
from fakes.kept_keys import MemoryKeys, cheap_key
from serve_app.access.caller import Scope
from serve_app.access.keyring import Keyring
from serve_app.web.app import Guards, create_app

CHECKOUT = Path(__file__).resolve().parents[2]
CLIENT = CHECKOUT / "clients" / "javascript"
EXAMPLES = CHECKOUT / "examples"
SECOND = 16_000
LIMIT_S = 120

ROUTE_SERVER = """
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { POST } from "./examples/next_route.js";

const TYPES = { html: "text/html", js: "text/javascript" };
createServer(async (incoming, outgoing) => {
  const url = new URL(incoming.url, "http://here");
  if (incoming.method === "POST") {
    const body = Readable.toWeb(incoming);
    const { headers } = incoming;
    const answer = await POST(new Request(url, { method: "POST", headers, body, duplex: "half" }));
    outgoing.writeHead(answer.status, Object.fromEntries(answer.headers));
    outgoing.end(Buffer.from(await answer.arrayBuffer()));
    return;
  }
  try {
    const file = await readFile(`.${url.pathname}`);
    outgoing.writeHead(200, { "content-type": TYPES[url.pathname.split(".").at(-1)] ?? "text/plain" });
    outgoing.end(file);
  } catch {
    outgoing.writeHead(404).end();
  }
}).listen(0, "127.0.0.1", function () { console.log(this.address().port); });
"""
"""What a Next.js application does with the route, as far as it is asked for here; it serves the page too."""


def checkout_of(folder: Path) -> Path:
    """A folder with the client and the examples, as the repository has them."""
    shutil.copytree(CLIENT, folder / "clients" / "javascript", ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(EXAMPLES, folder / "examples")
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


@asynccontextmanager
async def route_server(folder: Path, url: str, key: str) -> AsyncIterator[str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    (folder / "server.js").write_text(ROUTE_SERVER)
    environment = {"SOTTO_URL": url, "SOTTO_API_KEY": key, "PATH": "/usr/bin:/bin"}
    process = await asyncio.create_subprocess_exec(
        node, "server.js", cwd=folder, stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


UTTERANCE = """
<button id="start">Start</button>
<script type="module">
import { recordOnce } from "./clients/javascript/sotto.js";
document.querySelector("#start").onclick = async () => {
  const onState = (state) => console.log("state", state);
  const options = { path: "/api/transcribe", language: "en", stopAfterSilenceMs: 600, onState };
  const once = recordOnce(location.origin, options);
  console.log("text", (await once.done).transcript);
};
</script>
"""


@needs_chromium
@pytest.mark.slow
async def test_one_utterance_by_way_of_a_proxy_route(tmp_path: Path) -> None:
    """The page has neither the server's address nor a key; the recording ends by itself."""
    text, key = cheap_key(Scope.RECORDINGS)
    service = FakeService()
    folder = checkout_of(tmp_path / "site")
    (folder / "page.html").write_text(UTTERANCE)
    beeping = (8_000 * np.sin(np.arange(SECOND) * 0.3)).astype(np.int16)
    silence = np.zeros(3 * SECOND, np.int16)
    microphone = microphone_of(np.concatenate([silence[:SECOND], beeping, silence]), tmp_path / "sound.wav")
    app = create_app(service, FakeSettings(), guards=Guards(keys=Keyring(MemoryKeys(key))))
    with running_app(app) as port:
        async with (
            route_server(folder, f"http://127.0.0.1:{port}", text) as origin,
            open_page(f"{origin}/page.html", tmp_path, microphone) as page,
        ):
            await page.click("#start")
            await page.until(lambda: any(line[0] == "text" for line in page.console))
            assert page.failures == []
    assert page.console == [
        ["state", "recording"],
        ["state", "transcribing"],
        ["state", "idle"],
        ["text", "Hello there. General Kenobi."],
    ]
    ((audio, options),) = service.uploads
    assert options.language == "en"
    assert np.abs(audio.astype(int)).max() > 1000


async def test_a_proxy_route_says_what_the_server_says(tmp_path: Path) -> None:
    text, key = cheap_key(Scope.LIVE)
    folder = checkout_of(tmp_path)
    app = create_app(FakeService(), FakeSettings(), guards=Guards(keys=Keyring(MemoryKeys(key))))
    with running_app(app) as port:
        async with route_server(folder, f"http://127.0.0.1:{port}", text) as origin:
            assert (await posted(origin))[0] == 403
        async with route_server(folder, "http://127.0.0.1:1", text) as origin:
            assert await posted(origin) == (502, {"detail": "the speech server does not answer"})


async def posted(origin: str) -> tuple[int, dict[str, str]]:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{origin}/api/transcribe", files={"file": ("a.wav", b"RIFF")})
    return answer.status_code, answer.json()


CONFERENCE = """
<button id="start">Start</button> <button id="leave">Leave</button> <button id="stop">Stop</button>
<script type="module">
import { captionConference } from "./examples/jitsi_captions.js";

class Track {
  constructor(owner, hertz, type = "audio") {
    Object.assign(this, { owner, type });
    const context = new AudioContext();
    const sink = context.createMediaStreamDestination();
    const oscillator = new OscillatorNode(context, { frequency: hertz });
    oscillator.connect(sink);
    oscillator.start();
    this.stream = sink.stream;
  }
  getType() { return this.type; }
  getId() { return `track of ${this.owner}`; }
  getParticipantId() { return this.owner; }
  getOriginalStream() { return this.stream; }
}
class Conference extends EventTarget {
  tracks = [];
  getLocalTracks() { return this.tracks.filter(({ owner }) => owner === "me"); }
  getParticipants() { return [{ getTracks: () => this.tracks.filter(({ owner }) => owner === "ana") }]; }
  getParticipantById(id) { return id === "me" ? undefined : { getDisplayName: () => id.toUpperCase() }; }
  on(type, listener) { (this.listeners ??= {})[type] = listener; }
  off(type) { delete this.listeners[type]; }
}
const events = { TRACK_ADDED: "added", TRACK_REMOVED: "removed" };
const conference = new Conference();
let stop, late;
document.querySelector("#start").onclick = () => {
  conference.tracks = [new Track("me", 300), new Track("ana", 400), new Track("ana", 400, "video")];
  const onCaption = ({ name, isFinal }) => console.log(name, isFinal);
  stop = captionConference(conference, events, { url: "http://127.0.0.1:PORT", onCaption });
  late = new Track("bo", 500);
  conference.listeners.added(late);
};
document.querySelector("#leave").onclick = () => conference.listeners.removed(late);
document.querySelector("#stop").onclick = async () => {
  await stop();
  console.log("stopped", JSON.stringify(conference.listeners), late.stream.active);
};
</script>
"""
"""As much of lib-jitsi-meet as captions need: two who are there, one who comes later and leaves first."""


@needs_chromium
@pytest.mark.slow
async def test_captions_of_a_conference_carry_names(tmp_path: Path) -> None:
    service = FakeService()
    folder = checkout_of(tmp_path / "site")
    microphone = microphone_of(np.zeros(SECOND, np.int16), tmp_path / "silence.wav")
    with serving_pages(folder) as origin:
        app = create_app(service, FakeSettings(idle_timeout_s=120.0), guards=Guards(cors_origins=[origin]))
        with running_app(app) as port:
            (folder / "page.html").write_text(CONFERENCE.replace("PORT", str(port)))
            async with open_page(f"{origin}/page.html", tmp_path, microphone) as page:
                await page.click("#start")
                for name in ("You", "ANA", "BO"):
                    await page.until(partial(page.console.__contains__, [name, False]))
                assert len(service.sessions) == 3
                await page.click("#leave")
                await page.until(lambda: ["BO", True] in page.console)
                assert ["ANA", True] not in page.console
                await page.click("#stop")
                await page.until(lambda: any(line[0] == "stopped" for line in page.console))
                assert {("You", True), ("ANA", True)} <= {
                    tuple(line) for line in page.console if len(line) == 2
                }
                (end,) = [line for line in page.console if line[0] == "stopped"]
                assert json.loads(end[1]) == {}
                assert end[2] is True  # the participants' own sound is left as it was
                assert page.failures == []
    loud = [float(np.abs(session.audio.astype(int)).max()) for session in service.sessions]
    assert min(loud) > 1000
