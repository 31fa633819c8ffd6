from typing import Any

from fakes.speech_server import final_message
from serve_app.cli.live import show
from sotto_client.messages import parse_message


class Screen:
    """What was printed as final."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, str]] = []

    def interim(self, stable: str, rest: str) -> None:
        raise AssertionError("nothing interim was said")

    def final(self, start_ms: float, text: str) -> None:
        self.lines.append((start_ms, text))


def shown(*messages: dict[str, Any]) -> list[tuple[float, str]]:
    screen, speakers = Screen(), dict[str, str | None]()
    for message in messages:
        show(parse_message(message), screen, speakers)
    return screen.lines


def revision(segment: str, speaker: str | None) -> dict[str, Any]:
    return {
        "type": "speaker_revision",
        "segment_id": segment,
        "speaker": speaker,
        "words": None,
        "start_ms": 5.0,
    }


def test_finals_begin_with_their_speaker() -> None:
    assert shown(final_message("hello", 1.0), final_message("there", 2.0) | {"speaker": "SPEAKER_01"}) == [
        (0.0, "hello"),
        (0.0, "[SPEAKER_01] there"),
    ]


def test_a_speaker_that_is_learned_later_is_told_once() -> None:
    assert shown(
        final_message("hello", 1.0, "seg-1"),
        final_message("there", 2.0, "seg-2") | {"speaker": "SPEAKER_02"},
        revision("seg-1", "SPEAKER_01"),
        revision("seg-1", "SPEAKER_01"),
        revision("seg-2", "SPEAKER_02"),
        revision("seg-2", None),
    ) == [(0.0, "hello"), (0.0, "[SPEAKER_02] there"), (5.0, "was [SPEAKER_01]")]
