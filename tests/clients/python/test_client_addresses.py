import pytest

from sotto_client.addresses import authorization, http_url, is_loopback, websocket_url


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/x"),
        ("127.0.0.1:8000/", "http://127.0.0.1:8000/x"),
        ("wss://speech.example/base/", "https://speech.example/base/x"),
        ("http://[::1]:8000", "http://[::1]:8000/x"),
    ],
)
def test_http_url(base: str, expected: str) -> None:
    assert http_url(base, "/x") == expected


def test_websocket_url_with_query() -> None:
    assert websocket_url("https://speech.example", "/ws", {"language": "en"}) == (
        "wss://speech.example/ws?language=en"
    )


@pytest.mark.parametrize("base", ["ftp://host", "http://", ""])
def test_no_address(base: str) -> None:
    with pytest.raises(ValueError, match="no server address"):
        http_url(base, "/x")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://127.0.0.1:8000/x", True),
        ("http://localhost/x", True),
        ("http://[::1]:1/", True),
        ("http://speech.example/", False),
        ("http://10.0.0.1/", False),
    ],
)
def test_is_loopback(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_authorization() -> None:
    assert authorization(None) == {}
    assert authorization("k") == {"Authorization": "Bearer k"}
