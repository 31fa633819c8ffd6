"""The server's messages and our client's errors in the terms of LiveKit agents; needs `livekit-agents`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from livekit.agents import APIConnectionError, APIError, APIStatusError, LanguageCode, stt
from livekit.agents.types import TimedString

from sotto_client.errors import RequestFailed, SessionFailed, SottoClientError
from sotto_client.messages import ErrorMessage, FinalTranscript, PartialTranscript, SpokenWord
from sotto_client.recordings import Transcription

HTTP_STATUS = {
    "INVALID_MESSAGE": 400,
    "INVALID_TICKET": 400,
    "SESSION_EXISTS": 409,
    "INVALID_KEY": 401,
    "WRONG_SCOPE": 403,
    "MAX_SESSIONS_REACHED": 503,
    "QUEUE_FULL": 503,
    "QUEUE_CONGESTION": 503,
    "LIMIT_REACHED": 429,
}
"""What a session's error code would be as an HTTP status, which is how LiveKit tells errors apart."""


def partial_data(partial: PartialTranscript, text: str, offset_s: float) -> stt.SpeechData:
    return stt.SpeechData(
        language=LanguageCode(partial.language),
        text=text,
        start_time=partial.start_ms / 1000 + offset_s,
        end_time=partial.end_ms / 1000 + offset_s,
        confidence=partial.confidence,
    )


def final_data(final: FinalTranscript, offset_s: float) -> stt.SpeechData:
    return stt.SpeechData(
        language=LanguageCode(final.language),
        text=final.text,
        start_time=final.start_ms / 1000 + offset_s,
        end_time=final.end_ms / 1000 + offset_s,
        confidence=final.confidence,
        words=_timed(final.words, offset_s),
        speaker_id=final.speaker or None,
    )


def recording_data(transcription: Transcription) -> stt.SpeechData:
    """`confidence` is the mean probability of the words, or of the tokens where no words came."""
    words = transcription.words
    probabilities = [word.probability for word in words] or [
        math.exp(segment.avg_logprob) for segment in transcription.segments if segment.avg_logprob is not None
    ]
    return stt.SpeechData(
        language=LanguageCode(transcription.language),
        text=transcription.transcript,
        start_time=words[0].start_s if words else 0.0,
        end_time=words[-1].end_s if words else transcription.duration_s,
        confidence=sum(probabilities) / len(probabilities) if probabilities else 0.0,
        words=_timed(words, 0.0),
    )


def _timed(words: Sequence[SpokenWord], offset_s: float) -> list[TimedString]:
    return [
        TimedString(
            word.word,
            start_time=word.start_s + offset_s,
            end_time=word.end_s + offset_s,
            confidence=word.probability,
            start_time_offset=offset_s,
        )
        for word in words
    ]


def api_error(error: SottoClientError) -> APIError:
    """LiveKit's name for what went wrong; it decides by it whether to try again."""
    match error:
        case RequestFailed():
            return APIStatusError(error.detail, status_code=error.status)
        case SessionFailed():
            return APIStatusError(
                str(error), status_code=HTTP_STATUS.get(error.code, 500), retryable=error.retryable
            )
        case _:
            return APIConnectionError(str(error))


def session_error(failure: ErrorMessage | None) -> APIError:
    """Why the server ended a session with the reason "error"."""
    if failure is None:
        return APIConnectionError("the server ended the session with an error")
    return api_error(SessionFailed(failure.code, failure.message, retryable=failure.retryable))
