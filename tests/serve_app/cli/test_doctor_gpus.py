"""What `sotto doctor` says of cards."""

from __future__ import annotations

import pytest

from fakes.nvml import GIB, FakeCard, FakeNvml, rtx_2060
from serve_app.capacity import machine as gpus
from serve_app.cli import doctor
from serve_app.launch import plan


def findings(
    monkeypatch: pytest.MonkeyPatch, *cards: FakeCard, readable: bool = True
) -> dict[str, tuple[str, str]]:
    found = gpus.read_gpus(FakeNvml(cards, has_driver=readable))
    monkeypatch.setattr(plan, "num_cuda_devices", lambda: len(cards))
    monkeypatch.setattr(gpus, "read_gpus", lambda: found)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return {finding.what: (finding.level, finding.detail) for finding in doctor._devices()}


def test_every_card_with_its_figures_and_what_it_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(monkeypatch, rtx_2060(), rtx_2060(temperature_celsius=87))
    assert found["device"] == ("ok", "2 CUDA device(s)")
    assert "41 °C" in found["GPU 0"][1]
    assert "87 °C, 36 of 160 W" in found["GPU 1"][1]
    assert found["GPU models"] == (
        "ok",
        "finals large-v3-turbo in int8_float16, interims small in float16, batches up to 5",
    )


def test_cards_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    level, detail = findings(monkeypatch, rtx_2060(), readable=False)["GPU"]
    assert level == "note"
    assert "nvidia-ml-py" in detail


def test_a_card_that_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(monkeypatch, FakeCard("small", GIB, (7, 5)))
    assert found["GPU models"][0] == "note"


def test_nothing_is_said_of_cards_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(findings(monkeypatch)) == ["device"]
