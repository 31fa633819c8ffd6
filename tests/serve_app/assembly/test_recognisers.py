"""Engines that other packages bring: found by their entry points, refused by name, run as ours are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fakes.installed import installed
from serve_app.asr.engines import choice
from serve_app.asr.engines.choice import (
    BUILT_IN,
    ENGINES,
    TRANSCRIBERS,
    choose_engine,
    find_engine,
    installed_engines,
    load_transcriber,
    runs_whisper,
)
from serve_app.asr.ports import ModelToLoad
from serve_app.assembly.recognisers import load_recogniser
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import DecodeFailure, DecodeJob, Role, Transcript
from serve_app.settings import Settings, SettingsError, load_settings

HELLO = """
from serve_app.asr.ports import TranscriberInfo
from serve_app.core.jobs import DecodeFailure, Transcript

ASKED = []


class Hello:
    def __init__(self, model):
        self.info = TranscriberInfo(
            model=model.name or "hello-1", engine="hello", device="cpu", compute_type="none",
            multilingual=False, languages=frozenset({"en"}), path=str(model.path or ""), translates=False,
        )
        self.is_warm = False

    def batch_key(self, job):
        return 0

    def transcribe(self, jobs):
        return [
            Transcript(job.job_id, "hello", "en", 1.0, 0.0, 0.0, self.info.model) for job in jobs
        ]

    def warm_up(self):
        self.is_warm = True


def load(model):
    ASKED.append(model)
    return Hello(model)
"""


@pytest.fixture
def hello(tmp_path: Path) -> Iterator[None]:
    with installed(tmp_path, "hello", HELLO, group=TRANSCRIBERS, entry_point="hello = hello:load"):
        yield


def job(number: int, role: Role, **given: object) -> DecodeJob:
    return DecodeJob(number, role, np.zeros(16_000, np.int16), **given)  # type: ignore[arg-type]


@pytest.mark.usefixtures("hello")
async def test_a_recogniser_that_is_no_whisper_is_one_folder_and_one_line() -> None:
    import hello  # type: ignore[import-not-found]

    settings = load_settings(environ={"STT_ENGINE": "Hello", "STT_NUM_WORKERS": "3", "STT_OFFLINE": "1"})
    recogniser = load_recogniser(settings, tuple(Role), shares_cores=True, gpu_fraction=0.5)
    (asked,) = hello.ASKED
    assert asked == ModelToLoad("", None, num_workers=3, max_batch=settings.max_batch_size, offline=True)
    try:
        results = [r async for r in recogniser.decode([job(1, Role.FINAL), job(2, Role.INTERIM)])]
        assert sorted((r.job_id, r.text, r.model) for r in results if isinstance(r, Transcript)) == [
            (1, "hello", "hello-1"),
            (2, "hello", "hello-1"),
        ]
        refused = await recogniser.submit(job(3, Role.RECORDING, language="de"))
        assert isinstance(refused, DecodeFailure)
        assert "hello-1" in refused.message
        assert {info.engine for info in recogniser.models()} == {"hello"}
        assert all(transcriber.is_warm for transcriber in recogniser._transcribers.values())  # type: ignore[attr-defined]
    finally:
        await recogniser.close()


@pytest.mark.usefixtures("hello")
async def test_its_models_need_not_be_in_our_table(tmp_path: Path) -> None:
    import hello

    (tmp_path / "its-model").mkdir()
    settings = Settings(engine="hello", model="its-model", offline_model="other/one", model_dir=tmp_path)
    recogniser = load_recogniser(settings, tuple(Role), shares_cores=True)
    await recogniser.close()
    assert [(asked.name, asked.path) for asked in hello.ASKED] == [
        ("its-model", tmp_path / "its-model"),
        ("other/one", None),
    ]
    alone = load_recogniser(settings, (Role.INTERIM,), shares_cores=False)
    await alone.close()
    assert [info.role for info in alone.models()] == ["interim"]


@pytest.mark.usefixtures("hello")
def test_an_unknown_name_is_refused_with_what_is_installed() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(environ={"STT_ENGINE": "helo"})
    (line,) = refused.value.problems
    assert line.startswith(
        "STT_ENGINE = 'helo': no engine of this name is installed, expected auto or one of: "
    )
    assert "ctranslate2, hello" in line
    assert load_settings(environ={"STT_ENGINE": "hello"}).engine == "hello"


def test_without_the_package_the_name_is_refused() -> None:
    assert "hello" not in installed_engines()
    with pytest.raises(SettingsError, match="no engine of this name"):
        Settings.from_dict({"engine": "hello"})


def test_a_whisper_engine_of_another_package_gets_our_folders(tmp_path: Path) -> None:
    code = "from serve_app.asr.engines.ctranslate2_engine import load\n"
    folder = tmp_path / "model"
    with installed(tmp_path, "own_whisper", code, group=ENGINES, entry_point="own = own_whisper:load"):
        assert runs_whisper("own")
        assert choose_engine("own", folder) == "own"
        assert find_engine("own").load() is BUILT_IN["ctranslate2"].load()
        with pytest.raises(ModelUnavailable, match=str(folder)):
            choice.load_engine("own", ModelToLoad("none", folder))


@pytest.mark.parametrize("line", ["broken = broken:nothing", "broken = broken.missing:load"])
def test_a_factory_that_cannot_be_imported_is_named(tmp_path: Path, line: str) -> None:
    with (
        installed(tmp_path, "broken", "", group=TRANSCRIBERS, entry_point=line),
        pytest.raises(ModelUnavailable, match="broken .* cannot be imported"),
    ):
        load_transcriber("broken", ModelToLoad("", None))


def test_ours_are_not_replaced_by_another_package(tmp_path: Path) -> None:
    line = "torch = impostor:load"
    with installed(tmp_path, "impostor", "", group=TRANSCRIBERS, entry_point=line):
        assert find_engine("torch") is BUILT_IN["torch"]
        assert runs_whisper("torch")
