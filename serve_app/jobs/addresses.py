"""Which addresses this server connects to for its clients: public ones, and those that settings allow.

A client that names an address (of a webhook, of a recording) could have the server reach what only the server
can: itself, its network, a cloud's metadata. So a name is resolved once, each of its addresses is checked,
and the connection goes to an address that was checked, never to the name. Spellings of addresses (decimal,
octal, shortened) need no rules: what counts is the address that they resolve to.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, TypeAlias

import httpx

from serve_app.core.addresses import Address, Networks
from serve_app.core.errors import AddressRefused

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, to be connected to at a port. Raises `OSError`."""

MAX_URL_CHARS: Final = 2_048
MAX_ADDRESSES: Final = 16
RESOLVE_TIMEOUT_S: Final = 10.0
_PORTS: Final = {"http": 80, "https": 443}
_FIRST_FREE_PORT: Final = 1_024
"""Below it are mail, databases and shells; only the web's own ports are asked for there."""

_NEVER_PUBLIC: Final = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "100.64.0.0/10",  # shared by carriers, and some clouds' metadata
            "192.0.0.0/24",
            "168.63.129.16/32",  # Azure's own services, seen from its machines
            "192.88.99.0/24",  # relays of 6to4
            "198.18.0.0/15",
            "240.0.0.0/4",
            "::/96",  # IPv4-compatible
            "::ffff:0:0/96",  # IPv4-mapped
            "::ffff:0:0:0/96",  # IPv4-translated
            "64:ff9b::/96",  # NAT64: behind it is any IPv4 address
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/23",  # Teredo and other tunnels
            "2002::/16",  # 6to4
            "3fff::/20",
            "5f00::/16",
            "fc00::/7",
            "fec0::/10",
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL and what its host resolved to: addresses that may all be connected to."""

    url: httpx.URL
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutboundRules:
    """`allowed`: networks that may be reached though they are not public, at any port."""

    allowed: Networks = Networks()  # noqa: RUF009

    def check_url(self, text: str) -> httpx.URL:
        """What can be said without asking for the name. Raises `AddressRefused`."""
        if len(text) > MAX_URL_CHARS:
            raise AddressRefused(f"the address has {len(text)} characters, the limit is {MAX_URL_CHARS}")
        if not text.isprintable() or "\\" in text or " " in text:
            raise AddressRefused("the address has a space, a backslash or a control character")
        try:
            url = httpx.URL(text)
            host, port = url.host, url.port
        except (httpx.InvalidURL, ValueError):
            raise AddressRefused("the address cannot be understood") from None
        if url.scheme not in _PORTS:
            raise AddressRefused(f"addresses begin with https:// or http://, not {url.scheme[:20]!r}")
        if url.userinfo or "@" in re.split(r"[/?#]", text.partition("://")[2])[0]:
            raise AddressRefused("the address has credentials in it")
        if not host:
            raise AddressRefused("the address names no host")
        if port is not None and not 1 <= port <= 65_535:
            raise AddressRefused(f"{port} is no port")
        literal = _literal(host)
        if literal is not None:
            self.check_address(literal, port or _PORTS[url.scheme])
        return url

    def check_address(self, address: Address, port: int) -> None:
        """Raises `AddressRefused`, without saying what the name resolved to."""
        if address in self.allowed:
            return
        public = address.is_global and not (
            address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
        )
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            public = False
        if not public or any(address in network for network in _NEVER_PUBLIC):
            raise AddressRefused("the address is none of the public internet, and not allowed by settings")
        if port < _FIRST_FREE_PORT and port not in _PORTS.values():
            raise AddressRefused(f"port {port} is not one of the web: 80, 443, or from {_FIRST_FREE_PORT} on")

    async def resolve(self, text: str, resolver: Resolver) -> Target:
        """Check a URL and all that its host resolves to, now. Raises `AddressRefused`, `OSError`."""
        url = self.check_url(text)
        port = url.port or _PORTS[url.scheme]
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = await resolver(url.host, port)
        addresses = tuple(dict.fromkeys(found))[:MAX_ADDRESSES]
        if not addresses:
            raise OSError("the name has no address")
        for address in addresses:
            self.check_address(ip_address(address), port)
        return Target(url, addresses)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """As this machine resolves names."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]
