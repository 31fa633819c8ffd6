"""`DELETE /v1/data`: deletion on request, of what is kept of a session, a key or a clip."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from serve_app.access.caller import Scope
from serve_app.protocols.doors import Answer, Operation, Query
from serve_app.protocols.openai import records as openai
from sotto_client.wire import Written

DATA_PATH: Final = "/v1/data"


class ErasureQuery(Struct, frozen=True, kw_only=True):
    """What to erase: exactly one of `session`, `key` and `clip`."""

    session: Annotated[str, Meta(description="Id of a live session.")] = ""
    key: Annotated[str, Meta(description="Id of a key (not the key): all that it has left here.")] = ""
    clip: Annotated[str, Meta(description="Id of a clip.")] = ""
    audit: Annotated[
        bool, Meta(description="Also who it was in the audit log, whose lines else stay as they are.")
    ] = False


class Erased(Written, frozen=True, kw_only=True):
    """`erased`: by store, how many things are gone. `failed`: stores where something may be left."""

    erased: dict[str, int]
    failed: tuple[str, ...] = ()


DOORS: Final = (
    Operation(
        method="delete",
        path=DATA_PATH,
        name="eraseData",
        tag="service",
        summary="Erase what is kept of a session, a key or a clip; for keys of scope `admin`",
        query=Query(ErasureQuery),
        answers=(Answer(record=Erased), Answer(503, "Something may be left: ask again.", Erased)),
        errors=(400,),
        error=openai.Error,
        prefix="OpenAI",
        scope=Scope.ADMIN,
    ),
)
