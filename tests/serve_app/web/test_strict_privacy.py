"""Strict privacy in one process: planted words go through all doors, through failures too, and are searched
for in what was logged, audited and counted. `python -m benchmarks.privacy` does it with a whole service."""

from __future__ import annotations

import asyncio
import io
import logging

import pytest
import structlog

from benchmarks.privacy.planting import Searcher, planted_words
from benchmarks.privacy.traffic import Traffic
from fakes.app_server import running_app
from fakes.encoded_audio import chirp, wav
from fakes.fake_service import FakeService, FakeSettings
from fakes.local_metrics import LocalInstruments
from fakes.opened_audit import opened_audit
from serve_app.access.caller import ANYBODY
from serve_app.access.keyring import Keyring
from serve_app.assembly.process import pseudonyms
from serve_app.settings import Settings, SettingsError
from serve_app.telemetry.logs import configure_logs
from serve_app.telemetry.metrics import Metrics
from serve_app.web.app import Guards, create_app
from serve_app.web.door import Kept

KINDS = (
    *("prompt", "hotword", "keyterm", "tag", "filename", "sessionid", "requestid", "useragent", "said"),
    *("apikey", "wrongkey", "auditkey"),
)


class Failing(FakeService):
    """Fails as a model would that quotes what it was given, for live sessions and for recordings."""

    def __init__(self, words):
        super().__init__()
        self.error = ValueError(f"cannot decode {words}")
        self.num_failures = 0
        self.fails = False

    def open_session(self, options, ticket=None, caller=ANYBODY):
        session = super().open_session(options, ticket, caller)
        if self.fails:
            self.num_failures += 1
            session.fail_with = self.error
        return session

    async def transcribe(self, audio, options, progress=None, on_segment=None):
        if self.fails:
            self.num_failures += 1
            raise self.error
        return await super().transcribe(audio, options, progress, on_segment)


@pytest.fixture
def logged(tmp_path):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    yield out
    configure_logs("INFO", io.StringIO())  # closes the file
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.setLogRecordFactory(logging.LogRecord)
    structlog.reset_defaults()


async def talk_of(words, privacy, out, folder):
    """All that a run wrote, searched."""
    audio = chirp(1.0, 16_000)
    settings = Settings(
        privacy=privacy, audit_log_dir=folder / "audit", audit_key=words["auditkey"], log_file=folder / "log"
    )
    configure_logs("INFO", out, file=settings.log_file, pseudonym=pseudonyms(settings))
    counted = LocalInstruments()
    metrics = Metrics(counted)
    keeper, eraser = opened_audit(settings, metrics)
    service = Failing(words)
    app = create_app(
        service,
        FakeSettings(privacy=privacy),
        metrics,
        guards=Guards(keys=Keyring(plain=words["apikey"])),
        kept=Kept(keeper=keeper, erasers=(eraser,)),
    )
    with running_app(app) as port:
        traffic = Traffic(f"http://127.0.0.1:{port}", words, audio, wav(audio, 16_000))
        await traffic.uploads()
        await traffic.live()
        await traffic.refused()
        service.fails = True
        await traffic.uploads()
        await traffic.live()
        assert service.num_failures >= 5
        await asyncio.sleep(0)
    keeper.close()
    logging.getLogger().handlers[-1].flush()
    searcher = Searcher(
        {kind: word.encode() for kind, word in words.items()} | {"audio": audio[4_000:4_064].tobytes()}
    )
    found = searcher.tree(folder)
    found += searcher.data("log", out.getvalue().encode())
    found += searcher.data("metrics", counted.exposition().encode())
    return found, traffic.num_requests


async def test_nothing_that_was_planted_is_found(logged, tmp_path):
    words = planted_words(KINDS)
    found, num_requests = await talk_of(words, "strict", logged, tmp_path)
    assert dict(found.hits) == {}
    assert logged.getvalue().count('"event": "request"') >= num_requests
    assert "ValueError: (hidden)" in logged.getvalue()
    assert found.num_bytes > 10_000


async def test_the_same_search_finds_what_standard_privacy_writes(logged, tmp_path):
    """Ids that clients chose, and in the audit log nothing else; in the log also pages that were refused."""
    words = planted_words(KINDS)
    found, _ = await talk_of(words, "standard", logged, tmp_path)
    assert {kind for where, kind in found.hits if "audit" in where} == {"sessionid", "requestid"}
    assert {kind for _, kind in found.hits} == {"sessionid", "requestid", "tag", "filename"}
    assert "ValueError: (hidden)" in logged.getvalue()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("audio_storage_path", "/var/lib/sotto/clips"),
        ("result_cache_enabled", True),
        ("debug", True),
        ("log_level", "DEBUG"),
    ],
)
def test_what_contradicts_it_is_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=f"strict, which contradicts {name}: "):
        Settings.from_dict({"privacy": "strict", name: value})
    assert Settings.from_dict({"privacy": "standard", name: value})


def test_logs_with_words_are_refused_in_any_case():
    with pytest.raises(SettingsError, match="audio and words are never logged"):
        Settings.from_dict({"disable_audio_logging": False})
