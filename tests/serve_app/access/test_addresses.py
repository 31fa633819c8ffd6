from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.access.addresses import AddressRules, counted_address, parsed_address
from serve_app.core.addresses import Networks


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:8080 ", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ('"[2001:db8::1]"', "2001:db8::1"),
        ("unknown", None),
        ("_hidden", None),
        ("", None),
        ("999.1.1.1", None),
    ],
)
def test_addresses_as_proxies_write_them(text: str, address: str | None) -> None:
    assert parsed_address(text) == (None if address is None else ip_address(address))


CHAINS = [
    # peer, X-Forwarded-For, trusted proxies, the client's address
    ("203.0.113.9", ["198.51.100.1"], (), "203.0.113.9"),  # a claim of a peer that is no proxy
    ("127.0.0.1", ["198.51.100.1"], (), "198.51.100.1"),
    ("127.0.0.1", ["6.6.6.6, 198.51.100.1"], (), "198.51.100.1"),
    ("127.0.0.1", ["6.6.6.6", "198.51.100.1", "127.0.0.1"], (), "198.51.100.1"),  # edge, then Serve's proxy
    ("127.0.0.1", ["6.6.6.6, 10.0.0.7, 127.0.0.1"], ("10.0.0.0/8",), "6.6.6.6"),
    ("10.0.0.7", ["198.51.100.1"], ("10.0.0.0/8",), "198.51.100.1"),
    ("::ffff:10.0.0.7", ["198.51.100.1"], ("10.0.0.0/8",), "198.51.100.1"),
    ("10.0.0.7", ["198.51.100.1"], ("::ffff:10.0.0.0/104",), "198.51.100.1"),
    ("10.0.0.7", [], ("10.0.0.0/8",), "10.0.0.7"),
    ("127.0.0.1", ["6.6.6.6, unknown"], (), "127.0.0.1"),
    ("127.0.0.1", [" , "], (), "127.0.0.1"),
    ("192.0.2.5", ["198.51.100.1"], (), "198.51.100.1"),  # our own address asks us: Serve's proxy
]


@pytest.mark.parametrize(("peer", "values", "trusted", "client"), CHAINS)
def test_the_way_is_read_from_the_right(
    peer: str, values: list[str], trusted: tuple[str, ...], client: str
) -> None:
    rules = AddressRules(trusted_proxies=trusted)
    assert str(rules.client(peer, "192.0.2.5", {"x-forwarded-for": values})) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=198.51.100.1;proto=https", "198.51.100.1"),
        ('for=6.6.6.6, For="[2001:db8::1]:4711";by=_x', "2001:db8::1"),
        ("proto=https;for=198.51.100.1", "198.51.100.1"),
        ("for=6.6.6.6, for=unknown", "127.0.0.1"),
        ("proto=https", "127.0.0.1"),
    ],
)
def test_forwarded(value: str, client: str) -> None:
    assert str(AddressRules().client("127.0.0.1", "127.0.0.1", {"forwarded": [value]})) == client


def test_forwarded_counts_only_where_the_other_header_names_no_client() -> None:
    headers = {"forwarded": ["for=6.6.6.6"], "x-forwarded-for": ["198.51.100.1"]}
    assert str(AddressRules().client("127.0.0.1", "", headers)) == "198.51.100.1"


@given(
    claims=st.lists(st.ip_addresses().map(str) | st.text(max_size=20), max_size=6),
    true=st.ip_addresses(v=4).filter(lambda address: not address.is_loopback),
)
def test_no_claim_of_the_client_moves_its_address(claims: list[str], true: object) -> None:
    way = ",".join([*claims, str(true)])
    assert AddressRules().client("127.0.0.1", "", {"x-forwarded-for": [way]}) == true


@pytest.mark.parametrize(
    ("allow", "deny", "address", "comes_in"),
    [
        ((), (), "203.0.113.9", True),
        (("203.0.113.0/24",), (), "203.0.113.9", True),
        (("203.0.113.0/24",), (), "203.0.114.9", False),
        (("203.0.113.0/24",), ("203.0.113.9",), "203.0.113.9", False),
        ((), ("::ffff:203.0.113.9",), "203.0.113.9", False),
        (("203.0.113.0/24",), (), "127.0.0.1", True),
        ((), ("127.0.0.1",), "127.0.0.1", False),
        (("2001:db8::/32",), (), "2001:db8::9", True),
        (("203.0.113.0/24",), (), "", False),
        ((), ("203.0.113.0/24",), "", True),
    ],
)
def test_who_comes_in(allow: tuple[str, ...], deny: tuple[str, ...], address: str, comes_in: bool) -> None:
    assert AddressRules(allow=allow, deny=deny).admits(parsed_address(address)) is comes_in


@pytest.mark.parametrize("name", ["garden", "10.0.0.0/40", "10.0.0.0/8/8"])
def test_what_is_no_network(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Networks([name])


def test_an_ipv6_client_is_its_network() -> None:
    assert counted_address(parsed_address("2001:db8:1:2:3::4")) == "2001:db8:1:2::/64"
    assert counted_address(parsed_address("::ffff:203.0.113.9")) == "203.0.113.9"
    assert counted_address(None) == ""
