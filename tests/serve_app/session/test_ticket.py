"""Tickets: what comes back is what went in, and nothing else is taken for one."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.asr.guards import DecodeEvidence
from serve_app.core.errors import InvalidTicket
from serve_app.core.jobs import Task, Word
from serve_app.session.checkpoint import Checkpoint, SpeakerCheckpoint, UnlabelledFinal
from serve_app.session.options import SessionOptions
from serve_app.session.speakers import MAX_TICKET_WORDS
from serve_app.session.ticket import MAX_TICKET_CHARS, TicketOffice
from serve_app.speakers.live.labeller_state import LabellerState, SpeakerRow
from serve_app.streaming.policy import PolicyName, PolicyOptions
from serve_app.vad.options import EndpointingOptions

NOW_S = 1_800_000_000.0
OFFICE = TicketOffice(b"the key", lifetime_s=3600)
OPTIONS = SessionOptions("session-0123456789abcdef01234567", language="en")

number = st.floats(allow_nan=False, width=64)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
samples = st.integers(0, 2**40)
spoken = st.lists(
    st.tuples(st.integers(0, 10**8), st.integers(0, 10**8), st.none() | st.integers(0, 15)), max_size=20
)


def unlabelled(start: int, words: list[tuple[int, int, int | None]]) -> UnlabelledFinal:
    """Times are whole milliseconds in a ticket."""
    spans = tuple((start_ms / 1000, end_ms / 1000) for start_ms, end_ms, _ in words)
    return UnlabelledFinal(
        "seg-0001", 7, start, start + 16_000, spans, tuple(speaker for _, _, speaker in words)
    )


checkpoints = st.builds(
    Checkpoint,
    sample=samples,
    utterance=st.integers(0, 100_000),
    sequence=st.integers(0, 100_000),
    cut_sample=st.none() | samples,
    last_word=st.none() | st.builds(Word, text, number, number, number),
    context=text,
    doubtful=st.lists(
        st.builds(DecodeEvidence, text, number, number, number, st.booleans(), st.booleans(), st.booleans()),
        max_size=2,
    ).map(tuple),
    language_evidence=st.dictionaries(st.sampled_from(["en", "pt", "yue"]), number),
    speakers=st.none()
    | st.builds(
        SpeakerCheckpoint,
        state=st.binary(max_size=400),
        from_sample=samples,
        unlabelled=st.lists(st.builds(unlabelled, samples, spoken), max_size=3).map(tuple),
    ),
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(checkpoints, st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128))
def test_what_comes_back_is_what_went_in(checkpoint: Checkpoint, session_id: str) -> None:
    options = replace(OPTIONS, session_id=session_id)
    ticket = OFFICE.issue(options, checkpoint, NOW_S)
    assert len(ticket) <= MAX_TICKET_CHARS
    for asked in (options, replace(options, session_id="")):
        redeemed = OFFICE.redeem(ticket, asked, NOW_S + 3599)
        assert (redeemed.session_id, redeemed.checkpoint) == (session_id, checkpoint)


def test_the_round_trip_covers_every_field() -> None:
    """A field added to one of these has to be added to the ticket too."""
    assert {field.name for field in fields(Checkpoint)} == {
        "sample", "utterance", "sequence", "cut_sample", "last_word", "context", "doubtful",
        "language_evidence", "speakers",
    }  # fmt: skip
    assert [field.name for field in fields(SpeakerCheckpoint)] == ["state", "from_sample", "unlabelled"]
    assert [field.name for field in fields(UnlabelledFinal)] == [
        "utterance_id", "sequence", "start_sample", "end_sample", "spans", "speakers",
    ]  # fmt: skip
    assert [field.name for field in fields(DecodeEvidence)] == [
        "text", "avg_logprob", "no_speech_prob", "audio_s", "spaced", "ended", "looped",
    ]  # fmt: skip
    # A last word's speaker is not in it: nobody asks for that.
    assert [field.name for field in fields(Word)] == ["word", "start_s", "end_s", "probability", "speaker"]


def test_a_ticket_is_small() -> None:
    plain = Checkpoint(sample=40_000_000, utterance=900, sequence=850)
    assert len(OFFICE.issue(OPTIONS, plain, NOW_S)) < 200
    talk = (
        "The patient reports that the pain began three days ago, mostly in the evening, and that it gets "
        "worse when she climbs stairs. She took ibuprofen twice without much effect. No fever, no cough, no "
        "travel. We agreed on a blood count, an electrocardiogram, and a second visit on Thursday morning."
    )
    full = replace(
        plain,
        cut_sample=40_000_100,
        last_word=Word(" morning.", 2499.123456, 2499.654321, 0.987654321),
        context=talk[-300:],
        language_evidence={"en": 3.27182818, "pt": 0.314159265},
    )
    assert len(OFFICE.issue(OPTIONS, full, NOW_S)) < 600


def test_the_largest_ticket_of_sixteen_voices_is_taken() -> None:
    rng = np.random.default_rng(3)
    rows = [SpeakerRow.of(label, 60.0, rng.normal(size=192).astype(np.float32)) for label in range(16)]
    words = [(250_000_000 + 110 * k, 250_000_090 + 110 * k, None) for k in range(MAX_TICKET_WORDS)]
    speakers = SpeakerCheckpoint(
        LabellerState(2_500.0, tuple(rows)).to_bytes(), 40_000_000, (unlabelled(40_000_000, words),)
    )
    checkpoint = Checkpoint(sample=40_000_000, context="word " * 60, speakers=speakers)
    ticket = OFFICE.issue(OPTIONS, checkpoint, NOW_S)
    assert len(ticket) <= MAX_TICKET_CHARS
    assert OFFICE.redeem(ticket, OPTIONS, NOW_S).checkpoint == checkpoint
    eight = replace(speakers, state=LabellerState(2_500.0, tuple(rows[:8])).to_bytes(), unlabelled=())
    assert len(OFFICE.issue(OPTIONS, replace(checkpoint, speakers=eight, context=""), NOW_S)) < 2_600


FULL = OFFICE.issue(
    OPTIONS, Checkpoint(sample=16_000, sequence=1, last_word=Word(" a", 0.1, 0.2, 0.9)), NOW_S
)


@pytest.mark.parametrize("index", range(len(FULL)))
def test_no_character_can_be_changed(index: int) -> None:
    for character in "AB_-=9é\n":
        if FULL[index] != character:
            forged = FULL[:index] + character + FULL[index + 1 :]
            with pytest.raises(InvalidTicket):
                OFFICE.redeem(forged, OPTIONS, NOW_S)


@pytest.mark.parametrize("length", [*range(0, len(FULL), 7), len(FULL) - 1])
def test_nothing_can_be_cut_off_or_put_behind(length: int) -> None:
    for forged in (FULL[:length] or "A", FULL + FULL[length:], FULL + "=", FULL + "A" * MAX_TICKET_CHARS):
        with pytest.raises(InvalidTicket):
            OFFICE.redeem(forged, OPTIONS, NOW_S)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_refused_and_nothing_else_happens(forged: str) -> None:
    with pytest.raises(InvalidTicket) as refused:
        OFFICE.redeem(forged, OPTIONS, NOW_S)
    assert (refused.value.code, refused.value.retryable) == ("INVALID_TICKET", False)


def test_a_ticket_of_another_key_is_refused_and_of_the_same_key_taken() -> None:
    with pytest.raises(InvalidTicket, match="not issued here"):
        TicketOffice(b"another key").redeem(FULL, OPTIONS, NOW_S)
    assert TicketOffice(b"the key").redeem(FULL, OPTIONS, NOW_S).checkpoint.sample == 16_000


def test_a_ticket_holds_for_its_lifetime_wherever_it_was_issued() -> None:
    assert TicketOffice(b"the key", lifetime_s=1).redeem(FULL, OPTIONS, NOW_S + 3600)
    with pytest.raises(InvalidTicket, match="expired 1 s ago"):
        OFFICE.redeem(FULL, OPTIONS, NOW_S + 3601)


def test_a_ticket_is_for_its_own_session() -> None:
    with pytest.raises(InvalidTicket, match="another session"):
        OFFICE.redeem(FULL, replace(OPTIONS, session_id="mine"), NOW_S)


@pytest.mark.parametrize(
    "other",
    [
        replace(OPTIONS, language=None),
        replace(OPTIONS, task=Task.TRANSLATE),
        replace(OPTIONS, prompt="Dr. Silva"),
        replace(OPTIONS, hotwords="ibuprofen"),
        replace(OPTIONS, word_timestamps=False),
        replace(OPTIONS, carry_context=True),
        replace(OPTIONS, policy=PolicyOptions(PolicyName.LOCAL_AGREEMENT)),
        replace(OPTIONS, endpointing=EndpointingOptions(min_silence_ms=501)),
    ],
)
def test_a_ticket_is_for_the_choices_that_decide_about_finals(other: SessionOptions) -> None:
    with pytest.raises(InvalidTicket, match="other choices"):
        OFFICE.redeem(FULL, other, NOW_S)


def test_what_only_concerns_partials_may_change() -> None:
    other = replace(OPTIONS, partials=False, partial_interval_ms=900, max_partial_window_ms=2_000)
    assert OFFICE.redeem(FULL, other, NOW_S).session_id == OPTIONS.session_id


def test_a_version_with_more_options_takes_the_tickets_of_the_one_before() -> None:
    @dataclass(frozen=True)
    class MorePolicy(PolicyOptions):
        more: float = 1.0

    @dataclass(frozen=True)
    class MoreOptions(SessionOptions):
        another: bool = False
        policy: PolicyOptions = MorePolicy()

    chosen = {one.name: getattr(OPTIONS, one.name) for one in fields(OPTIONS) if one.name != "policy"}
    assert OFFICE.redeem(FULL, MoreOptions(**chosen), NOW_S).session_id == OPTIONS.session_id
    with pytest.raises(InvalidTicket, match="other choices"):
        OFFICE.redeem(FULL, MoreOptions(**chosen, another=True), NOW_S)


def test_an_empty_key_is_no_key() -> None:
    with pytest.raises(ValueError, match="empty"):
        TicketOffice(b"")
