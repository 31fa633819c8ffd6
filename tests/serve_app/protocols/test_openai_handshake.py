import pytest

from serve_app.protocols.openai.errors import RefusedParameter
from serve_app.protocols.openai.handshake import Handshake, read_handshake


@pytest.mark.parametrize(
    ("query", "model"),
    [
        ([], None),
        ([("intent", "transcription")], None),
        ([("intent", "transcription"), ("model", "gpt-4o-transcribe")], "gpt-4o-transcribe"),
        ([("model", "gpt-realtime")], None),
        ([("model", "gpt-4o-realtime-preview")], None),
        ([("model", "gpt-realtime-whisper")], "gpt-realtime-whisper"),
        ([("model", "base"), ("other", "1")], "base"),
    ],
)
def test_what_the_address_says(query, model):
    assert read_handshake(query) == Handshake(model=model)


@pytest.mark.parametrize("query", [[("intent", "conversation")], [("model", "x" * 300)]])
def test_what_is_not_served(query):
    with pytest.raises(RefusedParameter):
        read_handshake(query)


def test_what_the_headers_say():
    found = read_handshake([], authorization="Bearer ek_1", beta_header="realtime=v1")
    assert found == Handshake(beta=True, token="ek_1")
    assert "ek_1" not in repr(found)


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (["realtime", "openai-insecure-api-key.ek_1"], Handshake(token="ek_1", subprotocol="realtime")),
        (
            ["openai-insecure-api-key.ek_1", "openai-beta.realtime-v1"],
            Handshake(beta=True, token="ek_1", subprotocol="openai-beta.realtime-v1"),
        ),
        (
            ["openai-insecure-api-key.ek_1"],
            Handshake(token="ek_1", subprotocol="openai-insecure-api-key.ek_1"),
        ),
        ([], Handshake()),
    ],
)
def test_what_browsers_offer(offered, expected):
    assert read_handshake([], subprotocols=offered) == expected


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer  ", "Basic abc"])
def test_no_key(authorization):
    assert read_handshake([], authorization=authorization).token is None
