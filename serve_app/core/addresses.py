"""IP addresses, and the networks that settings list."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


class Networks:
    """Addresses and CIDR networks; IPv4 addresses written as IPv6 (`::ffff:192.0.2.1`) are IPv4."""

    def __init__(self, listed: Iterable[str] = ()) -> None:
        """Raises `ValueError` for what is neither an address nor a network."""
        self._networks = tuple(map(_network, listed))

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _network(text: str) -> Network:
    network = ip_network(text.strip(), strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ip_network((mapped, network.prefixlen - 96), strict=False)
    return network
