"""Containers that are decoded while they are still arriving: MediaRecorder's webm, ogg pages, mp3, and so on.

FFmpeg pulls, a socket pushes: so each stream has a thread in which FFmpeg reads from a pipe that blocks while
nothing has come. Both ways are bounded: `feed` waits while too many bytes are unread, the thread while too
many samples are. The thread hands over what it has whenever the bytes run out, one wake-up per message.

    loop                        thread
    feed(bytes) -> write    read -> demux -> decode -> resample
    samples()   <- take     put <-
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

import av

from serve_app.audio.chains import MAX_PARTS, TOO_MANY_PARTS, PartReader
from serve_app.audio.decoding import AudioDecoder, audio_stream, open_container
from serve_app.audio.formats import (
    ALL_FORMATS,
    FORMATS_WITH_TIMES,
    SNIFF_BYTES,
    mp4_index_is_at_the_end,
    require_allowed,
    sniff_format,
)
from serve_app.audio.headless import problem_of
from serve_app.audio.pipe import BytePipe, PipeClosedError
from serve_app.audio.recordings import MAX_SAMPLES
from serve_app.core.errors import (
    InternalError,
    InvalidAudio,
    SottoError,
    UnsupportedFormat,
)
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16

MAX_UNREAD_BYTES: Final = 256 * 1024
MAX_READY_SAMPLES: Final = 30 * SAMPLE_RATE_HZ

_PEEK_BYTES: Final = 512


class ContainerStream:
    """One container of audio in pieces of any size; make it and use it on one running event loop.

    `feed` bytes, `finish` at the end; iterate `samples()` meanwhile: int16 `(n,)` mono 16 kHz chunks.
    It raises the stream's error after what came before it: `InvalidAudio`, `UnsupportedFormat`,
    `PayloadTooLarge`. `warning` says after the end what was damaged on the way. Use `async with`, or
    `await aclose()`: that ends the thread. One consumer at a time.
    """

    def __init__(
        self,
        *,
        allowed_formats: frozenset[str] = ALL_FORMATS,
        max_samples: int = MAX_SAMPLES,
        max_unread_bytes: int = MAX_UNREAD_BYTES,
        max_ready_samples: int = MAX_READY_SAMPLES,
        format_name: str | None = None,
    ) -> None:
        """`format_name`: what the stream is known to be; None: its first bytes tell."""
        self._format_name = format_name
        self._allowed_formats = allowed_formats
        self._max_samples = max_samples
        self._max_unread_bytes = max_unread_bytes
        self._pipe = BytePipe(asyncio.get_running_loop(), max_unread_bytes, max_ready_samples)
        self._thread = threading.Thread(target=self._run, name="container-stream", daemon=True)
        self._thread.start()

    @property
    def format(self) -> str | None:
        """The container's name once its first bytes have told it."""
        return self._pipe.format

    @property
    def warning(self) -> str | None:
        return self._pipe.warning

    @property
    def remark(self) -> str | None:
        """After the end: what was done about sound that is whole but odd."""
        return self._pipe.remark

    async def feed(self, data: bytes) -> None:
        """Add bytes; waits while too many are unread. Bytes after an error or the end are dropped."""
        view = memoryview(data)
        for start in range(0, len(view), self._max_unread_bytes):
            self._pipe.write(view[start : start + self._max_unread_bytes])
            await self._pipe.until_writable()

    def finish(self) -> None:
        """No more bytes come: decode what there is, then `samples()` ends."""
        self._pipe.end_of_input()

    async def samples(self) -> AsyncIterator[Pcm16]:
        """Decoded chunks until the end of the stream; raises its error behind the last of them."""
        while True:
            chunk = await self._pipe.take()
            if chunk is None:
                return
            yield chunk

    async def aclose(self) -> None:
        """Drop what is not decoded and wait for the thread to end; may be called again."""
        self._pipe.close()
        await self._pipe.ended.wait()
        self._thread.join()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _run(self) -> None:
        """The thread: every way out ends in `BytePipe.end_of_output`."""
        error: SottoError | None = None
        try:
            self._decode()
        except PipeClosedError:
            pass
        except SottoError as failed:
            error = failed
        except Exception as failed:
            error = InternalError("the audio decoder failed")
            error.__cause__ = failed
        finally:
            self._pipe.end_of_output(error)

    def _decode(self) -> None:
        pipe = self._pipe
        parts = PartReader(pipe.read)
        parts.skip_tags()
        head = parts.peek(SNIFF_BYTES)
        if not head:
            raise InvalidAudio("the stream is empty")
        if (problem := problem_of(head)) is not None:
            raise InvalidAudio(problem)
        format_name = self._format_name or sniff_format(head)
        if format_name is None:
            raise UnsupportedFormat(
                f"unknown audio format: expected {', '.join(sorted(self._allowed_formats))}"
            )
        require_allowed(format_name, self._allowed_formats)
        pipe.format = format_name
        parts.begin(format_name)
        decoder = AudioDecoder(self._max_samples)
        self._decode_part(parts, format_name, decoder)
        if decoder.num_samples == 0 and not parts.at_another:
            raise InvalidAudio(f"no audio could be decoded from the {format_name} stream")
        num_parts, problem = 1, None
        while parts.next_part():
            if num_parts == MAX_PARTS:
                problem = TOO_MANY_PARTS
                break
            num_parts += 1
            try:
                self._decode_part(parts, format_name, decoder)
            except (InvalidAudio, UnsupportedFormat):
                decoder.broke_off()
        pipe.warning, pipe.remark = decoder.problem or problem, decoder.remark

    def _decode_part(self, parts: PartReader, format_name: str, decoder: AudioDecoder) -> None:
        if format_name == "mp4" and mp4_index_is_at_the_end(parts.peek(_PEEK_BYTES)):
            raise InvalidAudio(
                "this mp4 has its index behind its audio and cannot be decoded before it is complete: "
                "send it as a whole recording, or write it with the index in front (faststart)"
            )
        with open_container(parts, format_name, self._allowed_formats, live=True) as container:
            start = container.start_time
            start_s = None if start is None else float(start / av.time_base)
            gapless = format_name not in FORMATS_WITH_TIMES
            for chunk in decoder.chunks(container, audio_stream(container), start_s, gapless=gapless):
                self._pipe.put(chunk)
