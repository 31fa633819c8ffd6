"""The service's official SDK against the doors, with nothing but its base URL changed."""

import inspect
import json
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from fakes.app_server import running_app
from fakes.encoded_audio import chirp, wav
from fakes.fake_service import FakeService, FakeSettings
from serve_app.access.keyring import Keyring
from serve_app.core.errors import SottoError
from serve_app.protocols.deepgram.options import OptionWarning, parse_options
from serve_app.web.app import Guards, create_app
from serve_app.web.door_table import DEEPGRAM

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports what its own libraries have retired
    deepgram = pytest.importorskip("deepgram", reason="deepgram-sdk is not installed")
    from deepgram.core.api_error import ApiError
    from deepgram.environment import DeepgramClientEnvironment
    from deepgram.errors import BadRequestError
    from deepgram.listen.v1 import types as live_types
    from deepgram.listen.v1.client import V1Client
    from deepgram.listen.v1.media.client import MediaClient
    from deepgram.types import ErrorResponse, ListenV1Response
    from pydantic import TypeAdapter
    from websockets.exceptions import InvalidStatus

GOLDEN = Path(__file__).parents[2] / "golden"
LIVE = json.loads((GOLDEN / "deepgram_live.json").read_text())
RECORDED = json.loads((GOLDEN / "deepgram_recorded.json").read_text())
TWO_SECONDS = wav(chirp(2.0, 16_000), 16_000)


@contextmanager
def client_of(app):
    with running_app(app) as port, httpx.Client() as http_client:
        http, ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
        environment = DeepgramClientEnvironment(base=http, production=ws, agent=ws, agent_rest=http)
        yield deepgram.DeepgramClient(
            api_key="any", environment=environment, max_retries=0, httpx_client=http_client
        )


def app_of(service):
    return create_app(service, FakeSettings(), protocols=[DEEPGRAM])


@pytest.mark.parametrize("name", sorted(LIVE))
def test_its_types_accept_every_live_message_whole(name):
    message = LIVE[name]
    model = getattr(live_types, f"ListenV1{message['type']}")
    parsed = model.model_validate(message, strict=True)
    missing = {key for key in model.model_fields if key not in message and getattr(parsed, key) is not None}
    assert missing == set()
    assert json.loads(parsed.model_dump_json(exclude_unset=True)) == message


@pytest.mark.parametrize("name", sorted(set(RECORDED) - {"error"}))
def test_its_types_accept_every_answer(name):
    answer = ListenV1Response.model_validate(RECORDED[name])
    assert answer.results.channels[0].alternatives[0].words[0].word == "hello"
    assert answer.metadata.created.year == 2026


def test_its_types_accept_errors():
    error = TypeAdapter(ErrorResponse).validate_python(RECORDED["error"])
    assert error.err_code == "Bad Request"


@pytest.mark.parametrize(("call", "live"), [(V1Client.connect, True), (MediaClient.transcribe_file, False)])
def test_no_option_that_it_offers_is_unknown(call, live):
    names = set(inspect.signature(call).parameters) - {"self", "request", "request_options", "authorization"}
    assert len(names) > 25
    for name in names:
        for value in ("true", "1000", "en", "a:b"):
            with suppress(SottoError):
                options = parse_options([(name, value), ("interim_results", "true")], live=live)
                assert OptionWarning(name, "no such parameter") not in options.warnings


def test_its_grant_of_a_token_opens_what_the_key_opens():
    app = create_app(FakeService(), FakeSettings(), guards=Guards(keys=Keyring(plain="any")))
    with client_of(app) as client:
        granted = client.auth.v1.tokens.grant(ttl_seconds=60)
        assert granted.expires_in == 60
        answer = httpx.post(
            f"{client._client_wrapper.get_environment().base}/v1/listen",
            headers={"authorization": f"Bearer {granted.access_token}"},
            content=TWO_SECONDS,
        )
    assert answer.status_code == 200
    with client_of(app) as client, pytest.raises(BadRequestError):
        client.auth.v1.tokens.grant(ttl_seconds=4_000)


def test_a_recording():
    service = FakeService()
    with client_of(app_of(service)) as client:
        answer = client.listen.v1.media.transcribe_file(
            request=TWO_SECONDS, model="nova-3", language="pt-BR", smart_format=True, utterances=True,
            keyterm=["Sotto", "Ray"], tag="ward-3", diarize=False, replace="hello:hi",
        )  # fmt: skip
    (channel,) = answer.results.channels
    (alternative,) = channel.alternatives
    assert alternative.transcript == "hi there. General Kenobi."
    assert [word.word for word in alternative.words] == ["hi", "there", "general", "kenobi"]
    assert alternative.paragraphs.transcript == "\nhi there. General Kenobi."
    assert answer.results.utterances[0].transcript.startswith("hi there.")
    assert answer.metadata.tags == ["ward-3"]
    _, options = service.uploads[0]
    assert (options.language, options.hotwords) == ("pt", "Sotto, Ray")


def test_its_errors_carry_ours():
    with client_of(app_of(FakeService())) as client:
        with pytest.raises(BadRequestError) as refused:
            client.listen.v1.media.transcribe_url(url="https://talks.example/a.wav", model="nova-3")
        with pytest.raises(ApiError) as too_large:
            client.listen.v1.media.transcribe_file(request=bytes(2_000_000))
    assert "no addresses" in refused.value.body["err_msg"]
    assert too_large.value.status_code == 413


def results_until(connection, is_last):
    """Messages up to and with the first that `is_last`."""
    messages = []
    for message in connection:
        messages.append(message)
        if is_last(message):
            return messages
    pytest.fail(f"closed after {[type(message).__name__ for message in messages]}")


def test_a_live_stream_with_interims_finalize_and_close():
    service = FakeService()
    second = chirp(1.0, 16_000).tobytes()
    with (
        client_of(app_of(service)) as client,
        client.listen.v1.connect(
            model="nova-3", encoding="linear16", sample_rate=16_000, language="pt", interim_results=True,
            vad_events=True, punctuate=True, endpointing=300, utterance_end_ms=1_000,
        ) as connection,
    ):  # fmt: skip
        connection.send_media(second[:16_000])
        connection.send_keep_alive()
        connection.send_media(second[16_000:])
        heard = results_until(connection, lambda message: getattr(message, "is_final", None) is False)
        assert isinstance(heard[0], live_types.ListenV1SpeechStarted)
        connection.send_finalize()
        final = results_until(connection, lambda message: getattr(message, "from_finalize", False))[-1]
        assert final.is_final
        assert final.channel.alternatives[0].transcript.startswith("Olá")
        assert [word.word for word in final.channel.alternatives[0].words] == ["olá", "mundo"]
        connection.send_finalize()  # of nothing
        empty = results_until(connection, lambda message: getattr(message, "from_finalize", False))[-1]
        assert empty.channel.alternatives[0].transcript == ""
        connection.send_close_stream()
        last = results_until(connection, lambda message: isinstance(message, live_types.ListenV1Metadata))[-1]
        assert (last.duration, last.channels) == (1.0, 1)
    (session,) = service.sessions
    assert (session.options.language, session.options.endpointing.min_silence_ms) == ("pt", 300)
    assert session.num_samples == 16_000


def test_a_live_stream_of_a_bad_address_is_refused():
    with (
        client_of(app_of(FakeService())) as client,
        pytest.raises(InvalidStatus, match="400") as refused,
        client.listen.v1.connect(model="nova-3", language="klingon"),
    ):
        pass
    assert "klingon" in refused.value.response.headers["dg-error"]
