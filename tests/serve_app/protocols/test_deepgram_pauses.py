from dataclasses import replace

import pytest

from serve_app.core.events import Final, Timing
from serve_app.protocols.deepgram.pauses import BUSY_BEATS, QUIET_BEATS, Pauses

S = 16_000


def final(start_s, end_s, *, resume_s=None, decided_s=None):
    resume_s = end_s if resume_s is None else resume_s
    decided_s = end_s if decided_s is None else decided_s
    start, end, resume = (round(at * S) for at in (start_s, end_s, resume_s))
    return Final("u", 0, "x", (), 0.9, -0.1, "en", 0.9, start, end, resume, Timing(), round(decided_s * S))


def spoken(pauses, start_s, end_s):
    pauses.speech_started(round(start_s * S))
    pauses.speech_ended(round(end_s * S))


def test_a_pause_makes_a_final_one_of_speech():
    pauses = Pauses()
    spoken(pauses, 0.2, 1.2)
    assert pauses.final(final(0.0, 1.4, decided_s=1.7), 1.2, 1.8) == (True, False)


def test_a_final_cut_for_its_length_is_not_one_of_speech():
    pauses = Pauses()
    pauses.speech_started(0)
    assert pauses.final(final(0, 20.1, resume_s=19.9, decided_s=25), 20.0, 25) == (False, False)
    pauses.speech_ended(20 * S)
    assert pauses.final(final(19.9, 20.4), 20.0, 26) == (True, False)


def test_a_cut_whose_rest_is_silent_is_not_one_of_speech_though_that_has_ended():
    pauses = Pauses()
    spoken(pauses, 0, 20.0)
    assert pauses.final(final(0, 20.1, resume_s=19.9, decided_s=25), 20.0, 25)[0] is False


def test_audio_that_is_sent_again_for_its_speakers_is_no_cut():
    pauses = Pauses()
    spoken(pauses, 2.2, 3.2)
    event = replace(final(2.0, 3.4, resume_s=0.5, decided_s=3.7), next_sample=3.7 * 16_000)
    assert pauses.final(event, 3.2, 3.8) == (True, False)


def test_without_voice_detection_no_final_is_one_of_speech():
    assert Pauses().final(final(0, 5), 4.9, 5)[0] is False


def test_the_gap_counts_from_the_last_word_and_waits_for_what_is_not_heard_yet():
    pauses = Pauses()
    spoken(pauses, 0.2, 1.2)
    pauses.final(final(0, 1.4, decided_s=1.7), 1.2, 2.0)  # 0.3 s behind
    assert pauses.utterance_end(1.0, 2.3) is None
    assert pauses.utterance_end(1.0, 2.49) is None
    assert pauses.utterance_end(1.0, 2.51) == 1.2
    assert pauses.utterance_end(1.0, 9.0) is None, "once for each last word"


def test_audio_sent_ahead_is_no_silence():
    pauses = Pauses()
    spoken(pauses, 0.2, 1.2)
    pauses.final(final(0, 1.4, decided_s=1.7), 1.2, 60.0)
    assert pauses.utterance_end(1.0, 60.0) is None
    pauses.speech_started(round(1.9 * S))
    assert pauses.utterance_end(1.0, 60.0) is None
    pauses.speech_ended(3 * S)
    pauses.final(final(1.8, 3.2, decided_s=3.5), 2.9, 60.0)
    pauses.speech_started(4 * S)
    assert pauses.utterance_end(1.0, 60.0) == 2.9


def test_a_noise_without_words_puts_the_end_off_but_not_for_ever():
    pauses = Pauses()
    spoken(pauses, 0.2, 1.2)
    pauses.final(final(0, 1.4, decided_s=1.7), 1.2, 1.7)
    pauses.speech_started(2 * S)
    assert pauses.utterance_end(1.0, 5.0) is None
    pauses.speech_ended(round(2.4 * S))
    assert pauses.utterance_end(1.0, 4.3) is None, "its text may be on its way"
    assert pauses.utterance_end(1.0, 4.5) == 1.2


def test_a_gap_inside_what_was_decided_is_over_at_once():
    pauses = Pauses()
    spoken(pauses, 0.2, 1.2)
    pauses.final(final(0, 1.4, decided_s=2.2), 1.2, 2.2)
    assert pauses.utterance_end(1.0, 2.2) == 1.2


def test_before_any_word_there_is_no_end():
    pauses = Pauses()
    spoken(pauses, 0, 1)
    assert pauses.utterance_end(1.0, 10) is None


def test_the_final_of_the_flush_answers_it_and_one_that_was_on_its_way_does_not():
    pauses = Pauses()
    spoken(pauses, 0, 1)
    pauses.finalize(5.0)
    assert pauses.final(final(0, 1.2, decided_s=1.5), 1, 5) == (True, False)
    spoken(pauses, 4, 5)
    assert pauses.final(final(3.8, 5.0, decided_s=4.99), 5, 5) == (True, True)
    assert not pauses.unanswered_finalize(5, beat=True, ended=True)


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_flush_of_silence_is_answered_after_some_quiet(is_busy):
    pauses = Pauses()
    if is_busy:
        spoken(pauses, 0, 1)
    pauses.finalize(2.0)
    beats = 0
    while not pauses.unanswered_finalize(2.0, beat=True):
        beats += 1
    assert beats + 1 == (BUSY_BEATS if is_busy else QUIET_BEATS)
    assert not pauses.unanswered_finalize(9.0, beat=True)


def test_an_old_noise_without_words_is_not_waited_for():
    pauses = Pauses()
    spoken(pauses, 0, 1)
    pauses.finalize(60.0)
    assert not pauses.unanswered_finalize(60.0, beat=True)
    assert pauses.unanswered_finalize(60.0, beat=True)


def test_audio_that_goes_on_counts_as_waiting_too():
    pauses = Pauses()
    pauses.finalize(2.0)
    assert not pauses.unanswered_finalize(2.9)
    assert pauses.unanswered_finalize(3.0)


def test_a_flush_is_answered_at_the_latest_when_the_session_ends():
    pauses = Pauses()
    spoken(pauses, 0, 1)
    pauses.finalize(2.0)
    assert pauses.unanswered_finalize(2.0, ended=True)


def test_what_is_remembered_is_bounded():
    pauses = Pauses()
    for second in range(1_000):
        spoken(pauses, second, second + 0.5)
    assert len(pauses._spells) == 64
