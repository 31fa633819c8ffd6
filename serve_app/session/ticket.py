"""Resume tickets: a session's checkpoint as a short signed text that the client keeps.

    base64url( version | deflated msgpack | HMAC-SHA256 )        no padding

A ticket is all that a replica needs to go on with a session: nothing is stored on any server. It carries no
audio, and text only where the next decode needs it (`Checkpoint.context`, `doubtful`, `last_word`). It is
signed, not encrypted: the client that holds it has been sent that text already.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import zlib
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields, is_dataclass, replace
from typing import Any, TypeAlias

import msgspec

from serve_app.asr.guards import DecodeEvidence
from serve_app.core.errors import InvalidTicket
from serve_app.core.jobs import Word
from serve_app.session.checkpoint import Checkpoint, SpeakerCheckpoint, UnlabelledFinal
from serve_app.session.options import SessionOptions

MAX_TICKET_CHARS = 8_192
DEFAULT_LIFETIME_S = 3_600.0

_VERSION = b"\x01"
_PURPOSE = b"sotto resume ticket\0"
_MAC_BYTES = 32
_OPTION_BYTES = 8
_WINDOW_BITS = -12
"""Raw deflate, 4 KiB window: a ticket holds a few hundred bytes."""

IssueTicket: TypeAlias = Callable[[Checkpoint], str]
_Word: TypeAlias = tuple[str, float, float, float]
_Final: TypeAlias = tuple[str, int, int, int, tuple[tuple[int, int, int | None], ...]]
"""Id, sequence, first and last sample, and the words' start and end in milliseconds and their speakers."""
_Speakers: TypeAlias = tuple[bytes, int, tuple[_Final, ...]]
_Evidence: TypeAlias = tuple[str, float, float, float, bool, bool, bool]


class _Content(msgspec.Struct, frozen=True, array_like=True):
    session_id: str
    options: bytes
    issued_s: int
    expires_s: int
    sample: int
    utterance: int
    sequence: int
    cut_sample: int | None
    last_word: _Word | None
    context: str
    doubtful: tuple[_Evidence, ...]
    language_evidence: dict[str, float]
    speakers: _Speakers | None = None
    key_id: str = ""


_decoder = msgspec.msgpack.Decoder(_Content)


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What a valid ticket says."""

    session_id: str
    checkpoint: Checkpoint


class TicketOffice:
    """Issues tickets and takes them back; every replica with the same `secret` takes those of the others.

    Times are seconds of the wall clock, handed in. `key_id`: of the key that opened the session (empty: none
    was needed); another key cannot go on with it.
    """

    def __init__(self, secret: bytes, *, lifetime_s: float = DEFAULT_LIFETIME_S) -> None:
        if not secret:
            raise ValueError("a ticket secret must not be empty")
        self._secret = secret
        self._lifetime_s = lifetime_s

    def issue(self, options: SessionOptions, checkpoint: Checkpoint, now_s: float, key_id: str = "") -> str:
        content = _Content(
            session_id=options.session_id,
            options=_option_digest(options),
            issued_s=int(now_s),
            expires_s=int(now_s + self._lifetime_s),
            sample=checkpoint.sample,
            utterance=checkpoint.utterance,
            sequence=checkpoint.sequence,
            cut_sample=checkpoint.cut_sample,
            last_word=_word_content(checkpoint.last_word),
            context=checkpoint.context,
            doubtful=tuple(astuple(evidence) for evidence in checkpoint.doubtful),
            language_evidence=dict(checkpoint.language_evidence),
            speakers=_speaker_content(checkpoint.speakers),
            key_id=key_id,
        )
        signed = _VERSION + zlib.compress(msgspec.msgpack.encode(content), wbits=_WINDOW_BITS)
        return _to_text(signed + self._mac(signed))

    def redeem(self, ticket: str, options: SessionOptions, now_s: float, key_id: str = "") -> Redeemed:
        """Raises `InvalidTicket` where it is not ours, too old, of another key, or for other `options`.

        An empty `options.session_id` takes the ticket's; any other must be the same.
        """
        content = self._open(ticket)
        if now_s > content.expires_s:
            raise InvalidTicket(f"the ticket expired {now_s - content.expires_s:.0f} s ago")
        if not hmac.compare_digest(content.key_id.encode(), key_id.encode()):
            raise InvalidTicket("the ticket is of another key's session")
        if options.session_id not in ("", content.session_id):
            raise InvalidTicket("the ticket is of another session")
        if not hmac.compare_digest(content.options, _option_digest(options)):
            raise InvalidTicket("the ticket is for other choices than this start asks for")
        return Redeemed(content.session_id, _checkpoint(content))

    def _open(self, ticket: str) -> _Content:
        data = _from_text(ticket)
        signed, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(signed)):
            raise InvalidTicket("the ticket was not issued here, or it was changed")
        if signed[:1] != _VERSION:
            raise InvalidTicket("the ticket is of another version")
        try:
            return _decoder.decode(zlib.decompress(signed[1:], wbits=_WINDOW_BITS))
        except (zlib.error, msgspec.DecodeError):
            raise InvalidTicket("the ticket is of another version") from None

    def _mac(self, signed: bytes) -> bytes:
        return hmac.digest(self._secret, _PURPOSE + signed, "sha256")


def _word_content(word: Word | None) -> _Word | None:
    return None if word is None else (word.word, word.start_s, word.end_s, word.probability)


def _speaker_content(speakers: SpeakerCheckpoint | None) -> _Speakers | None:
    if speakers is None:
        return None
    finals = tuple(
        (
            final.utterance_id,
            final.sequence,
            final.start_sample,
            final.end_sample,
            tuple(
                (round(start_s * 1000), round(end_s * 1000), speaker)
                for (start_s, end_s), speaker in zip(final.spans, final.speakers, strict=True)
            ),
        )
        for final in speakers.unlabelled
    )
    return speakers.state, speakers.from_sample, finals


def _speaker_checkpoint(content: _Speakers) -> SpeakerCheckpoint:
    state, from_sample, finals = content
    return SpeakerCheckpoint(
        state,
        from_sample,
        tuple(
            UnlabelledFinal(
                name,
                sequence,
                start,
                end,
                spans=tuple((from_ms / 1000, to_ms / 1000) for from_ms, to_ms, _ in words),
                speakers=tuple(speaker for _, _, speaker in words),
            )
            for name, sequence, start, end, words in finals
        ),
    )


def _checkpoint(content: _Content) -> Checkpoint:
    return Checkpoint(
        sample=content.sample,
        utterance=content.utterance,
        sequence=content.sequence,
        cut_sample=content.cut_sample,
        last_word=None if content.last_word is None else Word(*content.last_word),
        context=content.context,
        doubtful=tuple(DecodeEvidence(*evidence) for evidence in content.doubtful),
        language_evidence=content.language_evidence,
        speakers=None if content.speakers is None else _speaker_checkpoint(content.speakers),
    )


def _option_digest(options: SessionOptions) -> bytes:
    """Of everything that decides about finals: what only concerns partials and warnings may change. Only what
    differs from the defaults counts, so that a version with more options takes the tickets of the one before.
    """
    plain = type(options)(session_id="")
    deciding = replace(
        options,
        session_id="",
        partials=plain.partials,
        partial_interval_ms=plain.partial_interval_ms,
        max_partial_window_ms=plain.max_partial_window_ms,
        level_warnings=plain.level_warnings,
        speech_probability=plain.speech_probability,
    )
    return hashlib.sha256(msgspec.json.encode(_chosen(deciding, plain))).digest()[:_OPTION_BYTES]


def _chosen(options: Any, plain: Any) -> dict[str, Any]:
    """What differs, by name."""
    pairs = ((one.name, getattr(options, one.name), getattr(plain, one.name)) for one in fields(plain))
    return {
        name: _chosen(value, default) if is_dataclass(value) and type(value) is type(default) else value
        for name, value, default in sorted(pairs, key=lambda pair: pair[0])
        if value != default
    }


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _from_text(ticket: str) -> bytes:
    """Only the one spelling that `_to_text` gives: the decoder alone skips what it does not know."""
    if len(ticket) <= MAX_TICKET_CHARS:
        try:
            data = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
        except (binascii.Error, ValueError):
            data = b""
        if len(data) > _MAC_BYTES and _to_text(data) == ticket:
            return data
    raise InvalidTicket("this is no ticket")
