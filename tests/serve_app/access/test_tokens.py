"""Tokens: what they say holds until they expire, and no other text is one."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.kept_keys import NOW_S
from serve_app.access.caller import Scope
from serve_app.access.tokens import MAX_TOKEN_CHARS, issue_token, verify_token

KEY = b"signs"
LIVE = frozenset({Scope.LIVE})


@given(st.sets(st.sampled_from(list(Scope)), min_size=1), st.integers(1, 3600), st.integers(0, 7200))
def test_a_token_says_what_it_was_made_for_until_it_expires(
    scopes: set[Scope], lifetime_s: int, later_s: int
) -> None:
    token = verify_token(KEY, issue_token(KEY, "k1", frozenset(scopes), lifetime_s, NOW_S), NOW_S + later_s)
    assert (token is not None) is (later_s < lifetime_s)
    if token is not None:
        assert (token.sub, token.scopes, token.exp) == ("k1", scopes, NOW_S + lifetime_s)


def test_it_is_a_json_web_token_as_clients_read_them() -> None:
    """The signature apart: RFC 7519, section 3.1."""
    header, payload, _ = issue_token(KEY, "k1", LIVE, 30, NOW_S).split(".")
    assert json.loads(_bytes(header)) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(_bytes(payload))["exp"] == NOW_S + 30


@given(st.data())
def test_a_changed_token_is_none(data: st.DataObject) -> None:
    text = issue_token(KEY, "k1", LIVE, 30, NOW_S)
    index = data.draw(st.integers(0, len(text) - 1))
    changed = text[:index] + data.draw(st.characters()) + text[index + 1 :]
    token = verify_token(KEY, changed, NOW_S)
    assert token is None or (token.sub, token.scopes, token.exp) == ("k1", LIVE, NOW_S + 30)


@given(st.text())
def test_any_other_text_is_none(text: str) -> None:
    made = issue_token(KEY, "k1", LIVE, 30, NOW_S)
    header = made.partition(".")[0]
    for other in (text, f"{header}.{text}", f"{made.rpartition('.')[0]}.{text}"):
        assert verify_token(KEY, other, NOW_S) is None


@pytest.mark.parametrize("algorithm", ["none", "HS384", "RS256"])
def test_a_token_does_not_choose_how_it_is_checked(algorithm: str) -> None:
    _, payload, signature = issue_token(KEY, "k1", LIVE, 30, NOW_S).split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()).rstrip(b"=")
    for end in (signature, ""):
        assert verify_token(KEY, f"{header.decode()}.{payload}.{end}", NOW_S) is None


def test_another_key_and_an_overlong_text_are_none() -> None:
    text = issue_token(KEY, "k1", LIVE, 30, NOW_S)
    assert verify_token(b"other", text, NOW_S) is None
    assert verify_token(KEY, issue_token(KEY, "k" * MAX_TOKEN_CHARS, LIVE, 30, NOW_S), NOW_S) is None


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
