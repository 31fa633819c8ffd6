"""Speech-to-text for Pipecat pipelines (`pipecat-ai` 1.14), over the native protocol with resumption.

    stt = SottoSTTService(url="http://speech:8000", language="pt")

When the pipeline's voice detection says that the user stopped, the utterance is flushed: its final comes
at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from sotto_client.addresses import DEFAULT_URL
from sotto_client.errors import ConnectionLost, SottoClientError
from sotto_client.live import PATH, SessionConfig
from sotto_client.messages import (
    ErrorMessage,
    FinalTranscript,
    Message,
    PartialTranscript,
    SessionEnded,
)
from sotto_client.resuming import ResumingClient

try:
    from pipecat.frames.frames import (
        CancelFrame,
        EndFrame,
        Frame,
        InterimTranscriptionFrame,
        TranscriptionFrame,
        VADUserStoppedSpeakingFrame,
    )
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
    from pipecat.services.settings import STTSettings
    from pipecat.services.stt_service import STTService
    from pipecat.transcriptions.language import Language
    from pipecat.utils.time import time_now_iso8601
except ImportError as error:
    raise ImportError("the Pipecat service needs Pipecat: pip install 'pipecat-ai>=1.14'") from error

LAST_FINALS_S = 10.0
"""How long the end of a pipeline waits for what was spoken last."""


class SottoSTTService(STTService):  # type: ignore[misc]
    """A Sotto server as the ears of a pipeline.

    `language` None: the server detects it. `config` holds further choices of the session; sample rate and
    encoding are the pipeline's. With `config.diarization` a final's `user_id` is its speaker, as far as that
    is known when it comes. Pass `ttfs_p99_latency` as measured with your models and machines.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        language: Language | str | None = None,
        *,
        api_key: str | None = None,
        config: SessionConfig | None = None,
        give_up_after_s: float = 30.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(settings=STTSettings(model=None, language=language), **kwargs)
        self._url = url.rstrip("/").removesuffix(PATH)
        self._api_key = api_key
        self._config = config or SessionConfig()
        self._give_up_after_s = give_up_after_s
        self._client: ResumingClient | None = None
        self._reader: asyncio.Task[None] | None = None

    def can_generate_metrics(self) -> bool:
        return True

    def language_to_service_language(self, language: Language) -> str:
        return str(language).partition("-")[0].lower()

    # the pipeline's side

    async def setup(self, setup: FrameProcessorSetup) -> None:
        await super().setup(setup)
        await self._open()

    async def stop(self, frame: EndFrame) -> None:
        await super().stop(frame)
        await self._finish()

    async def cancel(self, frame: CancelFrame) -> None:
        await super().cancel(frame)
        await self._close()

    async def cleanup(self) -> None:
        await super().cleanup()
        await self._close()

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Hand the audio on; what is recognised comes by itself."""
        if self._client is None:  # the session ended in a pause, or could not be opened before
            await self._open()
        if self._client is not None:
            try:
                await self._client.send_audio(audio)
            except ConnectionLost:
                await self._close()
        yield None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame) and self._client is not None:
            self.request_finalize()
            await self._client.flush()

    async def _update_settings(self, delta: STTSettings) -> dict[str, Any]:
        changed: dict[str, Any] = await super()._update_settings(delta)
        if changed:
            await self._request_reconnect()
        return changed

    async def _do_reconnect(self) -> None:
        await self._finish()
        await self._open()

    # the server's side

    async def _open(self) -> None:
        config = replace(
            self._config,
            lang_code=self._settings.language or self._config.lang_code,
            sample_rate=self.sample_rate,
            encoding="pcm16",
        )
        client = ResumingClient(
            self._url, config, api_key=self._api_key, give_up_after_s=self._give_up_after_s
        )
        try:
            await client.__aenter__()
        except SottoClientError as error:
            await self.push_error(str(error), exception=error)
            return
        self._client = client
        self._reader = self.create_task(self._read(client), "sotto::read")
        await self._call_event_handler("on_connected")

    async def _finish(self) -> None:
        """End the session and wait for the finals of what was spoken."""
        if self._client is not None and self._reader is not None:
            await self._client.end()
            await asyncio.wait([self._reader], timeout=LAST_FINALS_S)
        await self._close()

    async def _close(self) -> None:
        client, self._client = self._client, None
        reader, self._reader = self._reader, None
        if client is None:
            return
        if reader is not None and reader is not asyncio.current_task():
            await self.cancel_task(reader)
        await client.__aexit__(None, None, None)
        await self._call_event_handler("on_disconnected")

    async def _read(self, client: ResumingClient) -> None:
        try:
            async for message in client:
                await self._take(message)
        except SottoClientError as error:
            await self.push_error(str(error), exception=error)
            await self._call_event_handler("on_connection_error", str(error))
        self._reader = None
        await self._close()

    async def _take(self, message: Message) -> None:
        match message:
            case PartialTranscript() if message.text:
                await self.push_frame(
                    InterimTranscriptionFrame(
                        message.text,
                        self._user_id,
                        time_now_iso8601(),
                        language_of(message.language),
                        result=message,
                    )
                )
            case FinalTranscript() if message.text:
                self.confirm_finalize()
                await self.emit_stt_usage_metrics()
                await self.push_frame(
                    TranscriptionFrame(
                        message.text,
                        message.speaker or self._user_id,
                        time_now_iso8601(),
                        language_of(message.language),
                        result=message,
                    )
                )
            case ErrorMessage():
                await self.push_error(f"{message.code}: {message.message}")
            case SessionEnded(reason="error"):
                await self.push_error("the server ended the session with an error")


def language_of(code: str) -> Language | None:
    """None where Pipecat has no name for it."""
    try:
        return Language(code)
    except ValueError:
        return None
