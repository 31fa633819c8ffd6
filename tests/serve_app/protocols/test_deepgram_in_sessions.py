"""The dialect on real sessions: what a client hears depends on the audio, not on how fast it comes."""

import json
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fakes.session_driver import Driver
from fakes.talk import Say, speak
from serve_app.protocols.deepgram.live import DeepgramDialect
from serve_app.protocols.dialect import Reply
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session

QUERY = [
    ("encoding", "linear16"), ("sample_rate", "16000"), ("interim_results", "true"), ("vad_events", "true"),
    ("utterance_end_ms", "1000"), ("endpointing", "300"),
]  # fmt: skip
TALK = speak(
    [Say(1), Say(2, pause_ms=600), Say(3), Say(4, pause_ms=2_500), Say(5), Say(6, pause_ms=3_000)],
    lead_ms=300,
)


class Client:
    """Sends audio in pieces of `chunk_ms`, `ahead_ms` before the session takes it; keeps what it hears."""

    def __init__(self, chunk_ms=100, ahead_ms=0, seed=None, **changes):
        self.dialect = DeepgramDialect(QUERY, request_id="r", created=datetime(2026, 5, 5, tzinfo=UTC))
        (opening,) = self.dialect.open_at_once()
        self.dialect.opened("s")
        options = opening.choices.session_options("s", SessionOptions("", language="en"))
        options = replace(options, endpointing=replace(options.endpointing, **changes))
        self.driver = Driver(Session(options), None if seed is None else random.Random(seed))
        self.heard = []
        self._step = chunk_ms * 16
        self._ahead = ahead_ms * 16
        self._num_events = 0

    def send(self, audio):
        sent = 0
        for start in range(0, len(audio), self._step):
            while sent < min(len(audio), start + self._step + self._ahead):
                commands = self.dialect.receive(audio[sent : sent + self._step].tobytes())
                self._keep(frame for c in commands if isinstance(c, Reply) for frame in c.frames)
                sent += self._step
            self.driver.session.push(audio[start : start + self._step])
            self._turn()
        return self

    def finalize(self):
        self.dialect.receive('{"type":"Finalize"}')
        self.driver.session.flush()
        self._turn()

    def end(self):
        self.driver.session.end()
        while not self.driver.session.ended:
            self._turn(answer_all=True)
        return self.heard

    def beat(self):
        self._keep(self.dialect.heartbeat(0.0))

    def _turn(self, **how):
        self.driver.turn(**how)
        for event in self.driver.events[self._num_events :]:
            self._keep(self.dialect.send(event))
        self._num_events = len(self.driver.events)

    def _keep(self, frames):
        self.heard += map(json.loads, frames)

    def finals(self):
        return [message for message in self.heard if message.get("is_final")]


def outline(messages):
    """Finals with their text, ends of utterances with their time, in order."""
    told = []
    for message in messages:
        if message["type"] == "UtteranceEnd":
            told.append(("end", round(message["last_word_end"], 1)))
        elif message.get("is_final"):
            told.append((message["channel"]["alternatives"][0]["transcript"], message["speech_final"]))
    return told


@pytest.mark.parametrize(
    ("chunk_ms", "ahead_ms", "seed"),
    [(100, 0, None), (100, 0, 1), (100, 0, 2), (20, 0, None), (20, 0, 3), (1_000, 0, None)]
    + [(100, 2_000, None), (100, 2_000, 4), (100, 60_000, None), (100, 60_000, 5)],
)
def test_pauses_end_results_and_gaps_end_utterances(chunk_ms, ahead_ms, seed):
    client = Client(chunk_ms, ahead_ms, seed).send(TALK)
    assert outline(client.end()) == [
        ("w1 w2", True), ("w3 w4", True), ("end", 2.2), ("w5 w6", True), ("end", 5.4)
    ]  # fmt: skip


def test_in_real_time_the_end_of_an_utterance_is_told_while_the_silence_lasts():
    client = Client()
    client.send(TALK[: 16_000 * 3 + 8_000])  # the second pause is 1.3 s long by now
    assert outline(client.heard)[-1] == ("end", 2.2)


def test_what_is_cut_for_its_length_is_no_end_of_speech():
    words = [Say(number, pause_ms=100) for number in range(1, 21)]
    client = Client(max_utterance_ms=3_000).send(speak([*words, Say(21, pause_ms=1_500)]))
    client.end()
    finals = client.finals()
    assert [final["speech_final"] for final in finals] == [False] * (len(finals) - 1) + [True]
    assert len(finals) > 2
    assert [message["type"] for message in client.heard].count("UtteranceEnd") == 1


def test_finalize_gives_what_was_said_and_its_words_answer_it():
    client = Client().send(TALK[: 16_000 * 1])  # amid the first pause
    client.finalize()
    client.driver.turn(answer_all=True)
    (final,) = client.finals()
    assert final["from_finalize"]
    assert final["channel"]["alternatives"][0]["transcript"] == "w1 w2"


def test_finalize_of_silence_is_answered_without_words():
    client = Client().send(TALK[:4_000])
    client.finalize()
    assert client.finals() == []
    for _ in range(2):
        client.beat()
    (final,) = client.finals()
    assert (final["from_finalize"], final["channel"]["alternatives"][0]["transcript"]) == (True, "")
    assert client.end() == client.finals()
