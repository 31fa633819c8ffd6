"""How a protocol describes its doors: one record each, from which its route, its part of the documents
and its line in `GET /` are made.

A protocol's folder has them in its `doors.py` as `DOORS`; `serve_app/web/door_table.py` lists the protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from serve_app.access.caller import Scope
from serve_app.protocols.choices import Parameters
from serve_app.protocols.dialect import Dialect
from sotto_client import wire

AUDIO_TYPES: Final = ("audio/*", "application/octet-stream", "audio/pcm")
"""Of bodies that are a recording: containers, then raw samples."""


@dataclass(frozen=True, slots=True)
class Query:
    """Parameters of an address: the fields of `record` less `without`, and `repeated` ones of text
    with their meanings."""

    record: Any
    without: frozenset[str] = frozenset()
    repeated: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart form: a file and the fields of `record`, of which `lists` may come as `name[]` too."""

    record: Any
    lists: frozenset[str] = frozenset()
    more: dict[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ("audio",)


@dataclass(frozen=True, slots=True)
class Answer:
    """A body: `record` as JSON (a tuple: any of these), text of the types in `texts`, or, by media type,
    what `streams` has, a record a line or event."""

    status: int = 200
    meaning: str = "The answer."
    record: Any = None
    texts: tuple[str, ...] = ()
    streams: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `prefix` sets its records' names apart, `error` is their shape of errors.

    `path` as Starlette has it; `name` is unique among all doors and finds the endpoint. `needs_key`: a key,
    where the service has any, of this `scope` (None: any key). `takes_tokens`: also one that was made with a
    key. `may_be_empty`: a request without a body.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    answers: tuple[Answer, ...]
    description: str = ""
    query: Query | None = None
    form: Form | None = None
    audio: tuple[str, ...] = ()
    json: Any = None
    may_be_empty: bool = False
    errors: tuple[int, ...] = ()
    error: Any = wire.Detail
    prefix: str = ""
    needs_key: bool = True
    scope: Scope | None = Scope.RECORDINGS
    takes_tokens: bool = True

    @property
    def is_live(self) -> bool:
        """It answers while its body comes in, for as long as that takes."""
        return any(answer.streams and self.audio and not self.form for answer in self.answers)

    @property
    def documented_path(self) -> str:
        """The path as OpenAPI writes it, without Starlette's converters."""
        return self.path.replace(":path}", "}")

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.documented_path}"


@dataclass(frozen=True, slots=True)
class Message:
    """One message; no `record`: binary frames of audio. `name` is unique in its channel."""

    name: str
    record: Any = None
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a live door knows of a connection: its address's parameters, and settings that dialects read."""

    parameters: Parameters
    heartbeat_s: float
    ws_protocol: Literal["auto", "interim_final", "whisperlivekit"]


@dataclass(frozen=True, slots=True)
class Channel:
    """One path of WebSockets. `received` by the server, `sent` by it; `prefix` sets its records' names apart.

    `dialect` makes what one connection speaks; None where an endpoint of this `name` does, since it may
    refuse before it accepts.
    """

    path: str
    name: str
    summary: str
    queries: tuple[Query, ...]
    received: tuple[Message, ...]
    sent: tuple[Message, ...]
    prefix: str = ""
    scope: Scope | None = Scope.LIVE
    dialect: Callable[[Opening], Dialect] | None = None

    def __str__(self) -> str:
        return f"WS {self.path}"


Described: TypeAlias = Operation | Channel


def messages(*records: Any) -> tuple[Message, ...]:
    """A message for each record, named as the wire names it, else after its class."""
    return tuple(Message(tag_of(record), record) for record in records)


def tag_of(record: Any) -> str:
    tag = record.__struct_config__.tag
    return str(tag) if tag is not None else record.__name__.lower()
