"""A session's side towards the diarizer: what to listen to next, and what follows from an answer."""

from __future__ import annotations

from collections.abc import Callable

from serve_app.session.effects import Effect
from serve_app.session.finals import FinalsInOrder
from serve_app.session.speakers import SpeakerRequest, SpeakerTrack
from serve_app.session.voice import VoiceTrack
from serve_app.speakers.ports import WindowVoices


class SpeakerRequests:
    """Of one session that tells its speakers apart; `finish` ends the session where nothing is left to do."""

    def __init__(
        self,
        track: SpeakerTrack,
        voice: VoiceTrack,
        finals: FinalsInOrder,
        finish: Callable[[], list[Effect]],
    ) -> None:
        self.track = track
        self._voice = voice
        self._finals = finals
        self._finish = finish

    def request(self, step_samples: int) -> SpeakerRequest | None:
        """Audio to listen to for its speakers, one stretch at a time; within a long utterance every
        `step_samples`. Answered with `on_voices` or `on_failed`."""
        return self.track.request(self._voice.open_sample, self._voice.position, step_samples)

    @property
    def is_urgent(self) -> bool:
        """A final was sent without its speaker."""
        return self.track.is_urgent

    def on_voices(self, voices: WindowVoices) -> list[Effect]:
        """Take the answer to the last request."""
        revised = self.track.on_voices(voices)
        return [*(self._finals.revised(*labels) for labels in revised), *self._finish()]

    def on_failed(self) -> list[Effect]:
        """The last request gets no answer."""
        self.track.on_failed()
        return self._finish()

    def give_up(self) -> list[Effect]:
        """Labels take too long: the session may end without them."""
        self.track.give_up()
        return self._finish()
