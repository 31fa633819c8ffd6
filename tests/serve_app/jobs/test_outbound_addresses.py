"""Addresses that clients name reach nothing but the public internet, however they are written."""

from __future__ import annotations

import io
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.core.addresses import Networks
from serve_app.core.errors import AddressRefused, InvalidAudio, PayloadTooLarge
from serve_app.jobs.addresses import OutboundRules
from serve_app.jobs.outbound import NotReached, Outbound

PUBLIC = "93.184.215.14"
PUBLIC_6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"


class Network:
    """Names and what they resolve to, an answer after another; what was connected to; what answers there."""

    def __init__(self, names: dict[str, list[str] | list[list[str]]] | None = None) -> None:
        self.names = names or {}
        self.num_lookups = 0
        self.requests: list[httpx.Request] = []
        self.answers: dict[str, httpx.Response] = {}
        self.dead: set[str] = set()
        self.outbound = Outbound(
            OutboundRules(), resolver=self.resolve, transport=httpx.MockTransport(self.answer)
        )

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Spellings of addresses as the system has them; names as they are listed."""
        self.num_lookups += 1
        found = self.names.get(host)
        if found is None:
            numeric = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=NUMERIC)
            return [str(entry[4][0]) for entry in numeric]
        if found and isinstance(found[0], list):
            return found[min(self.num_lookups, len(found)) - 1]
        return found  # type: ignore[return-value]

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.host in self.dead:
            raise httpx.ConnectError("refused")
        return self.answers.get(
            request.headers["host"] + request.url.path, httpx.Response(200, content=pieces(b"ok"))
        )

    @property
    def reached(self) -> list[str]:
        return [request.url.host for request in self.requests]


NUMERIC = socket.AI_NUMERICHOST


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 300):
        yield data[start : start + 300]


TRICKS = [
    # itself, in every spelling
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.0.1.:8000/",
    "http://0/",
    "http://0.0.0.0/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.255.255.254/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/",
    # digits of other scripts, which IDNA turns into ASCII ones
    "http://①②⑦.⓪.⓪.①/",
    "http://１２７.０.０.１/",
    "http://127。0。0。1/",
    # private networks and clouds
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://[::ffff:169.254.169.254]/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fc00::1]/",
    "http://[fec0::1]/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://168.63.129.16/",
    "http://198.18.0.1/",
    "http://192.88.99.1/",
    "http://224.0.0.1/",
    "http://239.255.255.250/",
    "http://[ff02::1]/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[2001:db8::1]/",
    "http://[100::1]/",
    # names of these
    "http://localhost/",
    "http://LOCALHOST./",
    "http://inside.test/",
    "http://both.test/",
    "http://mapped.test/",
    "http://metadata.google.internal/",
    # other schemes, credentials, what parsers disagree about
    "file:///etc/passwd",
    "ftp://example.test/",
    "gopher://example.test/",
    "unix:///var/run/docker.sock",
    "data:audio/wav;base64,AAAA",
    "//example.test/",
    "example.test",
    "",
    "http://",
    "http:///path",
    "https://user@example.test/",
    "https://user:secret@example.test/",
    "https://@example.test/",
    "https://example.test@127.0.0.1/",
    "https://127.0.0.1#@example.test/",
    "https://127.0.0.1\\@example.test/",
    "https://127.0.0.1 @example.test/",
    "https://example.test\r\nHost: 127.0.0.1/",
    "https://example.test\t/",
    "https://127.0.0.1%2f@example.test/",
    "http://example.test:0/",
    "http://example.test:99999/",
    "http://example.test:22/",
    "http://example.test:25/",
    "http://example.test:6a/",
    "http://[::1/",
    "https://" + "a" * 3_000 + ".test/",
]


def inside() -> Network:
    return Network(
        {
            "example.test": [PUBLIC],
            "localhost": ["127.0.0.1", "::1"],
            "LOCALHOST.": ["127.0.0.1"],
            "localhost.": ["127.0.0.1"],
            "inside.test": ["10.1.2.3"],
            "both.test": [PUBLIC, "192.168.0.1"],
            "mapped.test": ["::ffff:10.0.0.1"],
            "metadata.google.internal": ["169.254.169.254"],
        }
    )


@pytest.mark.parametrize("url", TRICKS)
async def test_no_trick_gets_through(url: str) -> None:
    network = inside()
    with pytest.raises((AddressRefused, NotReached)):
        await network.outbound.send("POST", url, {}, b"{}")
    with pytest.raises((AddressRefused, NotReached)):
        await network.outbound.fetch(url, io.BytesIO(), 1_000)
    assert network.reached == []


@pytest.mark.parametrize("url", TRICKS)
async def test_no_redirect_gets_through(url: str) -> None:
    network = inside()
    network.answers["example.test/"] = httpx.Response(302, headers={"location": url.encode()})
    with suppress(AddressRefused, NotReached, InvalidAudio):  # some lead back to the public one
        await network.outbound.fetch("https://example.test/", io.BytesIO(), 1_000)
    assert set(network.reached) == {PUBLIC}
    # A webhook follows none: the answer is the redirect.
    reply = await network.outbound.send("POST", "https://example.test/", {}, b"{}")
    assert reply.status == 302
    assert set(network.reached) == {PUBLIC}


async def test_a_name_that_changes_its_address_is_asked_once() -> None:
    """DNS rebinding: what was checked is what is connected to; Host and SNI have the name."""
    network = Network({"rebind.test": [[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]]})
    await network.outbound.send("POST", "https://rebind.test:8443/hook?a=1#f", {}, b"{}")
    (request,) = network.requests
    assert network.num_lookups == 1
    assert str(request.url) == f"https://{PUBLIC}:8443/hook?a=1"
    assert request.headers["host"] == "rebind.test:8443"
    assert request.extensions["sni_hostname"] == "rebind.test"
    with pytest.raises(AddressRefused):
        await network.outbound.send("POST", "https://rebind.test:8443/hook", {}, b"{}")
    assert len(network.requests) == 1


async def test_a_redirect_to_a_name_that_has_changed_is_refused() -> None:
    network = Network({"rebind.test": [[PUBLIC], ["127.0.0.1"]]})
    network.answers["rebind.test/"] = httpx.Response(307, headers={"location": "/again"})
    with pytest.raises(AddressRefused):
        await network.outbound.fetch("http://rebind.test/", io.BytesIO(), 1_000)
    assert network.reached == [PUBLIC]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.test/",
        "https://example.test/",
        "https://example.test:8443/x",
        "http://[" + PUBLIC_6 + "]/",
    ],
)
async def test_public_addresses_are_reached(url: str) -> None:
    network = inside()
    assert (await network.outbound.send("POST", url, {}, b"{}")).status == 200
    assert network.reached == [PUBLIC_6 if "[" in url else PUBLIC]


async def test_the_next_address_is_tried() -> None:
    network = Network({"example.test": [PUBLIC_6, PUBLIC]})
    network.dead.add(PUBLIC_6)
    assert (await network.outbound.send("POST", "https://example.test/", {}, b"")).status == 200
    assert network.reached == [PUBLIC_6, PUBLIC]
    network.dead.add(PUBLIC)
    with pytest.raises(NotReached, match="could not connect"):
        await network.outbound.send("POST", "https://example.test/", {}, b"")


async def test_settings_allow_a_network_and_no_other() -> None:
    rules = OutboundRules(Networks(("10.0.0.0/8", "::1")))
    network = Network({"inside.test": ["10.1.2.3"], "other.test": ["192.168.0.1"]})
    network.outbound.rules = rules
    await network.outbound.send("POST", "http://inside.test:22/", {}, b"")
    await network.outbound.send("POST", "http://[::1]:9000/", {}, b"")
    with pytest.raises(AddressRefused):
        await network.outbound.send("POST", "http://other.test/", {}, b"")
    with pytest.raises(AddressRefused):
        await network.outbound.send("POST", "http://[::ffff:10.0.0.1]/", {}, b"")
    assert network.reached == ["10.1.2.3", "::1"]


async def test_what_is_fetched_is_bounded() -> None:
    network = Network({"example.test": [PUBLIC]})
    network.answers["example.test/"] = httpx.Response(302, headers={"location": "/audio"})
    network.answers["example.test/audio"] = httpx.Response(200, content=pieces(b"x" * 1_000))
    file = io.BytesIO()
    assert await network.outbound.fetch("https://example.test/", file, 1_000) == 1_000
    assert file.getvalue() == b"x" * 1_000
    network.answers["example.test/audio"] = httpx.Response(200, content=pieces(b"x" * 1_000))
    with pytest.raises(PayloadTooLarge):
        await network.outbound.fetch("https://example.test/", io.BytesIO(), 999)
    network.answers["example.test/audio"] = httpx.Response(404)
    with pytest.raises(InvalidAudio, match="404"):
        await network.outbound.fetch("https://example.test/", io.BytesIO(), 999)
    network.answers["example.test/audio"] = httpx.Response(503)
    with pytest.raises(NotReached, match="503"):
        await network.outbound.fetch("https://example.test/", io.BytesIO(), 999)
    network.answers["example.test/audio"] = httpx.Response(302, headers={"location": "/audio"})
    with pytest.raises(InvalidAudio, match="redirects"):
        await network.outbound.fetch("https://example.test/", io.BytesIO(), 999)


@given(st.integers(0, 2**32 - 1))
def test_an_address_inside_another_is_never_let_in(number: int) -> None:
    """IPv4 in IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo."""
    import ipaddress

    for prefix, shift in (
        ("::", 0),
        ("::ffff:0:0", 0),
        ("::ffff:0:0:0", 0),
        ("64:ff9b::", 0),
        ("64:ff9b:1::", 0),
        ("2002::", 80),
        ("2001::", 64),
        ("2001::", 0),
    ):
        address = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | number << shift)
        with pytest.raises(AddressRefused):
            OutboundRules().check_address(address, 443)
