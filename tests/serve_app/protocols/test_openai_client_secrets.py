import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.protocols.openai.client_secrets import (
    DEFAULT_LIFETIME_S,
    MAX_BODY_BYTES,
    PREFIX,
    ClientSecret,
    issue_secret,
    secret_request,
    verify_secret,
)
from serve_app.protocols.openai.errors import RefusedParameter
from serve_app.protocols.openai.realtime_session import DEFAULT_SESSION, merged

KEY = b"k" * 32
SESSION = {"type": "transcription", "audio": {"input": {"transcription": {"language": "pt"}}}}
SECRET = ClientSecret(1_000, "nonce", msgspec.Raw(json.dumps(SESSION).encode()))


def test_a_secret_is_known_until_it_expires():
    value = issue_secret(KEY, SECRET)
    assert value.startswith(PREFIX)
    known = verify_secret(KEY, value, 999.9)
    assert known.expires_at == 1_000
    assert merged(DEFAULT_SESSION, known.settings).language == "pt"
    assert verify_secret(KEY, value, 1_000.0) is None


def test_another_key_makes_other_secrets():
    assert verify_secret(b"x" * 32, issue_secret(KEY, SECRET), 0) is None


def test_every_changed_character_is_noticed():
    value = issue_secret(KEY, SECRET)
    for at in range(len(value) - 1):  # the last one has bits that base64 does not use
        changed = value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :]
        assert verify_secret(KEY, changed, 0) is None


@given(st.text() | st.text().map(lambda text: PREFIX + text) | st.binary().map(lambda data: data.hex()))
def test_anything_else_is_no_secret(value):
    assert verify_secret(KEY, value, 0) is None


def test_requests():
    assert secret_request(b"").expires_after.seconds == DEFAULT_LIFETIME_S
    body = {"expires_after": {"anchor": "created_at", "seconds": 60}, "session": SESSION}
    request = secret_request(json.dumps(body).encode())
    assert request.expires_after.seconds == 60
    assert json.loads(bytes(request.session)) == SESSION


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[1]", None),
        (b'{"expires_after": {"seconds": 5}}', "expires_after.seconds"),
        (b'{"expires_after": {"seconds": 7201}}', "expires_after.seconds"),
        (b'{"expires_after": {"anchor": "now"}}', "expires_after.anchor"),
        (b'{"session": {"type": "realtime"}}', "session.type"),
        (b'{"session": {"audio": {"input": {"turn_detection": 5}}}}', "session.audio.input.turn_detection"),
        (b" " * (MAX_BODY_BYTES + 1), "session"),
        (b"[" * 10_000, None),
    ],
    ids=range(9),
)
def test_requests_that_cannot_be_served(body, param):
    with pytest.raises(RefusedParameter) as caught:
        secret_request(body)
    assert caught.value.param == param
