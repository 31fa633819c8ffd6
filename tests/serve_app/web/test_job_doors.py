"""The doors of the queue: what they take, what they answer, and that each key has its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fakes.app_server import running_app
from fakes.encoded_audio import chirp, wav
from fakes.fake_service import FakeService, FakeSettings
from fakes.job_office import JobOffice, job_office
from serve_app.audio.recording_stream import RecordingStream
from serve_app.core.errors import InferenceError, SpeakersUnavailable
from serve_app.core.jobs import Task
from serve_app.service.contract import RecordingOptions, RecordingTranscript
from serve_app.web import uploads
from serve_app.web.app import create_app

TWO_SECONDS = wav(chirp(2.0, 16_000), 16_000)
AUDIO = {"content-type": "audio/wav"}
TEXT = "Hello there. General Kenobi."


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[JobOffice]:
    async with job_office(tmp_path) as office:
        yield office


async def create(office: JobOffice, key: str = "kim", **query: Any) -> dict[str, Any]:
    headers = {**AUDIO, "x-test-key": key}
    answer = await office.client.post("/api/jobs", params=query, content=TWO_SECONDS, headers=headers)
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/jobs/{body['job_id']}"
    return body


async def shown(office: JobOffice, job: dict[str, Any], key: str = "kim") -> httpx.Response:
    return await office.client.get(f"/api/jobs/{job['job_id']}", headers={"x-test-key": key})


@pytest.mark.parametrize("path", ["/api/jobs", "/v1/listen?callback=http://127.0.0.1:9/done"])
async def test_a_long_recording_is_read_while_it_is_worked_on(
    office: JobOffice, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "BEGINNING_SAMPLES", 8_000)
    taken: list[Any] = []
    transcribe = office.service.transcribe

    async def noted(audio: Any, options: RecordingOptions) -> RecordingTranscript:
        taken.append(audio)
        return await transcribe(audio, options)

    monkeypatch.setattr(office.service, "transcribe", noted)
    answer = await office.client.post(path, content=TWO_SECONDS, headers={**AUDIO, "x-test-key": "kim"})
    assert answer.status_code < 300, answer.text
    assert await office.worker.work_on_one()
    assert [type(audio) for audio in taken] == [RecordingStream]
    ((audio, _),) = office.service.uploads
    np.testing.assert_array_equal(audio, chirp(2.0, 16_000))


async def test_a_job_from_its_upload_to_its_result(office: JobOffice) -> None:
    job = await create(office, language="pt", task="translate")
    assert (job["status"], job["progress"], job["started_at"]) == ("queued", 0.0, None)
    assert "result" not in job
    assert await office.worker.work_on_one()
    body = (await shown(office, job)).json()
    assert (body["status"], body["progress"]) == ("done", 1.0)
    assert body["result"]["transcript"] == TEXT
    assert body["result"].keys() >= {"segments", "language", "processing_time"}
    assert body["expires_at"] > body["ended_at"] >= body["started_at"] >= body["created_at"]
    ((audio, options),) = office.service.uploads
    assert len(audio) == 32_000
    assert (options.language, options.task) == ("pt", Task.TRANSLATE)


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("text", "Hello there."),
        ("srt", "1\n00:00:00"),
        ("vtt", "WEBVTT\n"),
        ("tsv", "start\tend"),
        ("ndjson", '{"id":1'),
    ],
)
async def test_other_formats_are_texts(office: JobOffice, form: str, begins: str) -> None:
    job = await create(office, response_format=form)
    await office.worker.work_on_one()
    assert (await shown(office, job)).json()["result"].startswith(begins)


async def test_a_form_has_options_too(office: JobOffice) -> None:
    files = {"file": ("a.wav", TWO_SECONDS)}
    answer = await office.client.post("/api/jobs", files=files, data={"word_timestamps": "true"})
    assert answer.status_code == 202
    await office.worker.work_on_one()
    body = (await office.client.get(answer.headers["location"])).json()
    assert [word["word"].strip() for word in body["result"]["words"]][:2] == ["Hello", "there"]


async def test_a_recording_is_fetched_from_its_address(office: JobOffice) -> None:
    async def audio(request: Request) -> Response:
        return Response(TWO_SECONDS)

    with running_app(Starlette(routes=[Route("/a.wav", audio)])) as port:
        asked = {"url": f"http://127.0.0.1:{port}/a.wav", "language": "pt"}
        answer = await office.client.post("/api/jobs", json=asked)
        assert answer.status_code == 202
        await office.worker.work_on_one()
    assert (await office.client.get(answer.headers["location"])).json()["result"]["transcript"] == TEXT


async def test_a_key_sees_its_own_jobs_alone(office: JobOffice) -> None:
    job = await create(office)
    for method, path in (("GET", f"/api/jobs/{job['job_id']}"), ("DELETE", f"/api/jobs/{job['job_id']}")):
        answer = await office.client.request(method, path, headers={"x-test-key": "lee"})
        assert (answer.status_code, answer.json()) == (404, {"detail": "there is no such job"})
    path = f"/api/transcribe-async?job_id={job['job_id']}"
    assert (await office.client.get(path, headers={"x-test-key": "lee"})).status_code == 404
    assert (await office.client.get("/api/jobs", headers={"x-test-key": "lee"})).json() == {"jobs": []}
    assert (await shown(office, job)).status_code == 200


async def test_jobs_are_listed(office: JobOffice) -> None:
    jobs = [await create(office) for _ in range(3)]
    await office.worker.work_on_one()
    headers = {"x-test-key": "kim"}
    listed = (await office.client.get("/api/jobs", headers=headers)).json()["jobs"]
    assert {job["job_id"] for job in listed} == {job["job_id"] for job in jobs}
    assert all("result" not in job for job in listed)
    some = await office.client.get("/api/jobs?status=done&limit=5", headers=headers)
    assert [job["status"] for job in some.json()["jobs"]] == ["done"]
    for query in ("status=lost", "limit=0", "limit=101", "limit=x"):
        assert (await office.client.get(f"/api/jobs?{query}", headers=headers)).status_code == 400


async def test_a_job_is_cancelled_and_then_forgotten(office: JobOffice) -> None:
    job = await create(office)
    headers = {"x-test-key": "kim"}
    cancelled = await office.client.delete(f"/api/jobs/{job['job_id']}", headers=headers)
    assert cancelled.json()["status"] == "cancelled"
    assert not await office.worker.work_on_one()
    assert (await shown(office, job)).json()["status"] == "cancelled"
    await office.worker.sweep_once()
    assert (await office.client.delete(f"/api/jobs/{job['job_id']}", headers=headers)).status_code == 200
    assert (await shown(office, job)).status_code == 404


async def test_a_repeated_request_makes_one_job(office: JobOffice) -> None:
    headers = {**AUDIO, "idempotency-key": "k1"}
    first, again = [
        await office.client.post("/api/jobs?language=pt", content=TWO_SECONDS, headers=headers) for _ in "ab"
    ]
    assert first.json()["job_id"] == again.json()["job_id"]
    other = await office.client.post("/api/jobs?language=en", content=TWO_SECONDS, headers=headers)
    assert other.status_code == 409
    other = await office.client.post("/api/jobs?language=pt", content=TWO_SECONDS + b"\0", headers=headers)
    assert other.status_code == 409
    assert len((await office.client.get("/api/jobs")).json()["jobs"]) == 1
    headers["idempotency-key"] = "k" * 256
    too_long = await office.client.post("/api/jobs", content=TWO_SECONDS, headers=headers)
    assert too_long.status_code == 400


async def test_the_queue_of_a_key_is_bounded(office: JobOffice) -> None:
    for _ in range(20):
        await create(office)
    headers = {**AUDIO, "x-test-key": "kim"}
    full = await office.client.post("/api/jobs", content=TWO_SECONDS, headers=headers)
    assert full.status_code == 503
    assert "retry-after" in full.headers
    await create(office, key="lee")


@pytest.mark.parametrize(
    ("query", "content", "headers", "status", "says"),
    [
        ("", b"", {}, 400, "needs one recording"),
        ("", b"", AUDIO, 400, "needs one recording"),
        ("url=https://a.example/x.wav", TWO_SECONDS, AUDIO, 400, "needs one recording"),
        ("url=https://a.example/x.wav&clip_id=1", b"", {}, 400, "needs one recording"),
        ("clip_id=1", b"", {}, 404, "no such clip"),
        ("url=http://10.0.0.1/x.wav", b"", {}, 400, "public internet"),
        ("url=file:///etc/passwd", b"", {}, 400, "https://"),
        ("webhook_url=http://169.254.169.254/", TWO_SECONDS, AUDIO, 400, "public internet"),
        ("webhook_url=https://a:b@a.example/", TWO_SECONDS, AUDIO, 400, "credentials"),
        ("language=klingon", TWO_SECONDS, AUDIO, 400, "klingon"),
        ("beam_size=0", TWO_SECONDS, AUDIO, 400, "beam_size"),
        ("", TWO_SECONDS, {"content-type": "text/html"}, 415, "carries no audio"),
        ("", b"[]", {"content-type": "application/json"}, 400, "JSON object"),
        ("", b'{"url": {}}', {"content-type": "application/json"}, 400, "JSON object"),
        ("", b"{" * 100_000, {"content-type": "application/json"}, 413, "JSON body"),
        ("", b"x" * 2_000_000, AUDIO, 413, "too large"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    office: JobOffice, query: str, content: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    answer = await office.client.post(f"/api/jobs?{query}", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert says.lower() in answer.json()["detail"].lower()
    assert (await office.client.get("/api/jobs")).json() == {"jobs": []}


async def test_what_nothing_here_can_serve_is_refused_at_once(office: JobOffice) -> None:
    office.service.refuse_with = SpeakersUnavailable("nothing tells speakers apart")
    answer = await office.client.post("/api/jobs?diarize=true", content=TWO_SECONDS, headers=AUDIO)
    assert (answer.status_code, answer.json()["detail"]) == (400, "nothing tells speakers apart")


async def test_audio_that_cannot_be_decoded_fails_with_the_reason(office: JobOffice) -> None:
    answer = await office.client.post("/api/jobs", content=b"no audio" * 100, headers=AUDIO)
    await office.worker.work_on_one()
    body = (await office.client.get(answer.headers["location"])).json()
    assert body["status"] == "failed"
    assert body["error"]["code"] == "INVALID_MESSAGE"
    assert body["error"]["message"]


@pytest.mark.parametrize(("accept", "line"), [("application/x-ndjson", ""), ("text/event-stream", "data: ")])
async def test_a_job_is_streamed_until_it_has_ended(
    office: JobOffice, accept: str, line: str, tmp_path: Path
) -> None:
    job = await create(office)
    states = []
    with running_app(office.app) as port:
        url = f"http://127.0.0.1:{port}/api/jobs/{job['job_id']}"
        headers = {"accept": accept, "x-test-key": "kim"}
        async with (
            job_office(tmp_path) as same,  # the server's desk lives in its own thread and loop
            httpx.AsyncClient() as client,
            client.stream("GET", url, headers=headers) as answer,
        ):
            assert answer.headers["content-type"].startswith(accept)
            async for text in answer.aiter_lines():
                if not text:
                    continue
                assert text.startswith(line)
                last = json.loads(text.removeprefix(line))
                states.append(last["status"])
                if last["status"] == "queued":
                    await same.worker.work_on_one()
    assert states[0] == "queued"
    assert states[-1] == "done"
    assert last["result"]["transcript"] == TEXT


async def test_the_stream_of_an_unknown_job_is_refused(office: JobOffice) -> None:
    headers = {"accept": "text/event-stream"}
    assert (await office.client.get("/api/jobs/unknown", headers=headers)).status_code == 404


# -- transcribe-async ----------------------------------------------------------------------------------


async def test_transcribe_async_has_its_own_words(office: JobOffice) -> None:
    answer = await office.client.post("/api/transcribe-async", content=TWO_SECONDS, headers=AUDIO)
    job_id = answer.json()["job_id"]
    assert (answer.status_code, answer.json()) == (202, {"job_id": job_id, "status": "queued"})

    async def status() -> dict[str, Any]:
        body: dict[str, Any] = (await office.client.get(f"/api/transcribe-async?job_id={job_id}")).json()
        return body

    assert await status() == {"status": "waiting", "result": None}
    office.service.transcribe_gate = asyncio.Event()
    working = asyncio.create_task(office.worker.work_on_one())
    while not office.service.uploads:
        await asyncio.sleep(0.001)
    assert await status() == {"status": "active", "result": None}
    office.service.transcribe_gate.set()
    await working
    ended = await status()
    assert (ended["status"], ended["result"]["transcript"]) == ("completed", TEXT)
    assert (await office.client.get("/api/transcribe-async")).status_code == 400


async def test_what_failed_or_was_cancelled_failed(office: JobOffice) -> None:
    answer = await office.client.post("/api/transcribe-async", content=b"x" * 500, headers=AUDIO)
    await office.worker.work_on_one()
    path = f"/api/transcribe-async?job_id={answer.json()['job_id']}"
    body = (await office.client.get(path)).json()
    assert (body["status"], body["result"]) == ("failed", None)
    assert body["error"]
    answer = await office.client.post("/api/transcribe-async", content=TWO_SECONDS, headers=AUDIO)
    job_id = answer.json()["job_id"]
    await office.client.delete(f"/api/jobs/{job_id}")
    body = (await office.client.get(f"/api/transcribe-async?job_id={job_id}")).json()
    assert body == {"status": "failed", "result": None, "error": "the job was cancelled"}


# -- doors that can also be waited for ------------------------------------------------------------------


@pytest.mark.parametrize("where", ["query", "form"])
async def test_one_request_with_a_webhook_is_queued(office: JobOffice, where: str) -> None:
    hook = Hook()
    with running_app(hook.app) as port:
        given = {"webhook_url": f"http://127.0.0.1:{port}/hook", "language": "pt"}
        more = {"params": given} if where == "query" else {"data": given}
        answer = await office.client.post(
            "/upload%2Btranscribe", files={"file": ("a.wav", TWO_SECONDS)}, **more
        )
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        await office.worker.work_on_one()
        await office.webhooks.send_due()
    ((_, _, event),) = hook.came
    assert event["data"]["job_id"] == answer.json()["job_id"]
    assert event["data"]["result"]["transcript"] == TEXT
    ((_, options),) = office.service.uploads
    assert options.language == "pt"
    refused = await office.client.post(
        "/upload+transcribe?webhook_url=http://127.1.1.1:22/&language=klingon",
        content=TWO_SECONDS,
        headers=AUDIO,
    )
    assert refused.status_code == 400


async def test_a_stored_recording_is_queued(office: JobOffice) -> None:
    headers = {"x-test-key": "kim"}
    stored = await office.client.post("/api/audio", content=TWO_SECONDS, headers={**AUDIO, **headers})
    clip_id = stored.json()["clip_id"]
    for path in ("/api/jobs?", "/api/transcribe?webhook_url=http://127.0.0.1:9/&"):
        answer = await office.client.post(f"{path}clip_id={clip_id}", headers=headers)
        assert answer.status_code == 202, answer.text
        await office.worker.work_on_one()
        job = (await shown(office, answer.json())).json()
        assert job["result"]["transcript"] == TEXT
    other = await office.client.post(f"/api/jobs?clip_id={clip_id}", headers={"x-test-key": "lee"})
    assert other.status_code == 404


# -- webhooks ------------------------------------------------------------------------------------------


class Hook:
    """A client's server: it notes what comes."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.came: list[tuple[str, dict[str, str], Any]] = []

    @property
    def app(self) -> Starlette:
        async def hook(request: Request) -> Response:
            self.came.append((request.method, dict(request.headers), await request.json()))
            return Response(status_code=self.statuses.pop(0) if self.statuses else 200)

        return Starlette(routes=[Route("/hook", hook, methods=["POST", "PUT"])])


async def test_a_webhook_tells_of_the_end(office: JobOffice) -> None:
    hook = Hook()
    with running_app(hook.app) as port:
        job = await create(office, webhook_url=f"http://127.0.0.1:{port}/hook")
        await office.worker.work_on_one()
        assert await office.webhooks.send_due() == 1
    ((method, headers, event),) = hook.came
    assert (method, event["type"]) == ("POST", "job.done")
    assert event["data"]["job_id"] == job["job_id"]
    assert event["data"]["result"]["transcript"] == TEXT
    (webhook,) = (await shown(office, job)).json()["webhooks"]
    assert webhook == {"webhook_id": headers["webhook-id"], "status": "delivered", "attempts": 1}


async def test_a_webhook_tells_of_a_failure(office: JobOffice) -> None:
    hook = Hook()
    with running_app(hook.app) as port:
        await office.client.post(
            f"/api/jobs?webhook_url=http://127.0.0.1:{port}/hook", content=b"x" * 99, headers=AUDIO
        )
        await office.worker.work_on_one()
        await office.webhooks.send_due()
    ((_, _, event),) = hook.came
    assert event["type"] == "job.failed"
    assert event["data"]["error"]["message"]
    assert "result" not in event["data"]


async def test_webhooks_are_replayed(office: JobOffice) -> None:
    hook = Hook(410)
    headers = {"x-test-key": "kim"}
    with running_app(hook.app) as port:
        job = await create(office, webhook_url=f"http://127.0.0.1:{port}/hook")
        await office.worker.work_on_one()
        await office.webhooks.send_due()
        for key, body, num in (("lee", None, 0), ("kim", None, 1), ("kim", {"job_ids": [job["job_id"]]}, 1)):
            answer = await office.client.post(
                "/api/webhooks/replay", json=body or {}, headers={"x-test-key": key}
            )
            assert answer.json() == {"replayed": num}
            assert await office.webhooks.send_due() == num
    assert len({headers["webhook-id"] for _, headers, _ in hook.came}) == 1
    assert len(hook.came) == 3
    refused = await office.client.post("/api/webhooks/replay", json={"job_ids": "a"}, headers=headers)
    assert refused.status_code == 400


# -- Deepgram's callback -------------------------------------------------------------------------------


async def test_a_deepgram_callback_gets_deepgrams_answer(office: JobOffice) -> None:
    hook = Hook()
    with running_app(hook.app) as port:
        query = {"callback": f"http://127.0.0.1:{port}/hook", "callback_method": "put", "punctuate": "true"}
        answer = await office.client.post("/v1/listen", params=query, content=TWO_SECONDS, headers=AUDIO)
        assert answer.status_code == 200
        assert list(answer.json()) == ["request_id"]
        await office.worker.work_on_one()
        await office.webhooks.send_due()
    ((method, _, body),) = hook.came
    assert method == "PUT"
    assert body["metadata"]["request_id"] == answer.json()["request_id"] == answer.headers["dg-request-id"]
    assert body["results"]["channels"][0]["alternatives"][0]["transcript"] == TEXT


async def test_a_deepgram_callback_may_name_the_recording(office: JobOffice) -> None:
    async def audio(request: Request) -> Response:
        return Response(TWO_SECONDS)

    hook = Hook()
    with running_app(hook.app) as port, running_app(Starlette(routes=[Route("/a", audio)])) as other:
        answer = await office.client.post(
            f"/v1/listen?callback=http://127.0.0.1:{port}/hook", json={"url": f"http://127.0.0.1:{other}/a"}
        )
        assert answer.status_code == 200
        await office.worker.work_on_one()
        await office.webhooks.send_due()
    ((_, _, body),) = hook.came
    assert body["results"]["channels"][0]["alternatives"][0]["transcript"].startswith("hello")


async def test_a_deepgram_callback_hears_of_a_failure(office: JobOffice) -> None:
    hook = Hook()
    with running_app(hook.app) as port:
        answer = await office.client.post(
            f"/v1/listen?callback=http://127.0.0.1:{port}/hook", content=b"x" * 99, headers=AUDIO
        )
        await office.worker.work_on_one()
        await office.webhooks.send_due()
    ((_, _, body),) = hook.came
    assert body["request_id"] == answer.json()["request_id"]
    assert (body["err_code"], bool(body["err_msg"])) == ("Bad Request", True)


@pytest.mark.parametrize(
    ("query", "json_body", "says"),
    [
        ("callback=http://10.0.0.1/", None, "public internet"),
        ("callback=ftp://a.example/", None, "https://"),
        ("callback=https://a.example/", {"address": "x"}, "no url"),
        ("callback=https://a.example/", {"url": "http://[::1]/"}, "public internet"),
        ("callback=https://a.example/&callback_method=delete", None, "callback_method"),
        ("", {"url": "https://a.example/a.wav"}, "no addresses"),
    ],
)
async def test_bad_callbacks_are_refused_in_deepgrams_shape(
    office: JobOffice, query: str, json_body: Any, says: str
) -> None:
    more: dict[str, Any] = {"json": json_body} if json_body else {"content": TWO_SECONDS, "headers": AUDIO}
    answer = await office.client.post(f"/v1/listen?{query}", **more)
    assert answer.status_code == 400
    assert says in answer.json()["err_msg"]


async def test_without_a_queue_nothing_is_kept() -> None:
    transport = httpx.ASGITransport(create_app(FakeService(), FakeSettings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as client:
        assert (await client.get("/api/jobs")).status_code == 409
        answer = await client.post("/api/jobs", content=TWO_SECONDS, headers=AUDIO)
        assert (answer.status_code, "keeps no recordings" in answer.json()["detail"]) == (409, True)


async def test_a_fault_of_ours_is_no_answer_yet(office: JobOffice) -> None:
    office.service.transcribe_error = InferenceError("a model failed")
    job = await create(office)
    await office.worker.work_on_one()
    assert (await shown(office, job)).json()["status"] == "queued"


async def test_a_list_of_jobs_has_pages(office: JobOffice) -> None:
    made = [(await create(office))["job_id"] for _ in range(5)]
    seen, query = [], {"limit": "2"}
    for size in (2, 2, 1):
        answer = await office.client.get("/api/jobs", params=query, headers={"x-test-key": "kim"})
        body = answer.json()
        assert len(body["jobs"]) == size
        seen += [job["job_id"] for job in body["jobs"]]
        query["before"] = body.get("next", "")
    assert seen == made[::-1]
    assert query["before"] == ""
    for wrong in ("nothing", "1_", "1e9_a", "-1_a", "1_a\n", "9" * 101):
        answer = await office.client.get("/api/jobs", params={"before": wrong})
        assert answer.status_code == 400, wrong


async def test_an_ended_job_is_forgotten_at_once_with_its_audio(office: JobOffice, tmp_path: Path) -> None:
    job = await create(office)
    await office.worker.work_on_one()
    assert any(path.is_file() for path in (tmp_path / "audio").rglob("*"))
    answer = await office.client.delete(f"/api/jobs/{job['job_id']}", headers={"x-test-key": "kim"})
    assert answer.json()["status"] == "done"
    assert (await shown(office, job)).status_code == 404
    assert not any(path.is_file() for path in (tmp_path / "audio").rglob("*"))
