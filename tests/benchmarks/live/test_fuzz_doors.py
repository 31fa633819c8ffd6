import pytest

from benchmarks.live import fuzz_doors
from benchmarks.live.fuzz_doors import NOT_SERVED, TARGETS, FrameMutator, fuzz
from serve_app.protocols.native.dialect import NativeDialect

NUM_FRAMES = 2_000


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
async def test_no_door_fails_whatever_it_is_sent(target: fuzz_doors.Target) -> None:
    outcome = await fuzz(target, NUM_FRAMES, seed=1)
    if outcome.closes[NOT_SERVED]:
        pytest.skip("this door is not among the application's routes")
    assert outcome.failures == []
    assert outcome.num_frames >= NUM_FRAMES
    assert len(outcome.closes) > 1


async def test_a_door_that_fails_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def receive(self: NativeDialect, frame: str | bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(NativeDialect, "receive", receive)
    outcome = await fuzz(TARGETS[0], 10, seed=1)
    assert any("1011" in failure for failure in outcome.failures)
    assert any("live connection failed" in failure for failure in outcome.failures)


async def test_a_door_that_hangs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(self: object) -> None:
        await fuzz_doors.asyncio.Event().wait()

    monkeypatch.setattr("serve_app.web.live.shell.LiveShell.run", hang)
    monkeypatch.setattr(fuzz_doors, "MAX_CONNECTION_S", 0.05)
    outcome = await fuzz(TARGETS[0], 1, seed=1)
    assert outcome.failures[0].startswith("hang")


def test_the_frames_of_a_seed_are_the_same() -> None:
    one, other = FrameMutator(TARGETS[0].valid, 3), FrameMutator(TARGETS[0].valid, 3)
    assert [list(one.conversation()) for _ in range(20)] == [list(other.conversation()) for _ in range(20)]


def test_frames_of_both_kinds_and_valid_ones_come_up() -> None:
    mutator = FrameMutator(TARGETS[0].valid, 3)
    frames = [frame for _ in range(50) for frame in mutator.conversation()]
    valid = sum(frame in TARGETS[0].valid for frame in frames)
    assert 0.2 < valid / len(frames) < 0.6
    assert {type(frame) for frame in frames} == {str, bytes}
