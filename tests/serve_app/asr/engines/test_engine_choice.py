"""Which engine a CPU gets: the one that was measured to be the cheaper, else the first of the list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.whisper_folder import write_model
from serve_app.asr import devices
from serve_app.asr.config import HostedModel, RecogniserConfig, _load_engine
from serve_app.asr.engines import choice, measured
from serve_app.asr.engines.choice import CPU_ENGINES, choose_engine, engines_on_cpu
from serve_app.asr.engines.measured import read_costs, write_costs
from serve_app.asr.ports import ModelToLoad
from serve_app.capacity.processor import Processor
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import Role


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "model")


def choose(folder: Path, cache_dir: Path, **more: bool) -> str:
    return choose_engine("auto", folder, device="cpu", cache_dir=cache_dir, **more)


def test_the_first_of_the_list_where_nothing_was_measured(folder: Path, tmp_path: Path) -> None:
    assert engines_on_cpu(folder) == list(CPU_ENGINES)
    assert choose(folder, tmp_path) == CPU_ENGINES[0]


@pytest.mark.parametrize("cheaper", CPU_ENGINES)
def test_the_cheaper_one_where_all_were_measured(cheaper: str, folder: Path, tmp_path: Path) -> None:
    write_costs({folder: {name: 0.1 if name == cheaper else 0.2 for name in CPU_ENGINES}}, tmp_path)
    assert choose(folder, tmp_path) == cheaper
    assert choose_engine("ctranslate2", folder, cache_dir=tmp_path) == "ctranslate2"
    assert choose_engine("onnx", folder, cache_dir=tmp_path) == "onnx"
    assert [entry.name for entry in tmp_path.iterdir()] == ["engines.json"]


def test_one_figure_alone_decides_nothing(folder: Path, tmp_path: Path) -> None:
    write_costs({folder: {CPU_ENGINES[1]: 0.1}}, tmp_path)
    assert choose(folder, tmp_path) == CPU_ENGINES[0]


def test_figures_of_another_model_or_machine_or_version_do_not_count(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = {CPU_ENGINES[0]: 0.2, CPU_ENGINES[1]: 0.1}
    write_costs({tmp_path / "other": costs}, tmp_path)
    assert read_costs(folder, tmp_path) == {}
    write_costs({folder: costs}, tmp_path)
    assert read_costs(folder, tmp_path) == costs
    with monkeypatch.context() as changed:
        changed.setattr(measured, "this_processor", lambda: Processor("another", "x86_64", ()))
        assert read_costs(folder, tmp_path) == {}
    with monkeypatch.context() as changed:
        changed.setattr(measured, "version", lambda package: "0.0")
        assert read_costs(folder, tmp_path) == {}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40) | VALUES, depth=st.integers(0, 2))
def test_a_file_of_another_shape_says_nothing(
    folder: Path, tmp_path: Path, content: object, depth: int
) -> None:
    if isinstance(content, bytes):
        data = content
    else:
        costs = {str(folder.resolve()): content}
        models = (content, costs, {str(folder.resolve()): {"ctranslate2": content, "onnx": content}})[depth]
        data = json.dumps({"measured_on": measured._here(), "models": models}).encode()
    (tmp_path / "engines.json").write_bytes(data)
    assert all(cost > 0 for cost in read_costs(folder, tmp_path).values())
    assert choose(folder, tmp_path) in CPU_ENGINES


def test_attention_and_other_folders_are_for_engines_that_can(folder: Path, tmp_path: Path) -> None:
    write_costs({folder: {"ctranslate2": 0.1, "onnx": 0.2}}, tmp_path)
    assert choose(folder, tmp_path, needs_attention=True) == "onnx"
    assert choose(tmp_path, tmp_path) == "onnx"


def test_a_card_is_no_cpu(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_costs({folder: {"ctranslate2": 0.2, "onnx": 0.1}}, tmp_path)
    monkeypatch.setattr(devices, "choose_device", lambda wanted: "cuda")
    assert choose_engine("auto", folder, cache_dir=tmp_path) == "ctranslate2"


def test_an_engine_that_fails_gives_way_where_it_was_chosen_by_itself(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(name: str, model: ModelToLoad) -> str:
        asked.append(name)
        if name == "onnx":
            raise ModelUnavailable("the graphs cannot be written")
        return f"loaded {name}"

    monkeypatch.setattr("serve_app.asr.config.load_engine", load)
    write_costs({folder: {"ctranslate2": 0.2, "onnx": 0.1}}, tmp_path)
    model = HostedModel("own", folder)

    def config(engine: str, **more: bool) -> RecogniserConfig:
        return RecogniserConfig({Role.FINAL: model}, engine=engine, device="cpu", cache_dir=tmp_path, **more)

    assert _load_engine(config("auto"), model) == "loaded ctranslate2"
    assert asked == ["onnx", "ctranslate2"]
    with pytest.raises(ModelUnavailable, match="cannot be written"):
        _load_engine(config("onnx"), model)
    with pytest.raises(ModelUnavailable, match="cannot be written"):
        _load_engine(config("auto", needs_attention=True), model)
    assert choice.is_on_cpu("mps") is False
