"""Speech-to-text for LiveKit agents (`livekit-agents` 1.8): streaming with interims, and whole recordings.

    from sotto_client.livekit_plugin import WhisperSTT

    session = AgentSession(stt=WhisperSTT(service_url="ws://speech:8000/ws/stt", language="pt"), ...)

Lost connections are resumed by `ResumingClient`; what it cannot resume becomes LiveKit's `APIError`, so that
the framework's own retries and fallbacks apply.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from dataclasses import replace

import httpx
import numpy as np

from sotto_client.addresses import DEFAULT_URL, authorization, http_url, is_loopback
from sotto_client.audio import SAMPLE_RATE_HZ
from sotto_client.errors import ConnectionLost, RequestFailed, SottoClientError
from sotto_client.live import PATH as LIVE_PATH
from sotto_client.live import SessionConfig
from sotto_client.messages import (
    ErrorMessage,
    FinalTranscript,
    Message,
    PartialTranscript,
    SessionEnded,
    SessionStarted,
    VadEvent,
)
from sotto_client.recordings import PATH as UPLOAD_PATH
from sotto_client.recordings import Transcription, UploadOptions, failure_of, parse_transcription
from sotto_client.resuming import ResumingClient

try:
    from livekit import rtc
    from livekit.agents import (
        DEFAULT_API_CONNECT_OPTIONS,
        NOT_GIVEN,
        APIConnectionError,
        APIConnectOptions,
        APIError,
        APITimeoutError,
        stt,
        utils,
    )
    from livekit.agents.types import NotGivenOr
except ImportError as error:
    raise ImportError("the LiveKit plugin needs LiveKit: pip install 'livekit-agents>=1.8'") from error

from sotto_client.livekit_events import (
    api_error,
    final_data,
    partial_data,
    recording_data,
    session_error,
)

CHUNK_MS = 50
BYTES_PER_MS = 2 * SAMPLE_RATE_HZ // 1000
MAX_UNHEARD_CHUNKS = 200
"""What is kept of the newest audio, for a session that ends by itself before it heard it."""
UPLOAD_TIMEOUT_S = 60.0


class WhisperSTT(stt.STT):  # type: ignore[misc]
    """A Sotto server as the ears of an agent.

    `language` None: the server detects it. `config` holds further choices of every live session; sample rate
    and encoding are the plugin's own. `preflight`: stable interim text also as PREFLIGHT_TRANSCRIPT, on which
    agents may begin to answer early. With `config.diarization` a final has the `speaker_id` that is known
    when it comes; LiveKit has no event for what is learned later.
    """

    def __init__(
        self,
        service_url: str = DEFAULT_URL,
        language: str | None = None,
        *,
        api_key: str | None = None,
        config: SessionConfig | None = None,
        preflight: bool = True,
        give_up_after_s: float = 30.0,
    ) -> None:
        super().__init__(
            capabilities=stt.STTCapabilities(
                streaming=True,
                interim_results=True,
                diarization=bool(config and config.diarization),
                aligned_transcript="word",
                manual_flush=True,
            )
        )
        self.service_url = service_url.rstrip("/").removesuffix(LIVE_PATH)
        self.api_key = api_key
        self.preflight = preflight
        self.give_up_after_s = give_up_after_s
        self._language = language
        self._config = config or SessionConfig()
        self._http: httpx.AsyncClient | None = None
        self._streams: weakref.WeakSet[WhisperStream] = weakref.WeakSet()

    @property
    def model(self) -> str:
        return "whisper"

    @property
    def provider(self) -> str:
        return "Sotto"

    def update_options(self, *, language: str | None) -> None:
        """Takes effect with the next stream or recording."""
        self._language = language

    def session_config(self, language: NotGivenOr[str]) -> SessionConfig:
        chosen = language if utils.is_given(language) else self._language
        return replace(
            self._config,
            lang_code=chosen or self._config.lang_code,
            sample_rate=SAMPLE_RATE_HZ,
            encoding="pcm16",
        )

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> WhisperStream:
        stream = WhisperStream(self, self.session_config(language), conn_options)
        self._streams.add(stream)
        return stream

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        wav = rtc.combine_audio_frames(buffer).to_wav_bytes()
        options = UploadOptions(language=self.session_config(language).lang_code, word_timestamps=True)
        try:
            transcription = await self._upload(wav, options, conn_options.timeout)
        except httpx.TimeoutException as error:
            raise APITimeoutError() from error
        except httpx.TransportError as error:
            raise APIConnectionError() from error
        except RequestFailed as error:
            raise api_error(error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise APIError("an answer of an unknown shape", retryable=False) from error
        return stt.SpeechEvent(
            type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[recording_data(transcription)]
        )

    async def _upload(self, wav: bytes, options: UploadOptions, connect_s: float) -> Transcription:
        url = http_url(self.service_url, UPLOAD_PATH, options.query())
        if self._http is None:
            self._http = httpx.AsyncClient(trust_env=not is_loopback(url))
        response = await self._http.post(
            url,
            headers=authorization(self.api_key),
            files={"file": ("utterance.wav", wav, "audio/wav")},
            timeout=httpx.Timeout(UPLOAD_TIMEOUT_S, connect=connect_s),
        )
        if not response.is_success:
            raise failure_of(response.status_code, response.content, response.headers)
        return parse_transcription(response.json())

    async def aclose(self) -> None:
        for stream in list(self._streams):
            await stream.aclose()
        if self._http is not None:
            await self._http.aclose()
            self._http = None


class WhisperStream(stt.RecognizeStream):  # type: ignore[misc]
    """One stream of an agent: as many sessions of the server as its pauses and losses make necessary."""

    def __init__(self, owner: WhisperSTT, config: SessionConfig, conn_options: APIConnectOptions) -> None:
        super().__init__(stt=owner, conn_options=conn_options, sample_rate=SAMPLE_RATE_HZ)
        self._owner = owner
        self._config = config
        self._chunks = utils.audio.AudioByteStream(
            SAMPLE_RATE_HZ, num_channels=1, samples_per_channel=SAMPLE_RATE_HZ * CHUNK_MS // 1000
        )
        self._pending: rtc.AudioFrame | stt.RecognizeStream._FlushSentinel | None = None
        self._session_id = ""
        self._segment_id = ""
        self._offset_s = 0.0
        self._sent: deque[bytes] = deque(maxlen=MAX_UNHEARD_CHUNKS)
        self._unheard: deque[bytes] = deque()
        self._sent_ms = self._heard_ms = self._reported_ms = 0.0
        self._is_speaking = False
        self._num_preflight_chars = 0
        self._failure: ErrorMessage | None = None

    async def _run(self) -> None:
        num_sessions = 0
        try:
            # a session that ended by itself (the microphone was muted) is followed by another
            while self._unheard or await self._has_input():
                elapsed_s = time.time() - self.start_time if num_sessions else 0.0
                self._offset_s = self.start_time_offset + elapsed_s
                num_sessions += 1
                await self._serve_session()
        except SottoClientError as error:
            raise api_error(error) from error

    async def _has_input(self) -> bool:
        if self._pending is None:
            try:
                self._pending = await self._input_ch.recv()
            except utils.aio.ChanClosed:
                return False
        return True

    async def _serve_session(self) -> None:
        client = ResumingClient(
            self._owner.service_url,
            self._config,
            api_key=self._owner.api_key,
            give_up_after_s=self._owner.give_up_after_s,
            open_timeout_s=self._conn_options.timeout,
        )
        self._segment_id = ""
        self._reported_ms = 0.0
        began_s = time.perf_counter()
        async with client:
            self._report_connection_acquired(time.perf_counter() - began_s, False)
            sender = asyncio.create_task(self._send(client))
            try:
                async for message in client:
                    self._take(message)
                if sender.done():
                    sender.result()
            finally:
                await utils.aio.cancel_and_wait(sender)
                self._end_speech()
            self._keep_unheard()

    async def _send(self, client: ResumingClient) -> None:
        try:
            await self._send_chunks(client)
            while await self._has_input():
                item, self._pending = self._pending, None
                is_audio = isinstance(item, rtc.AudioFrame)
                frames = self._chunks.push(_mono(item)) if is_audio else self._chunks.flush()
                self._unheard.extend(frame.data.tobytes() for frame in frames)
                await self._send_chunks(client)
                if not is_audio:
                    await client.flush()
            await client.end()
        except ConnectionLost:
            return  # the session is over, which its messages tell the reader

    async def _send_chunks(self, client: ResumingClient) -> None:
        while self._unheard:
            chunk = self._unheard.popleft()
            self._sent.append(chunk)
            self._sent_ms += len(chunk) / BYTES_PER_MS
            await client.send_audio(chunk)

    def _keep_unheard(self) -> None:
        """What the session that ended was sent and did not take is for the next one.

        Raises `APIConnectionError` where it took nothing: the framework's pauses are due then.
        """
        while self._sent and self._sent_ms - self._heard_ms > 1:
            chunk = self._sent.pop()
            self._unheard.appendleft(chunk)
            self._sent_ms -= len(chunk) / BYTES_PER_MS
        took_nothing = bool(self._unheard) and self._heard_ms == 0
        self._sent.clear()
        self._sent_ms = self._heard_ms = 0.0
        if took_nothing:
            raise APIConnectionError("the server ended a session before it took any audio")

    def _take(self, message: Message) -> None:
        match message:
            case SessionStarted(session_id=session_id):
                self._session_id = session_id
            case VadEvent(state="speech_start", t_ms=t_ms):
                self._begin_speech(t_ms / 1000)
            case VadEvent(state="speech_end"):
                self._end_speech()
            case PartialTranscript():
                self._take_partial(message)
            case FinalTranscript():
                if message.text:
                    self._emit(stt.SpeechEventType.FINAL_TRANSCRIPT, final_data(message, self._offset_s))
                self._report_usage(message.end_ms)
                if self._config.vad_enabled is False:  # nothing else tells the end then
                    self._end_speech()
            case ErrorMessage():
                self._failure = message
            case SessionEnded(reason=reason, total_audio_ms=total_audio_ms):
                self._report_usage(total_audio_ms)
                self._heard_ms = total_audio_ms
                if reason == "error":
                    raise session_error(self._failure)

    def _take_partial(self, partial: PartialTranscript) -> None:
        if not partial.text:
            return
        if partial.segment_id != self._segment_id:  # one that comes after its end of speech starts nothing
            self._segment_id = partial.segment_id
            self._num_preflight_chars = 0
            self._begin_speech(partial.start_ms / 1000)
        stable = partial.text[: partial.stable_chars].rstrip()
        if self._owner.preflight and len(stable) > self._num_preflight_chars:
            self._num_preflight_chars = len(stable)
            self._emit(
                stt.SpeechEventType.PREFLIGHT_TRANSCRIPT, partial_data(partial, stable, self._offset_s)
            )
        self._emit(
            stt.SpeechEventType.INTERIM_TRANSCRIPT, partial_data(partial, partial.text, self._offset_s)
        )

    def _begin_speech(self, at_s: float) -> None:
        if not self._is_speaking:
            self._is_speaking = True
            began_s = self.start_time + at_s + self._offset_s - self.start_time_offset
            self._event_ch.send_nowait(
                stt.SpeechEvent(type=stt.SpeechEventType.START_OF_SPEECH, speech_start_time=began_s)
            )

    def _end_speech(self) -> None:
        if self._is_speaking:
            self._is_speaking = False
            self._event_ch.send_nowait(stt.SpeechEvent(type=stt.SpeechEventType.END_OF_SPEECH))

    def _emit(self, kind: stt.SpeechEventType, data: stt.SpeechData) -> None:
        self._event_ch.send_nowait(
            stt.SpeechEvent(type=kind, request_id=self._session_id, alternatives=[data])
        )

    def _report_usage(self, heard_ms: float) -> None:
        """`heard_ms`: how much of the session is done with."""
        if heard_ms > self._reported_ms:
            usage = stt.RecognitionUsage(audio_duration=(heard_ms - self._reported_ms) / 1000)
            self._reported_ms = heard_ms
            self._event_ch.send_nowait(
                stt.SpeechEvent(
                    type=stt.SpeechEventType.RECOGNITION_USAGE,
                    request_id=self._session_id,
                    recognition_usage=usage,
                )
            )


def _mono(frame: rtc.AudioFrame) -> bytes:
    samples = np.frombuffer(frame.data, np.int16)
    if frame.num_channels > 1:
        samples = samples.reshape(-1, frame.num_channels).mean(axis=1).astype(np.int16)
    return samples.tobytes()
