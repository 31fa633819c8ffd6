"""A recogniser that does not decode again what is known already: a recording is taken up where work on it was
lost.

A window's text is kept under a digest of its samples and of every option of its decode. The windows of a
recording follow from its samples, so whoever takes it up comes by the same ones, also where the language was
open for a while; the text is that of an undisturbed run.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Protocol

import msgspec

from serve_app.core.jobs import DecodeJob, DecodeResult, ModelInfo, Transcript
from serve_app.service.ports import RecogniserPort

_decode = msgspec.msgpack.Decoder(Transcript).decode
_encode = msgspec.msgpack.Encoder().encode


class KnownParts(Protocol):
    """Where finished windows are kept."""

    def recall(self, name: str) -> bytes | None:
        """What was kept under this name."""

    async def keep(self, name: str, body: bytes) -> None:
        """Keep a finished one."""


class RememberedRecogniser:
    """A `RecogniserPort` in front of another, for one recording."""

    def __init__(self, recogniser: RecogniserPort, parts: KnownParts) -> None:
        self._recogniser = recogniser
        self._parts = parts

    async def decode(self, jobs: Sequence[DecodeJob]) -> AsyncIterator[DecodeResult]:
        names = {job.job_id: part_name(job) for job in jobs}
        unknown = []
        for job in jobs:
            known = self._parts.recall(names[job.job_id])
            if known is None:
                unknown.append(job)
            else:
                yield replace(_decode(known), job_id=job.job_id)
        if not unknown:
            return
        async for result in self._recogniser.decode(unknown):
            if isinstance(result, Transcript):
                await self._parts.keep(names[result.job_id], _encode(result))
            yield result

    async def describe(self) -> tuple[ModelInfo, ...]:
        return await self._recogniser.describe()


def part_name(job: DecodeJob) -> str:
    """The same for decodes that must answer the same."""
    digest = hashlib.sha256(job.audio.tobytes())
    digest.update(_encode(replace(job, job_id=0, audio=None)))  # type: ignore[arg-type]
    return digest.hexdigest()
