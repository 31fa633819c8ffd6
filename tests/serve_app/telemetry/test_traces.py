"""Spans from socket to batch: their tree, their times, and that nothing that was said is in them."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading

import httpx
import numpy as np
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fakes.asgi_socket import AsgiSocket
from fakes.encoded_audio import wav
from fakes.fake_service import FakeSettings
from fakes.otlp_collector import otlp_collector
from fakes.talk import Say, speak
from fakes.talking_server import talking_speech
from serve_app.core.events import EndReason, Final, SessionEnded, SpeechStarted, Timing
from serve_app.core.jobs import DecodeFailure, DecodeJob, DecodeTiming, Role, Transcript
from serve_app.core.sealing import Pseudonyms
from serve_app.telemetry.traces import MAX_UTTERANCES, Traces, open_traces, traced
from serve_app.web.app import create_app

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
UNSAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-00"
WORDS = [Say(number) for number in (11, 12, 13)]
PLANTED = ("w11", "w12", "w13", "plantedprompt", "plantedhotword", "plantedpath", "plantedquery")


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter):
    return Traces(exporter, component="test", at_once=True)


async def talk(traces, headers=(), path="/ws/stt", query="prompt=plantedquery"):
    """A whole session; the texts of its finals."""
    async with talking_speech(traces=traces) as speech:
        app = create_app(speech, FakeSettings(), traces=traces)
        async with AsgiSocket(app, path, list(headers), query) as socket:
            config = {"prompt": "plantedprompt", "hotwords": "plantedhotword"}
            socket.say({"type": "start_session", "session_id": "visit-7", "config": config})
            socket.say(speak(WORDS).tobytes())
            socket.say({"type": "end_session"})
            messages = await socket.heard_until("session_ended")
    return [message["text"] for message in messages if message["type"] == "final_transcript"]


async def upload(traces, headers=None):
    async with talking_speech(traces=traces) as speech:
        app = create_app(speech, FakeSettings(), traces=traces)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            files = {"file": ("plantedpath.wav", wav(speak(WORDS), 16_000))}
            answer = await client.post("/transcribe?prompt=plantedquery", files=files, headers=headers)
            await client.get("/plantedpath")
            await client.get("/v1/models/plantedpath")
            await client.get("/health/ready")
    assert answer.status_code == 200
    return answer.json()["transcript"]


def by_name(exporter):
    spans = {}
    for span in exporter.get_finished_spans():
        spans.setdefault(span.name, []).append(span)
    return spans


def parents(exporter):
    """Pairs of a span's name and its parent's."""
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans}
    return {(span.name, names.get(span.parent.span_id)) for span in spans if span.parent is not None}


async def test_a_live_session_from_its_socket_to_its_batches(exporter, traces):
    assert await talk(traces, [(b"traceparent", PARENT.encode())]) == ["w11 w12 w13"]
    spans = by_name(exporter)
    (request,), (session,) = spans["WS /ws/stt"], spans["session"]
    assert request.parent.span_id == int(SPAN_ID, 16)
    assert {
        ("session", "WS /ws/stt"),
        ("utterance", "session"),
        ("decode", "utterance"),
        ("recogniser", "decode"),
        ("queue", "recogniser"),
        ("batch", "recogniser"),
        ("inference", "batch"),
    } <= parents(exporter)
    of_the_session = [span for span in exporter.get_finished_spans() if span.name != "voice"]
    assert {span.context.trace_id for span in of_the_session} == {int(TRACE_ID, 16)}
    assert session.attributes["sotto.session_id"] == "visit-7"
    assert session.attributes["sotto.reason"] == "completed"
    assert session.attributes["sotto.num_samples"] == len(speak(WORDS))
    (utterance,) = spans["utterance"]
    assert utterance.attributes["sotto.num_words"] == 3
    assert {span.attributes["sotto.purpose"] for span in spans["decode"]} >= {"final"}
    links = {link.context.span_id for span in spans["voice"] for link in span.links}
    assert links == {session.context.span_id}


async def test_an_upload(exporter, traces):
    assert await upload(traces) == "w11 w12 w13"
    spans = by_name(exporter)
    (request,) = spans["POST /transcribe"]
    assert request.parent is None
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["sotto.request_id"]
    assert {("recording", "POST /transcribe"), ("recogniser", "recording")} <= parents(exporter)
    assert {"GET unknown path", "GET /v1/models/{name:path}"} <= spans.keys()
    assert not [name for name in spans if "health" in name]


async def test_no_word_is_in_any_span(exporter, traces):
    await talk(traces)
    await upload(traces)
    text = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert "visit-7" in text
    assert [word for word in PLANTED if word in text] == []


async def test_what_an_exception_says_is_not_on_its_span(exporter, traces):
    with pytest.raises(ValueError, match="planted"), traces.request("GET /x", "", {}):
        raise ValueError("plantedpath")
    assert "plantedpath" not in exporter.get_finished_spans()[0].to_json()


@pytest.mark.parametrize("given", [UNSAMPLED, ""])
async def test_what_the_client_or_the_ratio_leaves_out_costs_no_span(exporter, given):
    ratio = 1.0 if given else 0.0
    quiet = Traces(exporter, component="test", sample_ratio=ratio, at_once=True)
    await talk(quiet, [(b"traceparent", given.encode())] if given else [])
    await upload(quiet, {"traceparent": given} if given else None)
    assert [span.name for span in exporter.get_finished_spans() if given == ""] == []
    assert "WS /ws/stt" not in by_name(exporter)


@pytest.mark.parametrize("given", ["nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 5_000])
async def test_a_traceparent_that_is_none_begins_a_new_trace(exporter, traces, given):
    await talk(traces, [(b"traceparent", given.encode())])
    assert by_name(exporter)["WS /ws/stt"][0].parent is None


def final(number, start, end):
    return Final(f"u{number}", number, "", (), 1.0, 0.0, "en", 1.0, start, end, end, Timing())


def test_the_next_utterance_may_begin_before_the_final_of_the_last(exporter, traces):
    session = traces.session("s", resumed=False)
    session.told(SpeechStarted(1_000))
    late = session.decode("final", 500, 9_000)
    session.told(SpeechStarted(10_000))
    session.told(final(0, 500, 9_000))
    next_one = session.decode("interim", 10_000, 14_000)
    session.told(SpeechStarted(20_000))  # a noise
    session.told(final(1, 10_000, 30_000))
    cut = session.decode("final", 30_000, 40_000)  # behind a cut nothing begins anew
    for call in (late, next_one, cut):
        call.answered(DecodeFailure(1, ""))
    session.told(SessionEnded(EndReason.COMPLETED, 40_000, 2))
    spans = exporter.get_finished_spans()
    ids = {span.context.span_id: span.attributes.get("sotto.utterance_id") for span in spans}
    assert [ids[span.parent.span_id] for span in spans if span.name == "decode"] == ["u0", "u1", None]
    assert sorted(
        str(span.attributes.get("sotto.utterance_id")) for span in spans if span.name == "utterance"
    ) == [
        "None",
        "None",
        "u0",
        "u1",
    ]


def test_noises_without_an_end_do_not_pile_up(exporter, traces):
    session = traces.session("s", resumed=False)
    for number in range(1_000):
        session.told(SpeechStarted(number * 1_000))
    assert len(by_name(exporter)["utterance"]) == 1_000 - MAX_UTTERANCES


def job(number, trace):
    return DecodeJob(number, Role.FINAL, np.zeros(16_000, np.int16), trace=trace)


async def test_a_recognisers_spans_lie_where_its_times_were(exporter, traces):
    timing = DecodeTiming(5.0, 40.0, 100.0, 2.0, batch_size=3, batch_id=9)
    answers = [
        Transcript(1, "planted", "en", 1.0, 0.0, 0.0, "m", timing=timing),
        DecodeFailure(2, "planted"),
        DecodeFailure(3, "planted"),
    ]

    async def results():
        for answer in answers:
            yield answer

    jobs = [job(1, PARENT), job(2, PARENT), job(3, "")]
    assert [result async for result in traced(traces, jobs, results())] == answers
    spans = by_name(exporter)
    first, failed = spans["recogniser"]
    (queue,), (batch,), (inference,) = spans["queue"], spans["batch"], spans["inference"]

    def ms(span):
        return round((span.end_time - span.start_time) / 1e6, 1)

    assert [ms(span) for span in (first, queue, batch, inference)] == [147.0, 40.0, 107.0, 100.0]
    assert queue.end_time == batch.start_time
    assert batch.attributes == {"sotto.batch_size": 3, "sotto.batch_id": 9}
    assert not failed.status.is_ok
    assert first.context.trace_id == int(TRACE_ID, 16)
    assert "planted" not in "".join(span.to_json() for span in exporter.get_finished_spans())


async def test_results_that_are_left_early_are_closed(traces):
    closed = asyncio.Event()

    async def results():
        try:
            yield DecodeFailure(1, "")
            yield DecodeFailure(2, "")
        finally:
            closed.set()

    async with contextlib.aclosing(traced(traces, [job(1, PARENT)], results())) as answers:
        await anext(answers)
    assert closed.is_set()


async def test_a_collector_on_this_machine_is_sent_the_spans_past_any_proxy(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with otlp_collector() as received:
        traces = open_traces(received.address + "/", headers="api-key=secret", component="ingress")
        await talk(traces)
        await asyncio.to_thread(traces.close)
    assert {(path, key) for path, key, _ in received.requests} == {("/v1/traces", "secret")}
    assert received.components == {"ingress"}
    names = {span.name for span in received.spans}
    assert {"WS /ws/stt", "session", "utterance", "decode", "recogniser", "voice"} <= names
    assert [word for word in PLANTED if word.encode() in received.raw] == []


async def test_a_collector_that_is_away_harms_no_session():
    traces = open_traces("http://127.0.0.1:1", component="ingress")
    assert await talk(traces) == ["w11 w12 w13"]
    closing = threading.Thread(target=traces.close, daemon=True)
    closing.start()


def test_without_a_collector_there_are_no_traces_and_no_library():
    assert open_traces(None, component="ingress") is None
    code = (
        "import sys; import serve_app.web.app, serve_app.assembly.service as s; "
        "assert s.open_traces(None, component='x') is None; "
        "print(json.dumps([m for m in sys.modules if m.startswith('opentelemetry')]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", "import json; " + code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(found.stdout) == []


async def test_ids_that_clients_choose_are_pseudonyms_where_that_is_wanted(exporter):
    shown = Pseudonyms(b"key")
    await talk(
        Traces(exporter, component="test", at_once=True, shown=shown), [(b"x-request-id", b"anna-berg-1970")]
    )
    spans = exporter.get_finished_spans()
    told = [str(value) for span in spans for value in (span.attributes or {}).values()]
    assert not [value for value in told if "visit-7" in value or "anna" in value]
    assert {shown("visit-7"), shown("anna-berg-1970")} <= set(told)
