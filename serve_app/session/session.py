"""One live session, sans IO: audio and results in, events and decode requests out.

Nothing here awaits, reads a clock or logs; time is a sample index at 16 kHz. The driver of a session

    push(samples), flush(), end(), cancel()     says what the client did
    poll_voice() -> effects, VoiceRequest?      runs the voice detector on the next windows ...
    on_voice(result) -> effects                 ... and brings its answer
    speculative_request(), interim_request()    takes optional work when there is room for it
    on_decoded(key, ...), on_decode_failed()    brings the text of a DecodeRequest
    speakers.request(), .on_voices()            the same for who speaks, where that was asked for

and carries out the effects: an event goes to the client, a `DecodeRequest` to a recogniser. However the
audio is chunked and however late answers come, the finals are the same. After every final the session is
no more than its `Checkpoint`: voice detector and endpointer start anew there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from serve_app.core.errors import InferenceError
from serve_app.core.events import (
    Acknowledged,
    EndReason,
    Flushed,
    SessionEnded,
    SessionError,
    SessionStarted,
    SpeechEnded,
    SpeechHeard,
    SpeechStarted,
)
from serve_app.core.jobs import DecodeJob, LanguageHint, Role, Transcript
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16, ms_to_samples
from serve_app.session.checkpoint import Checkpoint
from serve_app.session.effects import DecodeRequest, Effect, Purpose
from serve_app.session.finals import FinalsInOrder, PendingFinal, utterance_id
from serve_app.session.language import LanguageOptions, LanguageTracker
from serve_app.session.options import SessionOptions
from serve_app.session.speaker_requests import SpeakerRequests
from serve_app.session.speakers import SpeakerTrack
from serve_app.session.ticket import IssueTicket
from serve_app.session.utterance import PendingInterim, Speculation, Utterance, draft_of, timing_of
from serve_app.session.voice import BegunAnew, Cut, EndReached, Mark, VoiceSignal, VoiceTrack
from serve_app.speakers.turns import SpeakerMode
from serve_app.streaming.choice import policy_maker
from serve_app.streaming.policy import Ask
from serve_app.vad.detector import VadRequest, VadResult
from serve_app.vad.endpointer import Opened, Paused


class Session:
    """The state of one live session; not thread-safe, never blocks."""

    def __init__(
        self,
        options: SessionOptions,
        checkpoint: Checkpoint | None = None,
        *,
        issue_ticket: IssueTicket = lambda _: "",
        acknowledge: bool = False,
    ) -> None:
        """`checkpoint`: go on from there. `acknowledge`: say it (`Acknowledged`) of audio without words."""
        self._resumed = checkpoint is not None
        self._issue_ticket = issue_ticket
        self._acknowledge = acknowledge
        checkpoint = checkpoint or Checkpoint()
        self.options = options
        self.ended = False
        self._ending = False
        self._end_reached = False
        self._voice = VoiceTrack(options.endpointing, checkpoint.sample, checkpoint.cut_sample)
        among = options.languages
        fixed = options.language or (among[0] if len(among) == 1 else None)
        language = LanguageOptions(fixed, options.language_lock_s, among)
        self._language = LanguageTracker(language, checkpoint.language_evidence)
        self._make_policy = policy_maker(options.policy)
        self._received = checkpoint.resume_sample
        track: SpeakerTrack | None = None
        if options.speakers is SpeakerMode.VOICE:
            track = SpeakerTrack(options.speaker_counts, self._received, checkpoint.speakers)
        self._finals = FinalsInOrder(
            checkpoint,
            self._language,
            overlap_s=options.endpointing.overlap_ms / 1000,
            carry_context=options.carry_context,
            formatting=options.formatting,
            says_doubted=options.endpointing.enabled and not options.withhold_doubted,
            says_withheld=options.withhold_doubted,
            issue_ticket=issue_ticket,
            speakers=track,
        )
        self.speakers: SpeakerRequests | None = None
        if track is not None:
            self.speakers = SpeakerRequests(track, self._voice, self._finals, self._finish_if_done)
        self._waiting_finals: deque[tuple[PendingFinal, Pcm16]] = deque()
        self._number = checkpoint.utterance
        self._next_key = 0
        self._utterance = self._continued_utterance()

    # -- what the client did ---------------------------------------------------------------------

    def start(self) -> list[Effect]:
        at, ticket = self.checkpoint.resume_sample, self._issue_ticket(self.checkpoint)
        return [SessionStarted(self.options.session_id, self._resumed, at, ticket)]

    def push(self, samples: Pcm16) -> None:
        """Take int16 `(n,)` audio; audio after `end` is ignored."""
        if self._ending:
            return
        if self.speakers is not None:
            self.speakers.track.push(samples)
        known = max(0, self._voice.received_samples - self._received)
        self._received += len(samples)
        if known < len(samples):
            self._voice.push(samples[known:])

    def flush(self) -> None:
        """Close the utterance in progress after the audio received so far."""
        if not self._ending:
            self._voice.mark(Mark.FLUSH)

    def reconfigure(self, options: SessionOptions) -> None:
        """Take over what a running session can change; the rest of `options` is not looked at."""
        self.options = replace(
            self.options,
            partials=options.partials,
            partial_interval_ms=options.partial_interval_ms,
            max_partial_window_ms=options.max_partial_window_ms,
            prompt=options.prompt,
            hotwords=options.hotwords,
        )

    def end(self) -> None:
        """No more audio: close what is open, deliver everything, then `SessionEnded`."""
        if not self._ending:
            self._ending = True
            self._voice.mark(Mark.END)

    def cancel(self, reason: EndReason) -> list[Effect]:
        """Drop everything that is not delivered."""
        if self.ended:
            return []
        self._finals.clear()
        self._waiting_finals.clear()
        self._utterance = None
        return [self._end(reason)]

    # -- what the driver looks at ----------------------------------------------------------------

    @property
    def checkpoint(self) -> Checkpoint:
        """The state after the last final delivered."""
        return self._finals.checkpoint

    @property
    def received_samples(self) -> int:
        return self._received

    @property
    def unheard_samples(self) -> int:
        """Received, but not yet seen by the voice detector."""
        return self._voice.received_samples - self._voice.position

    @property
    def is_behind(self) -> bool:
        """The detector should be asked again now: there is a mark, or more than a few windows to hear."""
        return not self.ended and self._voice.is_behind

    @property
    def held_samples(self) -> int:
        """Audio in memory."""
        return self._voice.held_samples + (self.speakers.track.held_samples if self.speakers else 0)

    @property
    def num_pending_finals(self) -> int:
        return len(self._finals)

    # -- voice detection -------------------------------------------------------------------------

    def poll_voice(self) -> tuple[list[Effect], VadRequest | None]:
        """Advance as far as it goes without a detector; then say what the detector should look at."""
        if self.ended:
            return [], None
        signals, request = self._voice.poll()
        return self._follow(signals), request

    def on_voice(self, result: VadResult) -> list[Effect]:
        """Take the detector's answer to the last `VadRequest`."""
        if self.ended:
            return []
        heard: list[Effect] = []
        if self.options.speech_probability:
            heard.append(SpeechHeard(self._voice.asked_end, float(result.probs.max())))
        return heard + self._follow(self._voice.on_result(result))

    def _follow(self, signals: list[VoiceSignal]) -> list[Effect]:
        effects: list[Effect] = []
        for signal in signals:
            if isinstance(signal, Cut):
                effects += self._close(signal)
            elif isinstance(signal, BegunAnew):
                effects += self._acknowledged(self._finals.skip_to(signal.sample))
            elif isinstance(signal, Opened):
                self._utterance = self._new_utterance(signal.start_sample, signal.onset_sample)
                effects.append(SpeechStarted(signal.onset_sample))
            elif isinstance(signal, Flushed):
                effects += [signal] if self._acknowledge else []
            elif isinstance(signal, EndReached):
                self._end_reached = True
                effects += self._finish_if_done()
            elif self._utterance is not None:
                pause = signal.end_sample if isinstance(signal, Paused) else None
                self._utterance.pause_end_sample = pause
                if pause is not None and self.speakers is not None:
                    self.speakers.track.paused(pause)
        return effects

    # -- utterances ------------------------------------------------------------------------------

    def _close(self, cut: Cut) -> list[Effect]:
        closed, utterance = cut.closed, self._utterance
        effects: list[Effect] = []
        if self.options.endpointing.enabled:
            if utterance is None:
                effects.append(SpeechStarted(cut.onset_sample))
            if not closed.cut:
                effects.append(SpeechEnded(closed.voiced_end_sample))
        if utterance is None or utterance.start_sample != closed.start_sample:
            utterance = self._new_utterance(closed.start_sample, closed.start_sample)
        ask, speculation = utterance.policy.ask_final(), utterance.speculation
        pending = PendingFinal(
            self._number,
            closed,
            cut.after_cut_sample,
            utterance.policy,
            ask,
            utterance.language,
            shown=utterance.shown,
        )
        if speculation is not None and speculation.covers(ask, closed.end_sample):
            pending.key = speculation.key
            if speculation.transcript is not None:
                pending.answered(speculation.transcript, speculation.timing)
        else:
            self._waiting_finals.append((pending, cut.audio))
        self._finals.add(pending)
        self._number += 1
        if self.speakers is not None:
            self.speakers.track.closed(closed.start_sample, closed.end_sample)
        self._utterance = self._continued_utterance()
        return effects + self._dispatch() + self._deliver()

    def _continued_utterance(self) -> Utterance | None:
        """The utterance that is open from its first sample: after a cut, or with endpointing off."""
        start = self._voice.open_sample
        return None if start is None else self._new_utterance(start, start)

    def _new_utterance(self, start_sample: int, covered_sample: int) -> Utterance:
        name = utterance_id(self._number)
        return Utterance(name, start_sample, covered_sample, self._make_policy(start_sample))

    @property
    def _one_by_one(self) -> bool:
        """Whether a final decides how the next one is decoded."""
        return self._language.is_open or self.options.carry_context

    def _dispatch(self) -> list[Effect]:
        """Ask for the finals that can be asked for, one at a time where each decides for the next."""
        effects: list[Effect] = []
        while self._waiting_finals:
            pending, audio = self._waiting_finals[0]
            if self._one_by_one and self._finals.head is not pending:
                break
            self._waiting_finals.popleft()
            pending.key = self._new_key()
            words = self._wants_words or pending.needs_words
            rest = audio[pending.ask.start_sample - pending.closed.start_sample :]
            ask = replace(pending.ask, word_timestamps=words)
            effects.append(
                self._request(pending.key, Purpose.FINAL, ask, rest, pending.language, shown=pending.shown)
            )
        return effects

    def _deliver(self) -> list[Effect]:
        effects: list[Effect] = []
        for event in self._finals.pop_ready():
            effects += self._acknowledged(event) if isinstance(event, Acknowledged) else [event]
        effects += self._dispatch()
        return effects + self._finish_if_done()

    def _acknowledged(self, event: Acknowledged | None) -> list[Effect]:
        return [event] if event is not None and self._acknowledge else []

    def _finish_if_done(self) -> list[Effect]:
        if not self.waits_for_speakers or (self.speakers is not None and self.speakers.track.is_waiting):
            return []
        return [self._end(EndReason.COMPLETED)]

    @property
    def waits_for_speakers(self) -> bool:
        """Everything is said but who spoke: the session ends with that, or with `speakers.give_up`."""
        return not self.ended and self._end_reached and not len(self._finals)

    def _end(self, reason: EndReason) -> SessionEnded:
        self.ended = True
        return SessionEnded(reason, self.received_samples, self.checkpoint.sequence)

    @property
    def _wants_words(self) -> bool:
        """Speakers are told by the word."""
        return self.options.word_timestamps or self.speakers is not None

    # -- decoding --------------------------------------------------------------------------------

    def speculative_request(self) -> DecodeRequest | None:
        """The final of an utterance that pauses, ahead of its endpoint; once per pause."""
        utterance = self._utterance
        if utterance is None or self.ended or not utterance.speculation_wanted():
            return None
        if self._one_by_one and len(self._finals):
            return None
        ask, end = utterance.policy.ask_final(), utterance.pause_end_sample
        assert end is not None
        utterance.speculation = Speculation(self._new_key(), ask, end)
        utterance.covered_sample = max(utterance.covered_sample, end)
        words = self._wants_words or self._voice.after_cut_sample is not None
        audio = self._voice.slice(ask.start_sample, end)
        ask = replace(ask, word_timestamps=words)
        key, language = utterance.speculation.key, utterance.language
        return self._request(key, Purpose.SPECULATIVE, ask, audio, language, shown=utterance.shown)

    @property
    def interim_age_samples(self) -> int:
        """New audio since the last interim if one is due, else 0."""
        utterance = self._utterance
        if not self.options.partials or utterance is None or self.ended or utterance.interim is not None:
            return 0
        if not self._voice.speaking:
            return 0
        interval = ms_to_samples(max(self.options.partial_interval_ms, self.options.policy.min_chunk_ms))
        new = self._voice.position - utterance.covered_sample
        nothing_said = self._voice.voiced_end_sample <= utterance.covered_sample
        return 0 if new < interval or nothing_said else new

    def interim_request(self, max_window_samples: int) -> DecodeRequest | None:
        """The newest tail of the utterance in progress, up to `max_window_samples` long."""
        utterance = self._utterance
        if utterance is None or self.interim_age_samples == 0:
            return None
        longest = min(max_window_samples, ms_to_samples(self.options.max_partial_window_ms))
        end = self._voice.position
        ask = utterance.policy.ask_interim(end, longest)
        utterance.interim = PendingInterim(self._new_key(), ask, end)
        fresh, utterance.covered_sample = end - utterance.covered_sample, end
        audio = self._voice.slice(ask.start_sample, end)
        language = utterance.interim_language
        key, fresh_s, shown = utterance.interim.key, fresh / SAMPLE_RATE_HZ, utterance.shown
        return self._request(key, Purpose.INTERIM, ask, audio, language, fresh_s, shown)

    def on_decoded(self, key: int, transcript: Transcript, total_ms: float) -> list[Effect]:
        """Take the text of a request; an answer to a request that was given up is ignored."""
        if self.ended:
            return []
        timing = timing_of(transcript, total_ms)
        pending = self._finals.by_key(key)
        if pending is not None:
            pending.answered(transcript, timing)
            return self._deliver()
        utterance = self._utterance
        if utterance is None:
            return []
        if utterance.speculation is not None and utterance.speculation.key == key:
            text = utterance.speculation_answered(transcript, timing)
        elif utterance.interim is not None and utterance.interim.key == key:
            text = utterance.interim_answered(transcript)
        else:
            return []
        if text is None or not self.options.partials:
            return []
        return [utterance.partial(text, transcript, timing)]

    def on_decode_failed(self, key: int, message: str) -> list[Effect]:
        """A request has no text and will not get one: a final says so, an interim is skipped."""
        if self.ended:
            return []
        pending = self._finals.by_key(key)
        if pending is not None:
            pending.failed(SessionError(InferenceError.code, message, retryable=True))
            return self._deliver()
        utterance = self._utterance
        if utterance is not None and utterance.interim is not None and utterance.interim.key == key:
            utterance.interim = None
        elif utterance is not None and utterance.speculation and utterance.speculation.key == key:
            utterance.speculation = None
            utterance.pause_end_sample = None  # not again in this pause: the final will be asked for
        return []

    def _request(
        self,
        key: int,
        purpose: Purpose,
        ask: Ask,
        audio: Pcm16,
        language: str | None,
        fresh_s: float | None = None,
        shown: Transcript | None = None,
    ) -> DecodeRequest:
        """`language`: what text of the utterance was written in already. `shown`: its newest text."""
        known = language or self._language.locked
        parts = (self.options.prompt, self.checkpoint.context, ask.previous)
        job = DecodeJob(
            job_id=key,
            role=Role.INTERIM if purpose is Purpose.INTERIM else Role.FINAL,
            audio=audio,
            language=known,
            task=self.options.task,
            prompt=" ".join(part for part in parts if part),
            word_timestamps=ask.word_timestamps,
            hotwords=self.options.hotwords,
            prefix=ask.prefix,
            draft=draft_of(ask, shown),
            attention=ask.attention,
            model=ask.model,
            fresh_s=fresh_s,
            hint=LanguageHint() if known else self._language.hint,
        )
        return DecodeRequest(key, purpose, ask.start_sample, ask.start_sample + len(audio), job)

    def _new_key(self) -> int:
        self._next_key += 1
        return self._next_key
