"""The protocols that are served, a line each: routes, documents and the list of `GET /` follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from serve_app.access.keys import answered_subprotocol
from serve_app.protocols import data_doors as data
from serve_app.protocols import service_doors
from serve_app.protocols.browser import doors as browser
from serve_app.protocols.deepgram import doors as deepgram
from serve_app.protocols.dialect import Dialect
from serve_app.protocols.doors import Described, Opening, Operation
from serve_app.protocols.jobs import doors as jobs
from serve_app.protocols.native import doors as native
from serve_app.protocols.openai import doors as openai
from serve_app.web.clips import clip_endpoints
from serve_app.web.data_doors import data_endpoints
from serve_app.web.deepgram_doors import deepgram_endpoints
from serve_app.web.door import Door, Endpoint, Endpoints
from serve_app.web.jobs import job_endpoints
from serve_app.web.live.serve import serve_websocket
from serve_app.web.openai_doors import openai_endpoints
from serve_app.web.service_doors import service_endpoints
from serve_app.web.transcribe import transcribe_endpoints


@dataclass(frozen=True, slots=True)
class Protocol:
    """`doors` as the protocol's folder describes them. `endpoints`, by a door's name, answer its HTTP doors
    and those live ones that bring no dialect."""

    doors: tuple[Described, ...]
    endpoints: Callable[[Door], Endpoints] = lambda door: {}


NATIVE = Protocol(native.DOORS, lambda door: {**transcribe_endpoints(door), **clip_endpoints(door)})
BROWSER = Protocol(browser.DOORS)
OPENAI = Protocol(openai.DOORS, openai_endpoints)
DEEPGRAM = Protocol(deepgram.DOORS, deepgram_endpoints)
DATA = Protocol(data.DOORS, data_endpoints)
JOBS = Protocol(jobs.DOORS, job_endpoints)
SERVICE = Protocol(service_doors.DOORS, service_endpoints)

PROTOCOLS = (NATIVE, BROWSER, OPENAI, DEEPGRAM, JOBS, DATA, SERVICE)


def doors_of(protocols: Iterable[Protocol] = PROTOCOLS) -> tuple[Described, ...]:
    """All doors, the live ones first."""
    doors = [one for protocol in protocols for one in protocol.doors]
    return tuple(sorted(doors, key=lambda one: isinstance(one, Operation)))


def routes_of(door: Door, protocols: Iterable[Protocol] = PROTOCOLS) -> list[BaseRoute]:
    """A route for every door. Raises `KeyError` for one that neither an endpoint nor a dialect serves."""
    return [route for protocol in protocols for route in _routes(door, protocol)]


def _routes(door: Door, protocol: Protocol) -> Iterator[BaseRoute]:
    endpoints = protocol.endpoints(door)
    for one in protocol.doors:
        if isinstance(one, Operation):
            yield Route(one.path, endpoints[one.name], methods=[one.method.upper()])
        elif one.dialect is None:
            yield WebSocketRoute(one.path, endpoints[one.name])
        else:
            yield WebSocketRoute(one.path, live_endpoint(door, one.dialect))


def live_endpoint(door: Door, dialect: Callable[[Opening], Dialect]) -> Endpoint:
    """An endpoint whose connections each speak what `dialect` makes of how they open."""

    async def live(websocket: WebSocket) -> None:
        parameters = websocket.query_params.multi_items()
        opening = Opening(parameters, door.settings.heartbeat_s, door.settings.ws_protocol)
        subprotocol = answered_subprotocol(websocket.scope.get("subprotocols", ()))
        await serve_websocket(websocket, door, dialect(opening), subprotocol=subprotocol)

    return live
