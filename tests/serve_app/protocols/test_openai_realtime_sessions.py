"""The Realtime dialect over real sessions: whatever is said and committed, every turn is answered once."""

import base64
import json
import random
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fakes.session_driver import Driver
from fakes.talk import Say, speak
from serve_app.core.events import Final, SessionEnded
from serve_app.protocols.dialect import Audio, Flush, Open, Reply
from serve_app.protocols.openai.errors import RefusedParameter
from serve_app.protocols.openai.realtime import RealtimeDialect
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session

CHUNK_SAMPLES = 1_600
PREFIX = "conversation.item.input_audio_transcription."


class Conversation:
    """A client, the dialect and a session, with answers in the order that `rng` chooses."""

    def __init__(self, rng, turn_detection, max_utterance_ms=30_000):
        self.rng = rng
        self.max_utterance_ms = max_utterance_ms
        self.dialect = RealtimeDialect("abc")
        self.driver = None
        self.num_sent = 0
        self.frames = []
        audio = {"format": {"type": "audio/pcm", "rate": 16_000}, "turn_detection": turn_detection}
        self.say({"type": "session.update", "session": {"type": "transcription", "audio": {"input": audio}}})

    def say(self, event):
        for command in self.dialect.receive(json.dumps(event)):
            match command:
                case Open(choices):
                    self.open(choices)
                case Audio(data):
                    self.driver.session.push(np.frombuffer(data, "<i2").astype(np.int16))
                case Flush():
                    self.driver.session.flush()
                case Reply(frames):
                    self.frames += map(json.loads, frames)
        self.hear()

    def open(self, choices):
        options = choices.session_options("s1", SessionOptions("", partial_interval_ms=100))
        endpointing = replace(options.endpointing, max_utterance_ms=self.max_utterance_ms)
        options = replace(options, endpointing=endpointing)
        self.driver = Driver(Session(options, acknowledge=True), self.rng)
        self.dialect.opened("s1")

    def hear(self):
        if self.driver is None:
            return
        self.driver.turn()
        self.forward()

    def forward(self):
        for event in self.driver.events[self.num_sent :]:
            self.frames += map(json.loads, self.dialect.send(event))
        self.num_sent = len(self.driver.events)

    def append(self, samples):
        self.say({"type": "input_audio_buffer.append", "audio": base64.b64encode(samples.tobytes()).decode()})

    def end(self):
        self.driver.session.end()
        while not self.driver.session.ended:
            self.driver.turn(answer_all=True)
        self.forward()
        assert isinstance(self.driver.events[-1], SessionEnded)

    @property
    def final_words(self):
        return " ".join(event.text for event in self.driver.events if isinstance(event, Final)).split()


def talk_of(rng, num_words):
    pauses = [60, 60, 60, 100, 900, 1_500]
    return [
        Say(number, ms=rng.randint(250, 500), pause_ms=rng.choice(pauses))
        for number in range(1, num_words + 1)
    ]


def check(frames, words, *, cut=False):
    """`cut`: utterances were cut for length; what the seam takes away again may have been in a delta."""
    committed = [frame["item_id"] for frame in frames if frame["type"] == "input_audio_buffer.committed"]
    completed = [frame for frame in frames if frame["type"] == f"{PREFIX}completed"]
    assert [frame["item_id"] for frame in completed] == committed
    assert len(set(committed)) == len(committed)
    said = " ".join(frame["transcript"] for frame in completed if frame["transcript"])
    assert said.split() == words
    for frame in completed:
        mine = [part for part in frames if part.get("item_id") == frame["item_id"]]
        deltas = [part["delta"] for part in mine if "delta" in part]
        assert cut or "".join(deltas) == frame["transcript"]
        assert mine[-1] is frame


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([2_000, 5_000, 30_000]))
def test_turns_found_by_the_detector(seed, num_words, max_utterance_ms):
    rng = random.Random(seed)
    words = talk_of(rng, num_words)
    audio = speak(words)
    conversation = Conversation(rng, {"type": "server_vad", "silence_duration_ms": 500}, max_utterance_ms)
    for start in range(0, len(audio), CHUNK_SAMPLES):
        conversation.append(audio[start : start + CHUNK_SAMPLES])
    conversation.end()
    check(conversation.frames, conversation.final_words, cut=max_utterance_ms < 30_000)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([2_000, 5_000, 30_000]))
@example(seed=3976, num_words=33, max_utterance_ms=30_000)  # audio that no interim heard
def test_turns_made_by_commits(seed, num_words, max_utterance_ms):
    rng = random.Random(seed)
    words = talk_of(rng, num_words)
    conversation = Conversation(rng, None, max_utterance_ms)
    for word in words:
        conversation.append(speak([word], lead_ms=0))
        if rng.random() < 0.3:
            conversation.say({"type": "input_audio_buffer.commit"})
            if rng.random() < 0.3:
                conversation.append(speak([], lead_ms=rng.randint(150, 1_000)))
                conversation.say({"type": "input_audio_buffer.commit"})
    conversation.end()
    check(conversation.frames, conversation.final_words, cut=max_utterance_ms < 30_000)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_commits_beside_the_detector_are_answered_one_by_one(seed, num_words):
    rng = random.Random(seed)
    audio = speak(talk_of(rng, num_words))
    conversation = Conversation(rng, {"type": "server_vad", "silence_duration_ms": 500})
    num_accepted = 0
    for start in range(0, len(audio), CHUNK_SAMPLES):
        conversation.append(audio[start : start + CHUNK_SAMPLES])
        if rng.random() < 0.2:
            with suppress(RefusedParameter):
                conversation.say({"type": "input_audio_buffer.commit"})
                num_accepted += 1
    conversation.end()
    frames = conversation.frames
    committed = [frame["item_id"] for frame in frames if frame["type"] == "input_audio_buffer.committed"]
    completed = {
        frame["item_id"]: frame["transcript"] for frame in frames if frame["type"] == f"{PREFIX}completed"
    }
    assert sorted(completed) == sorted(set(committed)) == sorted(committed)
    assert len(committed) >= num_accepted
    said = " ".join(completed[name] for name in sorted(completed) if completed[name])
    assert said.split() == conversation.final_words


@pytest.mark.parametrize("seed", range(20))
def test_what_is_cleared_is_never_heard(seed):
    rng = random.Random(seed)
    conversation = Conversation(rng, None)
    kept = []
    for word in talk_of(rng, 20):
        conversation.append(speak([word], lead_ms=0))
        if rng.random() < 0.5:
            kept.append(word)
            conversation.say({"type": "input_audio_buffer.commit"})
        else:
            conversation.say({"type": "input_audio_buffer.clear"})
    conversation.end()
    check(
        [frame for frame in conversation.frames if not _is_forgotten(frame, conversation.frames)],
        [f"w{word.number}" for word in kept],
    )


def _is_forgotten(frame, frames):
    """A delta of audio that was cleared afterwards."""
    committed = {other["item_id"] for other in frames if other["type"] == "input_audio_buffer.committed"}
    return frame["type"] == f"{PREFIX}delta" and frame["item_id"] not in committed
