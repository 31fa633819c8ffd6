"""One live session, sans IO: audio and results in, events and decode requests out.

Nothing here awaits, reads a clock or logs; time is a sample index at 16 kHz. Whoever drives a session

    push(samples), flush(), end(), cancel()     says what the client did
    poll_voice() -> effects, VoiceRequest?      runs the voice detector on the next windows ...
    on_voice(result) -> effects                 ... and brings its answer
    speculative_request(), interim_request()    takes optional work when there is room for it
    on_decoded(key, ...), on_decode_failed()    brings the text of a DecodeRequest

and carries out the effects: an event goes to the client, a `DecodeRequest` to a recogniser. However the
audio is chunked and however late answers come, the finals are the same. After every final the session is
no more than its `Checkpoint`: voice detector and endpointer start anew there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np

from serve_app.asr.jobs import Pcm16, Transcript
from serve_app.audio.ring import SampleBuffer
from serve_app.errors import InferenceError
from serve_app.events import (
    EndReason,
    SessionEnded,
    SessionError,
    SessionStarted,
    SpeechEnded,
    SpeechStarted,
    Timing,
)
from serve_app.session.checkpoint import Checkpoint
from serve_app.session.effects import DecodeRequest, Effect, Purpose
from serve_app.session.finals import FinalsInOrder, PendingFinal, confidence_of, utterance_id
from serve_app.session.language import LanguageTracker
from serve_app.session.options import SessionOptions, ms_to_samples
from serve_app.session.utterance import Speculation, Utterance
from serve_app.vad.detector import VadRequest, VadResult, VadState
from serve_app.vad.endpointer import WINDOW_SAMPLES, Closed, Endpointer, Opened, Paused, State

MAX_WINDOWS_PER_REQUEST = 32
"""At most a second of audio per voice request, so that one session catching up does not delay the others."""


class Mark(Enum):
    FLUSH = auto()
    END = auto()


@dataclass(slots=True)
class _Marks:
    """Where in its audio the client asked for something; at most one mark per sample."""

    queue: deque[tuple[int, Mark]] = field(default_factory=deque)

    def add(self, sample: int, mark: Mark) -> None:
        if self.queue and self.queue[-1][0] == sample:
            if mark is Mark.END:
                self.queue[-1] = (sample, mark)
            return
        self.queue.append((sample, mark))


class Session:
    """The state of one live session; not thread-safe, never blocks."""

    def __init__(self, options: SessionOptions, checkpoint: Checkpoint | None = None) -> None:
        checkpoint = checkpoint or Checkpoint()
        self.options = options
        self._buffer = SampleBuffer(checkpoint.sample)
        self._marks = _Marks()
        self._language = LanguageTracker(options.language, checkpoint.language_evidence)
        overlap_s = options.endpointing.overlap_ms / 1000
        self._finals = FinalsInOrder(checkpoint, self._language, overlap_s)
        self._waiting_finals: deque[tuple[PendingFinal, Pcm16]] = deque()
        self._number = checkpoint.utterance
        self._next_key = 0
        self._voice_in_flight = 0
        self._peeking = False
        self._ending = False
        self.ended = False
        self._voice_state: VadState | None = None
        self._utterance: Utterance | None = None
        self._restart(checkpoint.sample, checkpoint.cut_sample)

    # -- what the client did ---------------------------------------------------------------------

    def start(self) -> list[Effect]:
        return [SessionStarted(self.options.session_id)]

    def push(self, samples: Pcm16) -> None:
        """Take int16 `(n,)` audio; audio after `end` is ignored."""
        if not self._ending:
            self._buffer.append(samples)

    def flush(self) -> None:
        """Close the utterance in progress after the audio received so far."""
        if not self._ending:
            self._marks.add(self._buffer.end, Mark.FLUSH)

    def end(self) -> None:
        """No more audio: close what is open, deliver everything, then `SessionEnded`."""
        if not self._ending:
            self._ending = True
            self._marks.add(self._buffer.end, Mark.END)

    def cancel(self, reason: EndReason) -> list[Effect]:
        """Drop everything that is not delivered."""
        if self.ended:
            return []
        self._finals.clear()
        self._waiting_finals.clear()
        self._marks.queue.clear()
        self._utterance = None
        return [self._end(reason)]

    # -- what the driver looks at ----------------------------------------------------------------

    @property
    def checkpoint(self) -> Checkpoint:
        """The state after the last final delivered."""
        return self._finals.checkpoint

    @property
    def received_samples(self) -> int:
        return self._buffer.end

    @property
    def unheard_samples(self) -> int:
        """Received, but not yet seen by the voice detector."""
        return self._buffer.end - self._voice_position

    @property
    def num_pending_finals(self) -> int:
        return len(self._finals)

    # -- voice detection -------------------------------------------------------------------------

    def poll_voice(self) -> tuple[list[Effect], VadRequest | None]:
        """Advance as far as it goes without a detector; then say what the detector should look at."""
        effects: list[Effect] = []
        if self.ended or self._voice_in_flight or self._peeking:
            return effects, None
        while True:
            limit, mark = self._marks.queue[0] if self._marks.queue else (self._buffer.end, None)
            num_windows = (limit - self._voice_position) // WINDOW_SAMPLES
            if num_windows > 0:
                num_windows = min(num_windows, MAX_WINDOWS_PER_REQUEST)
                stop = self._voice_position + num_windows * WINDOW_SAMPLES
                samples = self._buffer.slice(self._voice_position, stop)
                if self.options.endpointing.enabled:
                    self._voice_in_flight = num_windows
                    return effects, VadRequest(samples, self._voice_state)
                effects += self._take_windows(_loudness(samples))
                continue
            if mark is None:
                return effects, None
            rest = limit - self._voice_position
            if rest > 0 and self.options.endpointing.enabled:
                self._peeking = True
                padded = np.zeros(WINDOW_SAMPLES, np.int16)
                padded[:rest] = self._buffer.slice(self._voice_position, limit)
                return effects, VadRequest(padded, self._voice_state)
            effects += self._reach_mark(None)

    def on_voice(self, result: VadResult) -> list[Effect]:
        """Take the detector's answer to the last `VadRequest`."""
        if self.ended:
            return []
        if self._peeking:
            self._peeking = False
            return self._reach_mark(float(result.probs[0]))
        self._voice_in_flight = 0
        self._voice_state = result.state
        return self._take_windows([float(probability) for probability in result.probs])

    def _take_windows(self, probabilities: list[float]) -> list[Effect]:
        effects: list[Effect] = []
        for probability in probabilities:
            self._voice_position += WINDOW_SAMPLES
            for signal in self._endpointer.step(probability):
                if isinstance(signal, Closed):
                    # The windows after it were seen with a state that ends here: they are asked for again.
                    return effects + self._close(signal)
                if isinstance(signal, Opened):
                    effects += self._open(signal.onset_sample, signal.start_sample)
                elif self._utterance is not None:
                    self._utterance.pause_end_sample = (
                        signal.end_sample if isinstance(signal, Paused) else None
                    )
        self._forget_silence()
        return effects

    def _reach_mark(self, last_probability: float | None) -> list[Effect]:
        sample, mark = self._marks.queue.popleft()
        closed = self._endpointer.close_now(sample, last_probability)
        effects = self._close(closed) if closed is not None else []
        if mark is Mark.END:
            self._utterance = None
            effects += self._finish_if_done()
        return effects

    # -- utterances ------------------------------------------------------------------------------

    def _restart(self, sample: int, cut_sample: int | None) -> None:
        """Begin anew at `sample`, as after a resume."""
        self._voice_position = sample
        self._voice_state = None
        self._after_cut = cut_sample
        self._endpointer = Endpointer(
            self.options.endpointing, origin_sample=sample, continuing=cut_sample is not None
        )
        self._utterance = None
        self._buffer.discard_before(sample)
        if self._endpointer.is_open:
            self._utterance = Utterance(utterance_id(self._number), sample, sample)

    def _open(self, onset_sample: int, start_sample: int) -> list[Effect]:
        self._utterance = Utterance(utterance_id(self._number), start_sample, onset_sample)
        return [SpeechStarted(onset_sample)]

    def _close(self, closed: Closed) -> list[Effect]:
        effects: list[Effect] = []
        if self.options.endpointing.enabled:
            if self._utterance is None:
                effects.append(SpeechStarted(self._endpointer.onset_sample))
            if not closed.cut:
                effects.append(SpeechEnded(closed.voiced_end_sample))
        pending = PendingFinal(self._number, closed, self._after_cut)
        speculation = self._utterance.speculation if self._utterance else None
        if speculation is not None and speculation.covers(closed.start_sample, closed.end_sample):
            pending.key = speculation.key
            pending.transcript, pending.timing = speculation.transcript, speculation.timing
        self._finals.add(pending)
        if pending.key is None:  # cut the audio now, before the buffer forgets it
            audio = self._buffer.slice(closed.start_sample, closed.end_sample)
            self._waiting_finals.append((pending, audio))
        self._number += 1
        effects += self._dispatch()
        self._restart(closed.resume_sample, closed.cut_sample)
        return effects + self._deliver()

    def _dispatch(self) -> list[Effect]:
        """Ask for the finals that can be asked for; while the language is open, one at a time."""
        effects: list[Effect] = []
        while self._waiting_finals:
            pending, audio = self._waiting_finals[0]
            if self._language.locked is None and self._finals.head is not pending:
                break
            self._waiting_finals.popleft()
            pending.key = self._new_key()
            words = self.options.word_timestamps or pending.needs_words
            effects.append(
                self._request(pending.key, Purpose.FINAL, pending.closed.start_sample, audio, words=words)
            )
        return effects

    def _deliver(self) -> list[Effect]:
        effects: list[Effect] = list(self._finals.pop_ready())
        effects += self._dispatch()
        return effects + self._finish_if_done()

    def _finish_if_done(self) -> list[Effect]:
        if self._ending and not self.ended and not self._marks.queue and not len(self._finals):
            return [self._end(EndReason.COMPLETED)]
        return []

    def _end(self, reason: EndReason) -> SessionEnded:
        self.ended = True
        return SessionEnded(reason, self.received_samples, self.checkpoint.sequence)

    def _forget_silence(self) -> None:
        """Give up the audio that no utterance can reach back to."""
        if self._endpointer.state is State.IDLE:
            keep = self._voice_position - ms_to_samples(self.options.endpointing.pre_roll_ms)
            self._buffer.discard_before(min(max(keep, self._buffer.start), self._voice_position))

    # -- decoding --------------------------------------------------------------------------------

    def speculative_request(self) -> DecodeRequest | None:
        """The final of an utterance that pauses, ahead of its endpoint; once per pause."""
        utterance = self._utterance
        if utterance is None or self.ended or not utterance.speculation_wanted():
            return None
        if self._language.locked is None and len(self._finals):
            return None
        start, end = utterance.start_sample, utterance.pause_end_sample
        assert end is not None
        utterance.speculation = Speculation(self._new_key(), start, end)
        utterance.covered_sample = max(utterance.covered_sample, end)
        words = self.options.word_timestamps or self._after_cut is not None
        audio = self._buffer.slice(start, end)
        return self._request(utterance.speculation.key, Purpose.SPECULATIVE, start, audio, words=words)

    def interim_age_samples(self, min_new_samples: int) -> int:
        """New audio since the last interim if one is due (at least `min_new_samples`), else 0."""
        utterance = self._utterance
        if not self.options.partials or utterance is None or self.ended or utterance.interim_key is not None:
            return 0
        if self._endpointer.state is not State.SPEECH:
            return 0
        interval = max(ms_to_samples(self.options.partial_interval_ms), min_new_samples)
        new = self._voice_position - utterance.covered_sample
        nothing_said = self._endpointer.voiced_end_sample <= utterance.covered_sample
        return 0 if new < interval or nothing_said else new

    def interim_request(self, max_window_samples: int) -> DecodeRequest | None:
        """The newest tail of the utterance in progress, up to `max_window_samples` long."""
        utterance = self._utterance
        if utterance is None or self.interim_age_samples(0) == 0:
            return None
        longest = min(max_window_samples, ms_to_samples(self.options.max_partial_window_ms))
        end = self._voice_position
        start = max(utterance.start_sample, end - longest)
        utterance.interim_key = self._new_key()
        utterance.interim_window = (start, end)
        utterance.covered_sample = end
        audio = self._buffer.slice(start, end)
        return self._request(utterance.interim_key, Purpose.INTERIM, start, audio, words=False)

    def on_decoded(self, key: int, transcript: Transcript, total_ms: float) -> list[Effect]:
        """Take the text of a request; an answer that nobody waits for any more is ignored."""
        if self.ended:
            return []
        timing = _timing(transcript, total_ms)
        pending = self._finals.by_key(key)
        if pending is not None:
            pending.transcript, pending.timing = transcript, timing
            return self._deliver()
        utterance = self._utterance
        if utterance is None:
            return []
        window = self._answered_window(utterance, key, transcript, timing)
        if window is None or not self.options.partials:
            return []
        partial = utterance.partial(transcript, window, confidence_of(transcript.avg_logprob), timing)
        return [partial] if partial is not None else []

    def on_decode_failed(self, key: int, message: str) -> list[Effect]:
        """A request has no text and will not get one: a final says so, an interim is skipped."""
        if self.ended:
            return []
        pending = self._finals.by_key(key)
        if pending is not None:
            pending.failure = SessionError(InferenceError.code, message, retryable=True)
            return self._deliver()
        utterance = self._utterance
        if utterance is not None and utterance.interim_key == key:
            utterance.interim_key = None
        elif utterance is not None and utterance.speculation and utterance.speculation.key == key:
            utterance.speculation = None
            utterance.pause_end_sample = None  # not again in this pause: the final will be asked for
        return []

    def _answered_window(
        self, utterance: Utterance, key: int, transcript: Transcript, timing: Timing
    ) -> tuple[int, int] | None:
        speculation = utterance.speculation
        if speculation is not None and speculation.key == key:
            speculation.transcript, speculation.timing = transcript, timing
            return speculation.start_sample, speculation.end_sample
        if utterance.interim_key == key:
            utterance.interim_key = None
            return utterance.interim_window
        return None

    def _request(
        self, key: int, purpose: Purpose, start_sample: int, audio: Pcm16, *, words: bool
    ) -> DecodeRequest:
        return DecodeRequest(
            key=key,
            purpose=purpose,
            start_sample=start_sample,
            end_sample=start_sample + len(audio),
            audio=audio,
            language=self._language.locked,
            task=self.options.task,
            prompt=self.options.prompt,
            word_timestamps=words,
        )

    def _new_key(self) -> int:
        self._next_key += 1
        return self._next_key


def _timing(transcript: Transcript, total_ms: float) -> Timing:
    parts = transcript.timing
    return Timing(
        preprocess_ms=parts.preprocess_ms,
        queue_wait_ms=parts.queue_wait_ms,
        inference_ms=parts.inference_ms,
        postprocess_ms=parts.postprocess_ms,
        total_ms=total_ms,
        model=transcript.model,
    )


def _loudness(samples: Pcm16) -> list[float]:
    """Root mean square per window in [0, 1]: what stands in for speech where the detector is off."""
    windows = samples.astype(np.float32).reshape(-1, WINDOW_SAMPLES) / 32768.0
    return [float(value) for value in np.sqrt(np.mean(windows * windows, axis=1))]
