"""Subtitles of a recording: SubRip (.srt), WebVTT (.vtt), tab-separated values and plain text.

A cue holds at most one sentence of one speaker, two lines of 42 characters and 7 seconds, and cues never
overlap; the figures are the usual ones of subtitling guides. WebVTT escapes `&`, `<` and `>` and names
speakers by voice spans (W3C WebVTT, section 4.2.2); SubRip has neither, so an arrow that would look like its
timing line is replaced, and a speaker is named within the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from serve_app.models.languages.writing import SENTENCE_END
from serve_app.service.contract import RecordingSegment, RecordingTranscript
from serve_app.speakers.turns import speaker_label

MAX_LINE_CHARS = 42
MAX_CUE_MS = 7_000
MAX_GAP_MS = 1_000
"""A pause as long as this ends a cue even within a sentence."""

_ABBREVIATION = re.compile(r"^\W*(?:[^\W\d_]|Dr|Mr|Mrs|Ms|St|vs|Sr|Sra|Dra|e\.g|i\.e)\.$", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Cue:
    """One or two lines, shown from `start_ms` until `end_ms`, which is always later."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    speaker: int | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    """A word with its leading space, if it has one: breaks are possible before any token."""

    text: str
    start_ms: int
    end_ms: int
    speaker: int | None = None


Label = Callable[[int], str]
"""What a speaker, counted from 0, is called."""


def to_text(transcript: RecordingTranscript, label: Label = speaker_label) -> str:
    """The text alone; where speakers were asked for, as `to_turns`."""
    if transcript.num_speakers is not None:
        return to_turns(transcript.segments, label)
    return transcript.text.strip() + "\n"


def to_turns(segments: Iterable[RecordingSegment], label: Label = speaker_label) -> str:
    """A line for every turn, `SPEAKER_01: text`; without a name where the speaker is not known."""
    lines = []
    for speaker, turn in groupby(segments, lambda segment: segment.speaker):
        text = " ".join(_CONTROL.sub(" ", segment.text).strip() for segment in turn)
        lines.append(text if speaker is None else f"{label(speaker)}: {text}")
    return "\n".join(lines) + "\n"


def to_tsv(segments: Iterable[RecordingSegment], label: Label = speaker_label) -> str:
    """A segment a line, as Whisper's own program writes them: `start`, `end` (milliseconds) and `text`, and
    where speakers are known a fourth column."""
    segments = tuple(segments)
    speakers = any(segment.speaker is not None for segment in segments)
    lines = ["start\tend\ttext" + ("\tspeaker" if speakers else "")]
    for segment in segments:
        text = _CONTROL.sub(" ", segment.text).strip()
        line = f"{round(segment.start_s * 1000)}\t{round(segment.end_s * 1000)}\t{text}"
        name = "" if segment.speaker is None else label(segment.speaker)
        lines.append(f"{line}\t{name}" if speakers else line)
    return "\n".join(lines) + "\n"


def to_srt(segments: Iterable[RecordingSegment], label: Label = speaker_label) -> str:
    """Speakers, where they are known, are named at the beginning of a cue, within its two lines."""
    blocks = []
    for number, cue in enumerate(cues(segments, label), start=1):
        lines = [line.replace("-->", "→") for line in cue.lines]
        timing = f"{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}"
        blocks.append("\n".join([str(number), timing, *lines, ""]))
    return "\n".join(blocks)


def to_vtt(segments: Iterable[RecordingSegment], label: Label = speaker_label) -> str:
    """Speakers, where they are known, are named by a voice span around the cue."""
    blocks = ["WEBVTT\n"]
    for cue in cues(segments):
        lines = [line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for line in cue.lines]
        if cue.speaker is not None:
            lines[0] = f"<v {label(cue.speaker)}>{lines[0]}"
        timing = f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}"
        blocks.append("\n".join([timing, *lines, ""]))
    return "\n".join(blocks)


def cues(segments: Iterable[RecordingSegment], label: Label | None = None) -> list[Cue]:
    """Cues in order; word times are used where a segment has them, else its time is shared out by length.

    With `label` the text of a cue begins with the name of its speaker.
    """
    tokens = [token for segment in segments for token in _tokens(segment)]
    placed: list[Cue] = []
    now_ms = 0
    for group in _groups(tokens, label):
        start_ms = max(group[0].start_ms, now_ms)
        last_ms = max(token.end_ms for token in group)
        end_ms = max(start_ms + 1, min(last_ms, start_ms + MAX_CUE_MS))
        placed.append(Cue(start_ms, end_ms, _lines(group), group[0].speaker))
        now_ms = end_ms
    return placed


def _groups(tokens: Sequence[_Token], label: Label | None) -> Iterator[list[_Token]]:
    group: list[_Token] = []
    for token in tokens:
        if group and _breaks(group, token):
            yield group
            group = []
        if not group and label is not None and token.speaker is not None:
            group.append(replace(token, text=f"{label(token.speaker)}:", end_ms=token.start_ms))
            group.append(replace(token, text=f" {token.text.lstrip()}"))
        else:
            group.append(token)
    if group:
        yield group


def _breaks(group: list[_Token], token: _Token) -> bool:
    last = group[-1]
    if last.speaker != token.speaker:
        return True
    word = last.text.strip()
    if SENTENCE_END.search(word) and not _ABBREVIATION.match(word):
        return True
    if token.start_ms - last.end_ms >= MAX_GAP_MS or token.end_ms - group[0].start_ms > MAX_CUE_MS:
        return True
    return _split_index([*group, token]) is None


def _split_index(group: Sequence[_Token]) -> int | None:
    """Where the second line begins (`len(group)`: one line is enough), the two as even as can be."""
    if len(_joined(group)) <= MAX_LINE_CHARS:
        return len(group)
    best: tuple[int, int] | None = None
    for index in range(1, len(group)):
        first, second = len(_joined(group[:index])), len(_joined(group[index:]))
        if first > MAX_LINE_CHARS:
            break
        if second <= MAX_LINE_CHARS and (best is None or abs(first - second) <= best[0]):
            best = (abs(first - second), index)
    return best[1] if best else None


def _lines(group: Sequence[_Token]) -> tuple[str, ...]:
    index = _split_index(group) or len(group)
    return tuple(line for line in (_joined(group[:index]), _joined(group[index:])) if line)


def _joined(group: Sequence[_Token]) -> str:
    return "".join(token.text for token in group).strip()


def _tokens(segment: RecordingSegment) -> Iterator[_Token]:
    if segment.words:
        timed = [(word.word, word.start_s, word.end_s) for word in segment.words]
    else:
        timed = list(_shared_out(segment))
    for index, (text, start_s, end_s) in enumerate(timed):
        clean = _CONTROL.sub(" ", text).rstrip()
        spaced = index == 0 or clean.startswith(" ")
        if word := " ".join(clean.split()):
            yield from _pieces(
                (" " if spaced else "") + word,
                round(start_s * 1000),
                round(end_s * 1000),
                segment.speaker,
            )


def _shared_out(segment: RecordingSegment) -> Iterator[tuple[str, float, float]]:
    words = segment.text.split()
    total_chars = sum(map(len, words))
    per_char_s = (segment.end_s - segment.start_s) / total_chars if total_chars else 0.0
    at_s = segment.start_s
    for word in words:
        end_s = at_s + len(word) * per_char_s
        yield f" {word}", at_s, end_s
        at_s = end_s


def _pieces(text: str, start_ms: int, end_ms: int, speaker: int | None) -> Iterator[_Token]:
    """One token, or several where it is longer than a line (addresses, writing without spaces)."""
    size = MAX_LINE_CHARS
    starts = range(0, len(text), size)
    step_ms = max(0, end_ms - start_ms) / len(starts)
    for index, at in enumerate(starts):
        from_ms = start_ms + round(index * step_ms)
        yield _Token(text[at : at + size], from_ms, start_ms + round((index + 1) * step_ms), speaker)


def _clock(at_ms: int, point: str) -> str:
    seconds, ms = divmod(at_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{ms:03d}"
