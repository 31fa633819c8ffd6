"""The API documents against their standards, and against every golden message."""

import copy
import json
from pathlib import Path

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from serve_app.protocols.documents.build import STATUS_MEANINGS, asyncapi_document, openapi_document
from serve_app.protocols.documents.components import Components
from serve_app.protocols.native.transcribe import UploadChoices
from serve_app.protocols.openai.realtime_session import SessionUpdate
from serve_app.protocols.openai.request import TranscriptionRequest
from serve_app.web.door_table import doors_of

GOLDEN = Path(__file__).parents[2] / "golden"
HTTP = openapi_document("1.2.3", doors_of())
LIVE = asyncapi_document("1.2.3", doors_of())


def golden(name):
    return json.loads((GOLDEN / name).read_text())


# -- the documents themselves -----------------------------------------------------------------------


def test_openapi_is_valid():
    validator = pytest.importorskip("openapi_spec_validator", reason="openapi-spec-validator is missing")
    validator.validate(HTTP)
    broken = copy.deepcopy(HTTP)
    del broken["paths"]["/transcribe"]["post"]["responses"]
    broken["paths"]["/transcribe"]["post"]["parameters"][0]["in"] = "nowhere"
    assert not validator.OpenAPIV31SpecValidator(broken).is_valid()


def references(node):
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)


def target(document, reference):
    node = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


@pytest.mark.parametrize(("document", "prefix"), [(HTTP, "#/components/"), (LIVE, "#/c")])
def test_every_reference_leads_somewhere_and_every_component_is_used(document, prefix):
    found = set(references(document))
    assert all(reference.startswith(prefix) and target(document, reference) for reference in found)
    for kind, components in document["components"].items():
        if kind == "securitySchemes":  # named by the document's `security`, not referred to
            assert [{}, *({name: []} for name in components)] == document["security"]
            continue
        assert {f"#/components/{kind}/{name}" for name in components} <= found


@pytest.mark.parametrize("document", [HTTP, LIVE])
def test_every_component_is_a_schema(document):
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
        Draft7Validator.check_schema(schema)  # AsyncAPI's own kind


def test_asyncapi_has_the_parts_that_its_standard_asks_for():
    assert LIVE["asyncapi"] == "3.0.0"
    assert LIVE["info"].keys() >= {"title", "version"}
    assert LIVE["servers"]["here"] == {"host": "127.0.0.1:8000", "protocol": "ws"}
    assert (
        asyncapi_document("1", doors_of(), "sotto.example", secure=True)["servers"]["here"]["protocol"]
        == "wss"
    )
    assert "discriminator" not in json.dumps(LIVE)
    used = set()
    for operation in LIVE["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"{channel}/messages/")
            used.add(message["$ref"])
    for name, channel in LIVE["channels"].items():
        assert {f"#/channels/{name}/messages/{key}" for key in channel["messages"]} <= used
        assert channel["bindings"]["ws"]["query"]["type"] == "object"
    for message in LIVE["components"]["messages"].values():
        assert message["name"]
        assert message["summary"]
        assert message["payload"]


def test_operations_have_unique_names():
    names = [operation["operationId"] for path in HTTP["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


# -- every golden message ---------------------------------------------------------------------------


def validator_of(schema, document):
    return Draft202012Validator({**schema, "components": document["components"]})


def said(address, action="send"):
    """Validators of every JSON message of a channel."""
    (channel,) = (one for one in LIVE["channels"].values() if one["address"] == address)
    (operation,) = (
        one
        for one in LIVE["operations"].values()
        if one["action"] == action and target(LIVE, one["channel"]["$ref"]) is channel
    )
    messages = [target(LIVE, target(LIVE, one["$ref"])["$ref"]) for one in operation["messages"]]
    return [
        validator_of(message["payload"], LIVE)
        for message in messages
        if message.get("contentType") != "application/octet-stream"
    ]


def native_messages():
    additions = golden("native/additions.json")
    timing = additions["timing"]
    for message in golden("native/server.json").values():
        whole = message | additions.get(message["type"], {})
        yield whole | ({"timing": message["timing"] | timing} if "timing" in message else {})
    resume = golden("native/resume.json")
    yield from (resume[name] for name in ("session_started", "resumed", "ticket", "error"))
    (final,) = (m for m in golden("native/server.json").values() if m["type"] == "final_transcript")
    final = final | additions["final_transcript"] | {"timing": final["timing"] | timing}
    yield final | resume["final_transcript"]


def frames_in(node):
    """The messages of a recorded conversation, wherever they stand in it."""
    if isinstance(node, list):
        for item in node:
            yield from frames_in(item)
    elif isinstance(node, dict):
        if "type" in node or "status" in node and "lines" in node:
            yield node
        else:
            yield from frames_in(list(node.values()))


ADDRESSES = {
    "asr": "/asr", "interim": "/ws", "ws": "/ws", "stream": "/ws/stream", "stt": "/ws/stt",
}  # fmt: skip
CONVERSATIONS = sorted((GOLDEN / "live").glob("*.json"))


def server_messages():
    for message in native_messages():
        yield "/ws/stt", message
    for file in CONVERSATIONS:
        for message in frames_in(json.loads(file.read_text())):
            yield ADDRESSES[file.stem.partition("_")[0]], message
    for message in golden("deepgram_live.json").values():
        yield "/v1/listen", message
    for messages in golden("openai_realtime.json").values():
        for message in messages:
            yield "/v1/realtime", message


def test_every_golden_server_message_is_one_message_of_its_channel():
    kinds = set()
    for address, message in server_messages():
        matching = [validator for validator in said(address) if validator.is_valid(message)]
        assert len(matching) == 1, (address, message)
        assert not matching[0].is_valid({**message, "undocumented": 1})
        kinds.add((address, message.get("type")))
    assert {address for address, _ in kinds} == {*ADDRESSES.values(), "/v1/listen", "/v1/realtime"}
    assert len(kinds) > 40


@pytest.mark.parametrize("missing", ["text", "timing", "words", "stable_chars"])
def test_a_message_without_a_field_is_none(missing):
    messages = [message for message in native_messages() if missing in message]
    assert messages
    for message in messages:
        short = {key: value for key, value in message.items() if key != missing}
        assert not any(validator.is_valid(short) for validator in said("/ws/stt"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        *(("/ws/stt", message) for message in golden("native/client.json")),
        ("/ws/stt", golden("native/resume.json")["start"]),
        ("/ws", {"event": "start", "language": "auto"}),
        ("/ws", {"event": "set", "interimRate": 4}),
        ("/ws", {"event": "stop"}),
        ("/ws/stream", {"type": "pong"}),
        ("/api/ws/stream", {"type": "end_session"}),
        ("/v1/listen", {"type": "Finalize", "channel": 0}),
        ("/v1/listen", {"type": "Configure", "keyterms": ["Sotto"]}),
        ("/v1/realtime", {"type": "input_audio_buffer.append", "audio": "AAAA"}),
        (
            "/v1/realtime",
            {
                "type": "session.update",
                "session": {
                    "type": "transcription",
                    "audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}},
                },
            },
        ),
    ],
)
def test_what_a_client_may_say_is_described(address, message):
    assert sum(validator.is_valid(message) for validator in said(address, "receive")) == 1


@pytest.mark.parametrize(
    "config",
    [{"vad_threshold": 1.5}, {"sample_rate": 4000}, {"encoding": "mp3"}, {"language_mode": "never"}],
)
def test_what_a_client_may_not_say_is_not(config):
    message = {"type": "start_session", "config": config}
    assert not any(validator.is_valid(message) for validator in said("/ws/stt", "receive"))


def body_of(path, method="post", status="200", media_type="application/json"):
    content = HTTP["paths"][path][method]["responses"][status]["content"]
    return validator_of(content[media_type]["schema"], HTTP)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("root", "/"),
        ("health", "/health"),
        ("ready", "/ready"),
        ("ready", "/health/ready"),
        ("live", "/health/live"),
        ("startup", "/health/startup"),
        ("status", "/health/status"),
    ],
)
def test_golden_pages(name, path):
    body = golden("health.json")[name]
    body_of(path, "get").validate(body)
    assert not body_of(path, "get").is_valid({**body, "undocumented": 1})


def test_golden_transcript():
    body_of("/transcribe").validate(golden("transcribe.json"))
    body_of("/transcribe").validate(golden("transcribe_speakers.json"))
    body_of("/transcribe", status="503").validate({"detail": "full"})


@pytest.mark.parametrize("name", ["plain", "mono", "two_channels", "speakers"])
def test_golden_listen_answers(name):
    body_of("/v1/listen").validate(golden("deepgram_recorded.json")[name])


def test_golden_listen_error():
    body_of("/v1/listen", status="400").validate(golden("deepgram_recorded.json")["error"])


OPENAI = golden("openai_rest.json")


@pytest.mark.parametrize(
    "name",
    [
        "json",
        "json_logprobs",
        "verbose_json",
        "verbose_json_words",
        "verbose_json_speakers",
        "diarized_json",
    ],
)
def test_golden_openai_answers(name):
    body_of("/v1/audio/transcriptions").validate(OPENAI[name])


@pytest.mark.parametrize("name", ["translation", "translation_verbose"])
def test_golden_openai_translations(name):
    body_of("/v1/audio/translations").validate(OPENAI[name])


@pytest.mark.parametrize("name", ["stream", "stream_logprobs", "stream_verbose_json", "stream_diarized_json"])
def test_golden_openai_events(name):
    events = body_of("/v1/audio/transcriptions", media_type="text/event-stream")
    for event in OPENAI[name]:
        events.validate(event)


def test_golden_openai_errors_and_models():
    for status, body in OPENAI["errors"].values():
        body_of("/v1/audio/transcriptions", status=str(status)).validate(body)
    body_of("/v1/audio/transcriptions", status="500").validate(OPENAI["stream_failed"][0])
    body_of("/v1/models", "get").validate(OPENAI["models"])
    body_of("/v1/models/{name}", "get").validate(OPENAI["models"]["data"][0])


def test_the_openai_form_has_every_field():
    form = HTTP["paths"]["/v1/audio/transcriptions"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert set(OPENAI["fields"]) | {"file"} <= form["schema"]["properties"].keys()
    assert form["schema"]["required"] == ["file", "model"]


# -- options ----------------------------------------------------------------------------------------


def test_every_parameter_of_our_own_doors_is_explained():
    for path in ("/transcribe", "/transcribe/stream", "/v1/listen"):
        for parameter in HTTP["paths"][path]["post"]["parameters"]:
            assert parameter["description"].endswith(".")
            assert {"type": "null"} not in parameter["schema"].get("anyOf", [])
    for channel in LIVE["channels"].values():
        if channel["address"] != "/v1/realtime":
            for name, field in channel["bindings"]["ws"]["query"]["properties"].items():
                assert field["description"], (channel["address"], name)


def test_statuses_are_explained_where_they_may_happen():
    mentioned = {
        int(status)
        for path in HTTP["paths"].values()
        for operation in path.values()
        for status in operation["responses"]
    }
    assert mentioned == {200, 202, *STATUS_MEANINGS}


# -- components -------------------------------------------------------------------------------------


def test_two_types_of_one_name_need_a_prefix():
    components = Components()
    components.schema(TranscriptionRequest)
    with pytest.raises(ValueError, match="ResponseFormat"):
        components.schema(UploadChoices)
    components.schema(UploadChoices, "Upload")
    assert components.schemas["UploadUploadChoices"]["title"] == "UploadUploadChoices"


def test_fields_leave_a_component_that_is_used_elsewhere():
    components = Components()
    components.fields(SessionUpdate)
    assert "SessionUpdate" not in components.schemas
    components.schema(SessionUpdate)
    properties, required = components.fields(SessionUpdate)
    assert "SessionUpdate" in components.schemas
    assert properties["type"] == {"type": "string"}
    assert required == frozenset()
