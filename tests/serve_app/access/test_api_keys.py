"""The form of a key, and what is kept of it."""

from __future__ import annotations

import msgspec
import pytest

from fakes.kept_keys import NOW_S, cheap_key
from serve_app.access.api_keys import ApiKey, key_id_of, new_key
from serve_app.access.caller import KeyLimits, Scope


def test_what_is_kept_of_a_key_tells_it_from_others_and_does_not_have_it() -> None:
    limits = KeyLimits(sessions=3)
    text, key = new_key("shop", frozenset({Scope.LIVE}), now_s=NOW_S, limits=limits)
    assert key_id_of(text) == key.id
    assert key.matches(text)
    assert not key.matches(text[:-1] + ("0" if text[-1] != "0" else "1"))
    kept = msgspec.json.encode(key)
    assert text.rpartition("_")[2].encode() not in kept
    assert msgspec.json.decode(kept, type=ApiKey) == key
    caller = key.caller()
    assert (caller.key_id, caller.name, caller.limits) == (key.id, "shop", limits)
    assert (caller.may(Scope.LIVE), caller.may(Scope.RECORDINGS)) == (True, False)


def test_two_keys_share_nothing() -> None:
    (one, kept_of_one), (other, kept_of_other) = (
        new_key("a", frozenset({Scope.ADMIN}), now_s=NOW_S) for _ in range(2)
    )
    assert one != other
    assert kept_of_one.salt != kept_of_other.salt
    assert kept_of_one.id != kept_of_other.id


def test_a_key_holds_until_it_expires_or_is_revoked() -> None:
    _, key = cheap_key(expires_s=int(NOW_S) + 10)
    assert key.is_valid(NOW_S)
    assert [key.state(NOW_S), key.state(NOW_S + 10)] == ["active", "expired"]
    revoked = msgspec.structs.replace(key, revoked_s=5)
    assert not revoked.is_valid(NOW_S)
    assert revoked.state(NOW_S + 10) == "revoked"


@pytest.mark.parametrize(
    ("name", "scopes", "expires_s"),
    [
        ("", {Scope.LIVE}, None),
        ("  ", {Scope.LIVE}, None),
        ("a\nb", {Scope.LIVE}, None),
        ("x" * 101, {Scope.LIVE}, None),
        ("shop", set(), None),
        ("shop", {Scope.LIVE}, int(NOW_S)),
    ],
)
def test_keys_that_make_no_sense_are_not_made(name: str, scopes: set[Scope], expires_s: int | None) -> None:
    with pytest.raises(ValueError, match="key"):
        new_key(name, frozenset(scopes), now_s=NOW_S, expires_s=expires_s)


@pytest.mark.parametrize(
    "text",
    ["", "sotto_", "sotto_0123456789ab_", "sotto_0123456789AB_" + "0" * 64, "x_0123456789ab_" + "0" * 64]
    + ["sotto_0123456789ab_" + "0" * 63, "sotto_0123456789ab_" + "0" * 64 + "\n"],
)
def test_other_texts_have_no_id(text: str) -> None:
    assert key_id_of(text) is None
