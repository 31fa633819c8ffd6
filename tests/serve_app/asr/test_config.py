"""From plain choices to a recogniser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serve_app.asr.config import HostedModel, RecogniserConfig, build_recogniser
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import (
    DecodeFailure,
    DecodeJob,
    Role,
    Transcript,
)
from serve_app.core.samples import Pcm16

NOWHERE = HostedModel("none", Path("/nonexistent"))


def test_defaults_on_a_cpu_and_on_a_card() -> None:
    config = RecogniserConfig({Role.FINAL: NOWHERE}, num_workers=4)
    cpu, card = config.limits(on_card=False), config.limits(on_card=True)
    assert cpu.max_batch == {Role.FINAL: 1, Role.RECORDING: 1, Role.INTERIM: 4}
    assert card.max_batch == dict.fromkeys(Role, 8)
    small = RecogniserConfig({Role.FINAL: NOWHERE}, max_batch=2)
    assert small.limits(on_card=False).max_batch[Role.INTERIM] == 2
    assert (cpu.max_workers(Role.FINAL), cpu.max_workers(Role.INTERIM), cpu.max_workers(Role.RECORDING)) == (
        4,
        1,
        3,
    )
    assert (
        config.windows(on_card=True)[Role.FINAL].bucket_frames
        > config.windows(on_card=False)[Role.FINAL].bucket_frames
    )


def test_full_windows_are_for_finals_and_recordings() -> None:
    windows = RecogniserConfig({Role.FINAL: NOWHERE}, full_window_finals=True).windows(on_card=False)
    assert [windows[role].full_window for role in (Role.FINAL, Role.RECORDING, Role.INTERIM)] == [
        True,
        True,
        False,
    ]


def test_a_missing_model_is_named() -> None:
    with pytest.raises(ModelUnavailable, match="nonexistent"):
        build_recogniser(RecogniserConfig({Role.FINAL: NOWHERE}, device="cpu"))


@pytest.mark.models
async def test_both_roles_on_one_model_load_it_once_and_decode(tiny_folder: Path, german: Pcm16) -> None:
    model = HostedModel("tiny.en", tiny_folder)
    config = RecogniserConfig({Role.FINAL: model, Role.INTERIM: model}, device="cpu")
    recogniser = build_recogniser(config)
    assert recogniser._transcribers[Role.FINAL] is recogniser._transcribers[Role.INTERIM]
    silence = DecodeJob(1, Role.INTERIM, np.zeros(16_000, np.int16), "en")
    results = [
        result async for result in recogniser.decode([silence, DecodeJob(2, Role.FINAL, german, "de")])
    ]
    by_id = {result.job_id: result for result in results}
    assert isinstance(by_id[1], Transcript)
    assert isinstance(by_id[2], DecodeFailure)
    await recogniser.close()
