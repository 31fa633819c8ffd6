"""From a connection's bytes to its sessions' samples: raw, split by channel, or out of a container."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import numpy as np

from serve_app.audio.formats import SNIFF_BYTES
from serve_app.audio.headless import PROBE_BYTES, sniff_stream
from serve_app.audio.pcm import MAX_CHANNELS, PcmStream
from serve_app.audio.stream_decoder import ContainerStream
from serve_app.core.errors import InternalError, InvalidAudio, SottoError
from serve_app.core.samples import Pcm16
from serve_app.protocols.dialect import AudioInput, RawAudio

Push: TypeAlias = Callable[[int, Pcm16], Awaitable[None]]
"""Takes a channel's samples; waits while they are more than can be used."""

Complain: TypeAlias = Callable[[SottoError], None]


class Intake(Protocol):
    """One connection's audio. `take` and `finish` wait for room, raise `SottoError`; then `aclose`."""

    async def take(self, data: bytes) -> None: ...

    async def finish(self) -> None:
        """No more bytes come: returns once all samples are pushed."""

    async def aclose(self) -> None: ...


def num_sessions(audio: AudioInput) -> int:
    """How many sessions the audio needs. Raises `InvalidAudio` for more channels than can be."""
    if not isinstance(audio, RawAudio) or not audio.split_channels:
        return 1
    if not 1 <= audio.channels <= MAX_CHANNELS:
        raise InvalidAudio(f"{audio.channels} channels: expected 1 to {MAX_CHANNELS}")
    return audio.channels


class RawIntake:
    """Headerless samples. Raises `InvalidAudio` for a rate or channel count outside the limits.

    `warn` is told of an end within a sample; None: it does not matter.
    """

    def __init__(self, audio: RawAudio, push: Push, warn: Complain | None = None) -> None:
        self._push = push
        self._warn = warn
        self._whole_samples = audio.whole_samples
        self._num_channels = num_sessions(audio)
        channels = 1 if audio.split_channels else audio.channels
        self._streams = [
            PcmStream(audio.encoding, audio.sample_rate_hz, channels) for _ in range(self._num_channels)
        ]
        self._sample_bytes = audio.sample_bytes
        self._rest = b""

    async def take(self, data: bytes) -> None:
        if self._num_channels == 1:
            samples = self._streams[0].push(data, strict=self._whole_samples)
            if len(samples):
                await self._push(0, samples)
            return
        for channel, part in enumerate(self._split(data)):
            samples = self._streams[channel].push(part)
            if len(samples):
                await self._push(channel, samples)

    async def finish(self) -> None:
        streams, self._streams = self._streams, []
        for channel, stream in enumerate(streams):
            tail = stream.finish()
            if len(tail):
                await self._push(channel, tail)
        num_bytes = len(self._rest) + sum(stream.num_dangling_bytes for stream in streams)
        if num_bytes and self._warn is not None:
            self._warn(InvalidAudio(f"the audio ends within a sample: {num_bytes} byte(s) left over"))

    async def aclose(self) -> None:
        return

    def _split(self, data: bytes) -> list[bytes]:
        """Each channel's bytes; a frame that is cut waits for its other half."""
        frame_bytes = self._sample_bytes * self._num_channels
        if self._whole_samples and len(data) % frame_bytes:
            raise InvalidAudio(f"{len(data)} bytes of audio: expected a multiple of {frame_bytes}")
        data = self._rest + data
        end = len(data) - len(data) % frame_bytes
        self._rest = data[end:]
        frames = np.frombuffer(data[:end], np.uint8).reshape(-1, self._num_channels, self._sample_bytes)
        return [frames[:, channel].tobytes() for channel in range(self._num_channels)]


class ContainerIntake:
    """A container that is decoded while it comes in.

    `fail` is told what is wrong with it, behind the last samples it gave; `warn` at the end of damage that
    could be passed over.
    """

    def __init__(
        self,
        push: Push,
        *,
        fail: Complain,
        warn: Complain,
        allowed_formats: frozenset[str],
        max_samples: int,
        format_name: str | None = None,
    ) -> None:
        self._push = push
        self._fail = fail
        self._warn = warn
        self._stream = ContainerStream(
            allowed_formats=allowed_formats, max_samples=max_samples, format_name=format_name
        )
        self._decoding = asyncio.create_task(self._decode(), name="container")

    async def take(self, data: bytes) -> None:
        await self._stream.feed(data)

    async def finish(self) -> None:
        self._stream.finish()
        await asyncio.wait([self._decoding])
        if self._stream.warning is not None:
            self._warn(InvalidAudio(self._stream.warning))

    async def aclose(self) -> None:
        self._decoding.cancel()
        await asyncio.gather(self._decoding, return_exceptions=True)
        await self._stream.aclose()

    async def _decode(self) -> None:
        try:
            async for samples in self._stream.samples():
                await self._push(0, samples)
        except SottoError as error:
            self._fail(error)
        except Exception as error:
            failure = InternalError("internal error")
            failure.__cause__ = error
            self._fail(failure)


class SniffingIntake:
    """A container where the first bytes are those of one, else raw samples; those of neither `fail`.

    The bytes are looked at whenever they have doubled, until they tell.
    """

    def __init__(self, container: Callable[[str], Intake], raw: Callable[[], Intake], fail: Complain) -> None:
        """`container` makes the intake of a format."""
        self._container = container
        self._raw = raw
        self._fail = fail
        self._head = bytearray()
        self._enough_bytes = SNIFF_BYTES
        self._chosen: Intake | None = None
        self._failed = False

    async def take(self, data: bytes) -> None:
        if self._chosen is not None:
            await self._chosen.take(data)
        elif not self._failed:
            self._head += data
            if len(self._head) >= self._enough_bytes:
                self._enough_bytes = max(SNIFF_BYTES, 2 * len(self._head))
                await self._look(ended=False)

    async def finish(self) -> None:
        if self._chosen is None and self._head and not self._failed:
            await self._look(ended=True)
        if self._chosen is not None:
            await self._chosen.finish()

    async def aclose(self) -> None:
        if self._chosen is not None:
            await self._chosen.aclose()

    async def _look(self, *, ended: bool) -> None:
        sniffed = sniff_stream(bytes(self._head[:PROBE_BYTES]), ended=ended)
        if sniffed is None:
            return
        if sniffed.problem is not None:
            self._failed = True
            self._fail(InvalidAudio(sniffed.problem))
            return
        named = sniffed.format_name
        self._chosen = self._raw() if named is None else self._container(named)
        head, self._head = bytes(self._head), bytearray()
        await self._chosen.take(head)


def open_intake(
    audio: AudioInput,
    push: Push,
    *,
    fail: Complain,
    warn: Complain,
    is_body: bool,
    allowed_formats: frozenset[str],
    max_samples: int,
) -> Intake:
    """The intake for what the client announced. Raises `InvalidAudio`. `is_body`: see `dialect.Open`."""
    if is_body:
        warn = fail
    if isinstance(audio, RawAudio):
        return RawIntake(audio, push, warn if is_body else None)

    def container(format_name: str | None = None) -> Intake:
        return ContainerIntake(
            push,
            fail=fail,
            warn=warn,
            allowed_formats=allowed_formats,
            max_samples=max_samples,
            format_name=format_name,
        )

    if audio.or_raw is None:
        return container()
    raw = RawIntake(audio.or_raw, push)
    return SniffingIntake(container, lambda: raw, fail)
