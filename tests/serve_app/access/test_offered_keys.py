"""Keys as clients offer them."""

from __future__ import annotations

import pytest

from serve_app.access.keys import MAX_KEY_CHARS, answered_subprotocol, offered_keys


@pytest.mark.parametrize(
    ("headers", "subprotocols", "offered"),
    [
        ({"x-api-key": "k"}, (), ["k"]),
        ({"authorization": "Bearer k"}, (), ["k"]),
        ({"authorization": "bearer  k "}, (), ["k"]),
        ({"authorization": "Token k"}, (), ["k"]),
        ({"authorization": "Basic k"}, (), []),
        ({"authorization": "Bearer"}, (), []),
        ({"authorization": "k"}, (), []),
        ({}, ("realtime", "openai-insecure-api-key.k", "openai-beta.realtime-v1"), ["k"]),
        ({}, ("token", "k"), ["k"]),
        ({}, ("bearer", "k"), ["k"]),
        ({}, ("token",), []),
        ({"x-api-key": "a", "authorization": "Bearer b"}, ("token", "c"), ["a", "b", "c"]),
        ({"x-api-key": "k" * (MAX_KEY_CHARS + 1)}, (), []),
        ({}, (), []),
    ],
)
def test_keys_are_found_where_clients_put_them(
    headers: dict[str, str], subprotocols: tuple[str, ...], offered: list[str]
) -> None:
    assert offered_keys(headers, subprotocols) == offered


def test_only_the_name_before_a_key_is_answered() -> None:
    assert answered_subprotocol(("token", "secret")) == "token"
    assert answered_subprotocol(("realtime", "openai-insecure-api-key.secret")) is None
    assert answered_subprotocol(()) is None
