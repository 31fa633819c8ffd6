"""Who calls: every request is given its caller, and is refused where the service has keys and it has none.

Refused before the body is read, in the door's own shape, also at the handshake of a WebSocket: 401 without a
key that holds, 403 with one that does not open this door. Which doors are open to all, and which scope each
needs, stands in their descriptions (`protocols/*/doors.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

import structlog
from starlette.datastructures import Headers
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from serve_app.access.caller import ANYBODY, Caller, Scope
from serve_app.access.keyring import Keyring
from serve_app.access.keys import offered_keys
from serve_app.access.tokens import verify_token
from serve_app.core.errors import InvalidKey, SottoError, WrongScope
from serve_app.protocols.doors import Channel, Described, Operation
from serve_app.web.callers import caller_of, set_caller
from serve_app.web.errors import asked_path, refuse
from serve_app.web.openai_realtime import secret_owner

log = structlog.get_logger(__name__)

KEY_PARAMETERS = ("token", "api_key")
"""Of a WebSocket's address, where keys in addresses are taken."""

MAX_OFFERED = 4
"""Keys of one request that are looked at: each may cost a check."""

_WEBSOCKET = "websocket"


class Callers:
    """ASGI middleware: sets the caller of a connection, or refuses it.

    `keys` None: none are asked for. `in_address`: WebSockets may name their key there (`KEY_PARAMETERS`),
    which doors then do not see. `metrics_need_key`: metrics are for keys with their scope too.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keyring | None,
        doors: Iterable[Described],
        *,
        signing_key: bytes,
        in_address: bool = False,
        metrics_need_key: bool = False,
    ) -> None:
        self._app = app
        self._keys = keys
        self._doors = DoorFinder(doors)
        self._signing_key = signing_key
        self._in_address = in_address
        self._metrics_need_key = metrics_need_key

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", _WEBSOCKET):
            try:
                caller = await self._caller(scope)
            except SottoError as error:
                await refuse(scope, receive, send, error)
                return
            set_caller(scope, caller)
        await self._app(scope, receive, send)

    async def _caller(self, scope: Connection) -> Caller:
        """Raises `InvalidKey`, `WrongScope` and `QueueFull`."""
        keys = self._keys
        if keys is None:
            return caller_of(scope)
        path = asked_path(scope)
        door = self._doors.find(scope["type"] if scope["type"] == _WEBSOCKET else scope["method"], path)
        if isinstance(door, Operation) and not self._needs_key(door):
            return ANYBODY
        offered = self._offered(scope)
        for text in offered:
            caller, is_temporary = await self._comes_with(keys, text, path)
            if caller is not None:
                self._require(door, caller, is_temporary=is_temporary)
                return caller
        log.warning("key refused", path=path[:100], offered=bool(offered))
        needed = "An API key is needed: Authorization: Bearer, or X-API-Key"
        raise InvalidKey("Invalid API key" if offered else needed)

    def _needs_key(self, door: Operation) -> bool:
        return door.needs_key or (door.scope is Scope.METRICS and self._metrics_need_key)

    async def _comes_with(self, keys: Keyring, text: str, path: str) -> tuple[Caller | None, bool]:
        """Who comes with a key, a token or a client secret; and whether it is one of the latter two."""
        token = verify_token(self._signing_key, text, time.time())
        key_id = secret_owner(text, path, self._signing_key) if token is None else token.sub
        scopes = frozenset({Scope.LIVE}) if token is None else token.scopes
        if key_id is None:
            return await keys.caller(text), False
        owner = keys.caller_of(key_id)
        if owner is None:
            return None, True
        return replace(owner, scopes=frozenset(filter(owner.may, scopes))), True

    def _require(self, door: Described | None, caller: Caller, *, is_temporary: bool) -> None:
        """Raises `WrongScope`; a path where there is no door only asks for some key."""
        if door is None:
            return
        if is_temporary and isinstance(door, Operation) and not door.takes_tokens:
            error = WrongScope(f"{door} needs the key itself: a token makes no others")
        elif door.scope is not None and not caller.may(door.scope):
            error = WrongScope(f"{door} needs a key with the scope {door.scope}")
        else:
            return
        log.warning("key refused", path=door.path, key_id=caller.key_id, needs=door.scope)
        raise error

    def _offered(self, scope: Connection) -> list[str]:
        offered = offered_keys(Headers(scope=scope), scope.get("subprotocols", ()))
        if self._in_address and scope["type"] == _WEBSOCKET:
            offered += _taken_from_address(scope)
        return offered[:MAX_OFFERED]


class DoorFinder:
    """The door of a method (`websocket` for a live one) and a path."""

    def __init__(self, doors: Iterable[Described]) -> None:
        self._by_path: dict[tuple[str, str], Described] = {}
        self._patterns = []
        for door in doors:
            method = _WEBSOCKET if isinstance(door, Channel) else door.method
            if "{" in door.path:
                self._patterns.append((method, compile_path(door.path)[0], door))
            else:
                self._by_path[method, door.path] = door

    def find(self, method: str, path: str) -> Described | None:
        method = "get" if method == "HEAD" else method.lower()
        found = self._by_path.get((method, path))
        if found is not None:
            return found
        matching = (
            door for known, pattern, door in self._patterns if known == method and pattern.match(path)
        )
        return next(matching, None)


def _taken_from_address(scope: Connection) -> list[str]:
    """The keys in the address, which has them no more afterwards."""
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    offered: Sequence[str] = [value for name, value in pairs if name in KEY_PARAMETERS and value]
    if offered:
        kept = [(name, value) for name, value in pairs if name not in KEY_PARAMETERS]
        scope["query_string"] = urlencode(kept).encode("latin-1")
    return list(offered)
