"""Requests made from the OpenAPI document, right ones and wrong ones, with and without a key.

No door may answer with a 5xx but 503, nor log an error; what it answers has the shape that its document says.
`STT_FUZZ_EXAMPLES` is how many requests each operation gets.
"""

import json
import os

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import content_type_conformance, response_schema_conformance
from structlog.testing import capture_logs

from fakes.door_errors import shape_of
from fakes.encoded_audio import chirp, wav
from fakes.fake_service import FakeService, FakeSettings
from serve_app.access.keyring import Keyring
from serve_app.web.app import Guards, create_app

AUDIO = wav(chirp(0.3, 16_000), 16_000)
schemathesis.openapi.format("binary", st.binary(max_size=2_000) | st.just(AUDIO) | st.just(AUDIO[:-1001]))

KEY = "secret-of-the-operator"
NUM_EXAMPLES = int(os.environ.get("STT_FUZZ_EXAMPLES", "15"))
OPEN = {"/", "/health", "/ready", "/metrics", "/asyncapi.json"}

APPS = {
    key: create_app(FakeService(), FakeSettings(), guards=Guards(keys=Keyring(plain=key)))
    for key in (None, KEY)
}
SCHEMAS = {key: schemathesis.openapi.from_asgi("/openapi.json", app) for key, app in APPS.items()}
OPERATIONS = sorted(
    (found.ok().path, found.ok().method.upper()) for found in SCHEMAS[None].get_all_operations()
)

fuzzing = settings(
    max_examples=NUM_EXAMPLES,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def cases_of(key, path, method):
    """Valid and invalid requests of one operation."""
    operation = SCHEMAS[key][path][method]
    return operation.as_strategy(generation_mode=GenerationMode.POSITIVE) | operation.as_strategy(
        generation_mode=GenerationMode.NEGATIVE
    )


def answer_to(case, headers):
    with capture_logs() as logs:
        answer = case.call(headers=headers)
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []
    assert answer.status_code < 500 or answer.status_code == 503, answer.content
    return answer


def has_the_shape_of_its_door(path, answer):
    body = json.loads(answer.content)
    if path in ("/v1/listen", "/v1/auth/grant"):
        return {"err_code", "err_msg", "request_id"} <= set(body)
    if path.startswith("/v1/"):
        return "message" in body["error"]
    return bool(body.get(shape_of(path)) or body.get("detail"))


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
@pytest.mark.parametrize("key", [None, KEY], ids=["without keys", "with a key"])
def test_no_request_makes_a_door_fail(key, path, method):
    documented = SCHEMAS[key][path][method].definition.raw["responses"]

    @fuzzing
    @given(case=cases_of(key, path, method))
    def is_answered(case):
        answer = answer_to(case, {"authorization": f"Bearer {key}"} if key else {})
        assert str(answer.status_code) in documented
        if answer.status_code >= 400 and case.method != "HEAD":
            assert has_the_shape_of_its_door(path, answer) or answer.status_code == 503
        elif answer.status_code < 300:
            case.validate_response(answer, checks=[response_schema_conformance, content_type_conformance])

    is_answered()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "method"), [one for one in OPERATIONS if one[0].startswith(("/v1", "/trans"))]
)
@pytest.mark.parametrize("offered", ["", "Bearer wrong", "Basic Zm9vOmJhcg==", f"Bearer {KEY}x"])
def test_no_request_gets_past_a_wrong_key(path, method, offered):
    @settings(fuzzing, max_examples=5)
    @given(case=cases_of(KEY, path, method))
    def is_refused(case):
        answer = answer_to(case, {"authorization": offered})
        assert answer.status_code in (401, 414, 431)
        assert has_the_shape_of_its_door(path, answer)

    is_refused()


def test_every_operation_is_tried():
    assert {path for path, _ in OPERATIONS} >= OPEN | {
        "/transcribe",
        "/v1/listen",
        "/v1/audio/transcriptions",
    }
