"""Requests to addresses that clients named: webhooks are sent and recordings fetched within the rules.

Each request, also one that follows a redirect, resolves its name once, checks every address, and connects to
one of these; TLS and the `Host` header still go by the name. No proxy of the environment comes between: it
would resolve the name anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

import httpx

from serve_app.core.errors import AddressRefused, InvalidAudio, PayloadTooLarge
from serve_app.jobs.addresses import OutboundRules, Resolver, Target, system_resolver

MAX_REDIRECTS: Final = 3
WEBHOOK_TIMEOUT_S: Final = 15.0
FETCH_TIMEOUT_S: Final = 600.0
_STEP_TIMEOUT: Final = httpx.Timeout(15.0)


class NotReached(Exception):
    """The other end could not be connected to, broke off or took too long; `str(error)` names no address."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    retry_after: str = ""


class Outbound:
    """`transport`: in place of the network, for tests."""

    def __init__(
        self,
        rules: OutboundRules,
        *,
        resolver: Resolver = system_resolver,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.rules = rules
        self._resolver = resolver
        # Not a client: that keeps cookies, and thinks about redirects.
        self._transport = transport or httpx.AsyncHTTPTransport(
            trust_env=False, limits=httpx.Limits(max_connections=32, max_keepalive_connections=0)
        )

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """One request, whose redirects are not followed and whose answer is not read.

        Raises `AddressRefused`, `NotReached`.
        """
        try:
            async with asyncio.timeout(WEBHOOK_TIMEOUT_S):
                async with self._open(method, url, headers, body) as response:
                    return Reply(response.status_code, response.headers.get("retry-after", ""))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise NotReached(_reason(error)) from error

    async def fetch(self, url: str, into: BinaryIO, max_bytes: int) -> int:
        """Write what is at `url` into a file; how many bytes. Follows some redirects, each one checked.

        Raises `AddressRefused`, `PayloadTooLarge`, `InvalidAudio` where the server there says that it has
        none, `NotReached`.
        """
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                for _ in range(MAX_REDIRECTS + 1):
                    location = await self._fetch_once(url, into, max_bytes)
                    if location is None:
                        return into.tell()
                    url = location
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise NotReached(_reason(error)) from error
        raise InvalidAudio(f"the recording's address redirects more than {MAX_REDIRECTS} times")

    async def _fetch_once(self, url: str, into: BinaryIO, max_bytes: int) -> str | None:
        """Where else it is, None once it is here."""
        async with self._open("GET", url, {"accept-encoding": "identity"}) as response:
            if response.has_redirect_location:
                return str(httpx.URL(url).join(response.headers["location"]))
            if response.status_code >= 500 or response.status_code == 429:
                raise httpx.TransportError(f"HTTP {response.status_code}")
            if not response.is_success:
                raise InvalidAudio(f"the recording's address answered {response.status_code}")
            announced = response.headers.get("content-length", "")
            if announced.isdigit() and int(announced) > max_bytes:
                raise PayloadTooLarge(f"the recording has {announced} bytes, the limit is {max_bytes}")
            num_bytes = 0
            async for piece in response.aiter_raw():
                num_bytes += len(piece)
                if num_bytes > max_bytes:
                    raise PayloadTooLarge(f"the recording has more than {max_bytes} bytes")
                await asyncio.to_thread(into.write, piece)
        return None

    @asynccontextmanager
    async def _open(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[httpx.Response]:
        target = await self.rules.resolve(url, self._resolver)
        response = await self._first_that_answers(target, method, headers, body)
        try:
            yield response
        finally:
            await response.aclose()

    async def _first_that_answers(
        self, target: Target, method: str, headers: Mapping[str, str], body: bytes | None
    ) -> httpx.Response:
        host = target.url.netloc.decode("ascii")
        failed: httpx.HTTPError | None = None
        for address in target.addresses:
            request = httpx.Request(
                method,
                target.url.copy_with(host=address, fragment=None),
                headers={**headers, "host": host, "user-agent": "sotto"},
                content=body,
                extensions={"sni_hostname": target.url.host, "timeout": _STEP_TIMEOUT.as_dict()},
            )
            try:
                return await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = error
        assert failed is not None
        raise failed

    async def close(self) -> None:
        await self._transport.aclose()


def _reason(error: Exception) -> str:
    match error:
        case AddressRefused():
            return str(error)
        case TimeoutError() | httpx.TimeoutException():
            return "took too long"
        case httpx.ConnectError():
            return "could not connect"
        case httpx.TransportError() if str(error).startswith("HTTP "):
            return str(error)
        case _:
            return f"failed ({type(error).__name__})"
