"""Whose address a request has, behind proxies that are known, and which addresses may come in.

`X-Forwarded-For` and `Forwarded` (RFC 7239) list the way of a request; each proxy appends the address that
it was asked from, so only what a trusted proxy appended is true. The list is therefore read from its right
end, up to the first address that is no trusted proxy's. What stands left of that is the client's own claim.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from serve_app.core.addresses import Address, Networks

MAX_HOPS: Final = 32
"""More than any way has; a longer list is read no further."""
MAX_ADDRESS_CHARS: Final = 80
CACHED_ADDRESSES: Final = 4_096
"""Parsing takes 10 us, several times a request."""
IPV6_CLIENT_BITS: Final = 64
"""What one IPv6 customer has at least: single addresses there are no bound."""

_FORWARDED_FOR: Final = re.compile(r'(?:^|[;,])\s*for\s*=\s*(?:"([^"]*)"|([^;,\s]*))', re.IGNORECASE)


def parsed_address(text: str) -> Address | None:
    """`192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`; None for what is no address."""
    return _parsed(text) if len(text) <= MAX_ADDRESS_CHARS else None


@lru_cache(CACHED_ADDRESSES)
def _parsed(text: str) -> Address | None:
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


class AddressRules:
    """Which proxies are believed, and which clients may come in.

    This machine's own addresses are always believed: Serve's proxy and the TLS edge ask from there. They
    also come in where `allow` does not name them, since probes and commands of the operator do; `deny` wins.
    """

    def __init__(
        self, trusted_proxies: Iterable[str] = (), allow: Iterable[str] = (), deny: Iterable[str] = ()
    ) -> None:
        """Raises `ValueError` for what is neither an address nor a network."""
        trusted = Networks(trusted_proxies)

        @lru_cache(CACHED_ADDRESSES)
        def is_proxy(address: Address) -> bool:
            return address.is_loopback or address in trusted

        self._is_proxy = is_proxy
        self._allow = Networks(allow)
        self._deny = Networks(deny)

    def client(self, peer: str, own: str, headers: Mapping[str, list[str]]) -> Address | None:
        """The client's address. `peer`: who is connected; `own`: the address that it is connected to;
        `headers`: values by lower-case names, of those that proxies write. None where no address is known."""
        nearest, here = parsed_address(peer), parsed_address(own)

        def trusts(address: Address) -> bool:
            return address == here or self._is_proxy(address)

        if nearest is None or not trusts(nearest):
            return nearest
        for name, way in (("x-forwarded-for", _x_forwarded_for), ("forwarded", _forwarded)):
            for hop in way(headers[name]) if name in headers else ():
                if hop is None:  # an obfuscated or broken name: what stands left of it is not to be believed
                    return nearest
                nearest = hop
                if not trusts(hop):
                    return hop
        return nearest

    def admits(self, address: Address | None) -> bool:
        if address in self._deny:
            return False
        if not self._allow:
            return True
        return address in self._allow or (address is not None and address.is_loopback)


@lru_cache(CACHED_ADDRESSES)
def counted_address(address: Address | None) -> str:
    """What is counted as one client: an IPv4 address, or the network of an IPv6 one."""
    if isinstance(address, IPv6Address) and not address.is_loopback:
        return str(ip_network((address, IPV6_CLIENT_BITS), strict=False))
    return "" if address is None else str(address)


def _x_forwarded_for(values: list[str]) -> Iterator[Address | None]:
    """From the right."""
    hops = ",".join(values).split(",")
    return (parsed_address(hop) for hop in hops[: -MAX_HOPS - 1 : -1] if hop.strip())


def _forwarded(values: list[str]) -> Iterator[Address | None]:
    """From the right."""
    found = _FORWARDED_FOR.findall(",".join(values))
    return (parsed_address(quoted or plain) for quoted, plain in found[: -MAX_HOPS - 1 : -1])
