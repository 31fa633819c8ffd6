"""`GET /` for browsers and the files of the live page; its pure modules' own tests, by Node."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from fakes.fake_service import FakeService, FakeSettings
from serve_app.access.keyring import Keyring
from serve_app.web.app import Guards, create_app
from serve_app.web.page_files import page_files

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
TESTS = Path(__file__).with_name("page")


def client(guards: Guards | None = None) -> httpx.AsyncClient:
    app = create_app(FakeService(), FakeSettings(), guards=guards)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sotto.test")


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML ; q=0.5", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0, */*", False),
        ("text/html;q=much", False),
        ("text/htmlx", False),
    ],
)
async def test_a_browser_gets_the_page_and_all_others_json(accept: str, is_page: bool) -> None:
    async with client() as http:
        answer = await http.get("/", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["vary"] == "Accept"
    if is_page:
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.text.startswith("<!doctype html>")
    else:
        assert answer.json()["service"] == "sotto"


class Page(HTMLParser):
    """What a page loads, and what its policy would forbid: scripts and styles within it."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.loaded += [named[name] or "" for name in ("src", "href") if name in named]
        self.inline += [name for name in named if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in named):
            self.inline.append(tag)


async def test_all_that_the_page_loads_is_served_from_here_to_anybody() -> None:
    """Followed from the page through every import, with keys asked for elsewhere."""
    page = Page()
    page.feed(page_files()["index.html"].content.decode())
    assert page.inline == []
    pending, seen = [f"/{name}" for name in page.loaded], set()
    async with client(Guards(keys=Keyring(plain="secret-of-the-operator"))) as http:
        while pending:
            path = pending.pop()
            if path in seen:
                continue
            seen.add(path)
            answer = await http.get(path)
            assert answer.status_code == 200, path
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "unsafe" not in answer.headers["content-security-policy"]
            if path.endswith(".js"):
                assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
                imported = re.findall(r'(?:from |new URL\()"(\./[^"]+)"', answer.text)
                pending += [httpx.URL(f"http://x{path}").join(name).path for name in imported]
    assert {"/page/main.js", "/page/page.css", "/page/client/pcm-worklet.js"} <= seen


async def test_a_file_that_the_browser_has_is_not_sent_again() -> None:
    async with client() as http:
        answer = await http.get("/page/main.js")
        tag = answer.headers["etag"]
        assert answer.headers["cache-control"] == "no-cache"
        again = await http.get("/page/main.js", headers={"if-none-match": f'"other", W/{tag}'})
        other = await http.get("/page/page.css", headers={"if-none-match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert other.status_code == 200


@pytest.mark.parametrize("name", ["", "nothing.js", "../app.py", "%2e%2e/app.py", "client"])
async def test_nothing_else_is_served(name: str) -> None:
    async with client() as http:
        answer = await http.get(f"/page/{name}")
    assert answer.status_code == 404


def test_nothing_names_another_address() -> None:
    for name, file in page_files().items():
        if not name.endswith(".flac"):
            text = file.content.decode().replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"(https?|wss?)://\w", text), name


def test_nothing_said_becomes_markup() -> None:
    for name, file in page_files().items():
        if name.endswith(".js"):
            makes_markup = (
                r"(inner|outer)HTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function"
            )
            assert not re.search(makes_markup, file.content.decode()), name


def test_the_pure_modules_pass_their_own_tests(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    for name, file in page_files().items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file.content)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    for path in TESTS.glob("*.test.js"):
        shutil.copy(path, tmp_path)
    run = subprocess.run([node, "--test"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-1000:]
    passed = re.search(r"pass (\d+)", run.stdout)
    assert passed is not None
    assert int(passed[1]) >= 21
