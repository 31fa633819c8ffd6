"""What a client chooses about speakers, laid over what the server does: one rule for every door."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Protocol, TypeAlias

from msgspec import Meta

from serve_app.core.errors import InvalidMessage, SpeakersUnavailable
from serve_app.service.contract import RecordingOptions
from serve_app.speakers.turns import SpeakerBackend, SpeakerCounts, SpeakerMode

DiarizationBackend: TypeAlias = Annotated[
    Literal["pyannote", "diart", "sortformer", "channel"],
    Meta(description="What tells speakers apart: their voices, or the `channel` each is heard on."),
]
Diarize: TypeAlias = Annotated[bool, Meta(description="Say who spoke.")]


class SpeakerChoices(Protocol):
    """The fields of a record that say how speakers are told apart; what is None is left to the server."""

    @property
    def num_speakers(self) -> int | None: ...
    @property
    def min_speakers(self) -> int | None: ...
    @property
    def max_speakers(self) -> int | None: ...
    @property
    def diarization_backend(self) -> DiarizationBackend | None: ...


def chosen_mode(
    wanted: bool | None, choices: SpeakerChoices, default: SpeakerMode, backend: SpeakerBackend
) -> SpeakerMode:
    """`default`: what the server does where nothing is chosen; `backend`: what tells speakers apart there.

    Raises `SpeakersUnavailable` for another one by name. Channels are told apart everywhere; whether a server
    that goes by channel can tell voices apart is the service's to say.
    """
    is_on = default is not SpeakerMode.OFF
    if not (is_on if wanted is None else wanted):
        return SpeakerMode.OFF
    named = "pyannote" if choices.diarization_backend == "diart" else choices.diarization_backend
    if named is None and is_on:
        return default
    if named is None:
        return SpeakerMode.of(backend)
    if named == "channel":
        return SpeakerMode.CHANNEL
    if backend not in ("channel", named):
        raise SpeakersUnavailable(
            f"this server tells voices apart with {backend}, not with {named}: leave diarization_backend out"
        )
    return SpeakerMode.VOICE


def chosen_counts(choices: SpeakerChoices, defaults: SpeakerCounts) -> SpeakerCounts:
    """Raises `InvalidMessage` where the numbers disagree."""
    exact, least, most = choices.num_speakers, choices.min_speakers, choices.max_speakers
    if exact is not None and not (least or exact) <= exact <= (most or exact):
        raise InvalidMessage("num_speakers lies outside min_speakers and max_speakers")
    try:
        return SpeakerCounts(exact or defaults.exact, least or defaults.least, most or defaults.most)
    except ValueError as error:
        raise InvalidMessage(str(error)) from None


def with_speakers(
    options: RecordingOptions, wanted: bool | None, choices: SpeakerChoices, backend: SpeakerBackend
) -> RecordingOptions:
    """`options`, which hold the server's own choice, with the client's. Raises `InvalidMessage` and
    `SpeakersUnavailable`."""
    counts = chosen_counts(choices, options.speaker_counts)
    mode = chosen_mode(wanted, choices, options.speakers, backend)
    if mode is SpeakerMode.OFF:
        return replace(options, speakers=mode)
    return replace(options, speakers=mode, speaker_counts=counts)
