"""`sotto keys`: what it shows, what it keeps, and how it fails."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_app.access.caller import KeyLimits, Scope
from serve_app.access.key_store import FileKeys
from serve_app.access.keyring import Keyring
from serve_app.cli.app import app
from serve_app.cli.keys import expiry


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("STT_KEYS_FILE", "STT_KEYS_IN_REDIS", "STT_REDIS_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str, status: int = 0) -> tuple[str, str]:
    """Standard output and standard error of `sotto keys ARGUMENTS`."""
    answer = CliRunner().invoke(app, ["keys", *arguments])
    assert answer.exit_code == status, answer.output
    return answer.stdout, answer.stderr


async def test_a_key_is_shown_once_and_opens_the_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    monkeypatch.setenv("STT_KEYS_FILE", str(path))
    shown, said = run("create", "--name", "shop", "--scope", "live", "--sessions", "4", "--expires", "30d")
    text = shown.strip()
    assert "shown this once" in said
    caller = await Keyring(FileKeys(path)).caller(text)
    assert caller is not None
    assert (caller.name, caller.scopes, caller.limits) == ("shop", {Scope.LIVE}, KeyLimits(sessions=4))
    assert text not in path.read_text()
    listed, _ = run("list")
    assert caller.key_id in listed
    assert "4 sessions" in listed
    assert text not in listed
    run("revoke", "shop")
    assert await Keyring(FileKeys(path)).caller(text) is None
    assert "revoked" in run("list")[0]


def test_json_says_all_of_a_key_and_its_text_only_when_it_is_made(tmp_path: Path) -> None:
    file = ("--file", str(tmp_path / "keys.json"))
    limits = (
        *("--requests-per-minute", "60", "--requests-per-day", "1000"),
        *("--audio-minutes-per-minute", "2.5", "--audio-minutes-per-day", "600"),
    )
    made = json.loads(run("create", "--name", "clinic", "--scope", "recordings", *limits, *file, "--json")[0])
    assert made.pop("key").startswith(f"sotto_{made['id']}_")
    assert made["limits"] == {
        "requests_per_minute": 60,
        "requests_per_day": 1000,
        "audio_minutes_per_minute": 2.5,
        "audio_minutes_per_day": 600.0,
    }
    assert (made["scopes"], made["state"], made["expires"]) == (["recordings"], "active", None)
    assert json.loads(run("list", *file, "--json")[0]) == [made]
    revoked = json.loads(run("revoke", made["id"], *file, "--json")[0])
    assert revoked["state"] == "revoked"
    assert {**revoked, "state": "active", "revoked": None} == made


def test_without_a_scope_a_key_transcribes_and_does_nothing_else(tmp_path: Path) -> None:
    file = ("--file", str(tmp_path / "keys.json"))
    assert json.loads(run("create", "--name", "a", *file, "--json")[0])["scopes"] == ["live", "recordings"]


def test_a_name_that_several_keys_have_revokes_none(tmp_path: Path) -> None:
    file = ("--file", str(tmp_path / "keys.json"))
    first = json.loads(run("create", "--name", "a", *file, "--json")[0])
    run("create", "--name", "a", *file)
    assert first["id"] in run("revoke", "a", *file, status=2)[1]
    run("revoke", first["id"], *file)
    run("revoke", "a", *file)
    assert "holds no more" in run("revoke", "a", *file, status=2)[1]
    assert "no such key" in run("revoke", "b", *file, status=2)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "--name", "a", "--scope", "everything"), "live, recordings, metrics, admin"),
        (("create", "--name", " "), "needs a name"),
        (("create", "--name", "a", "--expires", "soon"), "30d"),
        (("create", "--name", "a", "--expires", "2020-01-01"), "future"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error_and_makes_no_key(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "keys.json"
    assert said in run(*arguments, "--file", str(path), status=2)[1]
    assert not path.exists()


def test_without_a_place_for_keys_it_says_what_to_set() -> None:
    said = run("list", status=2)[1]
    assert "STT_KEYS_FILE" in said
    assert "STT_KEYS_IN_REDIS" in said


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("notes")
    for arguments in (("list",), ("create", "--name", "a"), ("revoke", "a")):
        assert "not a file of keys" in run(*arguments, "--file", str(path), status=1)[1]
    assert path.read_text() == "notes"


def test_an_expiry_is_a_duration_or_a_day() -> None:
    assert [expiry(text, 100) for text in ("5m", "12h", "30d", "2w")] == [400, 43_300, 2_592_100, 1_209_700]
    assert expiry("2027-01-31", 0) == datetime(2027, 1, 31, tzinfo=UTC).timestamp()
    for text in ("", "d", "30", "30 d", "2027-13-01", "-1d"):
        with pytest.raises(ValueError, match="--expires"):
            expiry(text, 0)
