"""Networks as settings name them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network


def networks(names: Sequence[str]) -> tuple[Network, ...]:
    """`10.0.0.0/8`, `::1` and the like. Raises `ValueError`."""
    return tuple(ip_network(name, strict=False) for name in names)
