"""A session's side towards the diarizer: what to listen to next, and what follows from an answer."""

from __future__ import annotations

from collections.abc import Callable

from serve_app.session.effects import Effect
from serve_app.session.finals import FinalsInOrder
from serve_app.session.speakers import SpeakerRequest, SpeakerTrack
from serve_app.session.voice import VoiceTrack
from serve_app.speakers.windows import WindowVoices


class SpeakerDesk:
    """Of one session that tells its speakers apart; `finish` ends the session where nothing is left to do."""

    def __init__(
        self,
        track: SpeakerTrack,
        voice: VoiceTrack,
        finals: FinalsInOrder,
        finish: Callable[[], list[Effect]],
    ) -> None:
        self._track = track
        self._voice = voice
        self._finals = finals
        self._finish = finish

    def request(self, step_samples: int) -> SpeakerRequest | None:
        """Audio to listen to for its speakers, one stretch at a time; within a long utterance every
        `step_samples`. Answered with `on_voices` or `on_failed`."""
        return self._track.request(self._voice.open_sample, self._voice.position, step_samples)

    @property
    def is_urgent(self) -> bool:
        """A final was sent that nobody has a name for yet."""
        return self._track.is_urgent

    def on_voices(self, voices: WindowVoices) -> list[Effect]:
        """Take the answer to the last request."""
        revised = self._track.on_voices(voices)
        return [*(self._finals.revised(*labels) for labels in revised), *self._finish()]

    def on_failed(self) -> list[Effect]:
        """The last request gets no answer."""
        self._track.on_failed()
        return self._finish()

    def give_up(self) -> list[Effect]:
        """Labels take too long: the session may end without them."""
        self._track.give_up()
        return self._finish()
