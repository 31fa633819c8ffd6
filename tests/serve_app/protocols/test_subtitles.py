import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fakes.fake_service import HELLO
from serve_app.core.jobs import Word
from serve_app.protocols.subtitles import (
    MAX_CUE_MS,
    MAX_LINE_CHARS,
    Cue,
    cues,
    to_srt,
    to_text,
    to_turns,
    to_vtt,
)
from serve_app.service.contract import RecordingSegment
from serve_app.speakers.turns import openai_label, speaker_label

GOLDEN = Path(__file__).parents[2] / "golden" / "subtitles"


def spoken(text, start_s=0.0, word_s=0.4, gap_s=0.0):
    """A segment whose words follow one another."""
    words, at_s = [], start_s
    for word in text.split():
        words.append(Word(f" {word}", at_s, at_s + word_s, 0.9))
        at_s += word_s + gap_s
    return RecordingSegment(start_s, at_s, f" {text}", -0.2, 0.0, tuple(words))


def written(text, start_s, end_s):
    return RecordingSegment(start_s, end_s, text, -0.2, 0.0)


TALK = (
    spoken("Good morning, Dr. Silva. How are you feeling today?"),
    spoken(
        "The patient reports a persistent cough for about three weeks now and a temperature of 38 degrees.",
        start_s=10.0,
        word_s=0.3,
    ),
    written(" Blood pressure <130 & falling --> fine.", 3661.0, 3663.5),
)


def test_srt_and_vtt_are_the_golden_files():
    assert to_srt(TALK) == (GOLDEN / "talk.srt").read_text()
    assert to_vtt(TALK) == (GOLDEN / "talk.vtt").read_text()


DIALOGUE = (
    replace(spoken("How are you feeling today? Better than"), speaker=0),
    replace(spoken("last week?", start_s=2.9), speaker=0),
    replace(spoken("A little, thank you.", start_s=4.0), speaker=1),
    replace(
        spoken("The cough that kept me awake for about three weeks is gone now & <well>", start_s=6.0),
        speaker=1,
    ),
    replace(written(" Hm.", 12.0, 12.5), speaker=None),
)


def test_subtitles_with_speakers_are_the_golden_files():
    assert to_srt(DIALOGUE) == (GOLDEN / "dialogue.srt").read_text()
    assert to_vtt(DIALOGUE) == (GOLDEN / "dialogue.vtt").read_text()


def test_a_turn_is_a_line():
    assert to_turns(DIALOGUE, openai_label) == (
        "A: How are you feeling today? Better than last week?\n"
        "B: A little, thank you. The cough that kept me awake for about three weeks is gone now & <well>\n"
        "Hm.\n"
    )
    assert to_turns(()) == "\n"


segments_of_speakers = st.lists(
    st.tuples(st.text("ab .あ", min_size=1, max_size=120), st.sampled_from([0, 1, 99, None])), max_size=6
)


@given(segments_of_speakers)
def test_a_cue_has_one_speaker_and_its_name_takes_part_in_its_width(said):
    segments = [replace(written(text, at, at + 1.0), speaker=who) for at, (text, who) in enumerate(said)]
    found = cues(segments, speaker_label)
    for before, after in pairwise(found):
        assert before.end_ms <= after.start_ms
    for cue in found:
        assert 1 <= len(cue.lines) <= 2
        assert all(len(line) <= MAX_LINE_CHARS for line in cue.lines)
        name = "" if cue.speaker is None else speaker_label(cue.speaker) + ":"
        assert cue.lines[0].startswith(name)
        shown = "".join("".join(cue.lines).split()).removeprefix(name)
        assert shown in "".join("".join(text.split()) for text, who in said if who == cue.speaker)
    spoken_text = "".join("".join(text.split()) for text, _ in said)
    plain = "".join("".join("".join(cue.lines).split()) for cue in cues(segments))
    assert plain == spoken_text


def test_cues_end_with_sentences_but_not_with_abbreviations():
    assert [" ".join(cue.lines) for cue in cues(TALK[:1])] == [
        "Good morning, Dr. Silva.",
        "How are you feeling today?",
    ]


def test_two_lines_are_about_even():
    (cue,) = cues([spoken("one two three four five six seven eight nine ten eleven", word_s=0.2)])
    assert cue.lines == ("one two three four five six", "seven eight nine ten eleven")


def test_a_pause_ends_a_cue():
    found = cues([spoken("so", 0.0), spoken("anyway", 3.0)])
    assert [cue.lines for cue in found] == [("so",), ("anyway",)]
    assert found[0].end_ms == 400


def test_overlapping_segments_do_not_overlap_as_cues():
    found = cues([written("First one.", 0.0, 3.0), written("Second one.", 2.0, 4.0)])
    assert found == [Cue(0, 3000, ("First one.",)), Cue(3000, 4000, ("Second one.",))]


def test_writing_without_spaces_is_broken_into_lines():
    found = cues([written("あ" * 100, 0.0, 5.0)])
    assert "".join("".join(cue.lines) for cue in found) == "あ" * 100
    assert all(len(line) <= MAX_LINE_CHARS for cue in found for line in cue.lines)


def test_nothing_said_is_an_empty_file():
    assert to_srt([]) == ""
    assert to_vtt([]) == "WEBVTT\n"
    assert to_text(replace(HELLO, text=" hello \n")) == "hello\n"
    assert cues([written("  ", 0.0, 1.0)]) == []


TIMES = st.floats(0, 5_000)
TEXT = st.text(st.characters(codec="utf-8"), max_size=60) | st.text("ab .?!-><&\n", max_size=200)


@st.composite
def segments(draw):
    start_s, end_s = draw(TIMES), draw(TIMES)
    words = tuple(Word(draw(TEXT), draw(TIMES), draw(TIMES), 0.5) for _ in range(draw(st.integers(0, 4))))
    return RecordingSegment(start_s, end_s, draw(TEXT), -0.1, 0.0, words)


@given(st.lists(segments(), max_size=5))
def test_any_recording_gives_cues_within_the_limits(recording):
    found = cues(recording)
    for cue in found:
        assert 0 < cue.end_ms - cue.start_ms <= MAX_CUE_MS
        assert 1 <= len(cue.lines) <= 2
        assert all(0 < len(line) <= MAX_LINE_CHARS and "\n" not in line for line in cue.lines)
    for cue, later in zip(found, found[1:], strict=False):
        assert cue.end_ms <= later.start_ms


@given(st.lists(segments(), max_size=5))
def test_only_timing_lines_hold_an_arrow(recording):
    timing = re.compile(r"\d{2,}:\d\d:\d\d[.,]\d{3} --> \d{2,}:\d\d:\d\d[.,]\d{3}")
    for text in (to_srt(recording), to_vtt(recording)):
        for line in text.split("\n"):
            assert "-->" not in line or timing.fullmatch(line)
        assert sum("-->" in line for line in text.split("\n")) == len(cues(recording))


@given(st.lists(segments(), max_size=5))
def test_vtt_leaves_no_markup_to_the_player(recording):
    body = [line for line in to_vtt(recording).split("\n") if "-->" not in line]
    assert not any("<" in line or ">" in line for line in body)
