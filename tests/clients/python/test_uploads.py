from pathlib import Path

import pytest

from serve_app.launch.cluster import free_ports
from sotto_client import blocking
from sotto_client.errors import RequestFailed, ServerUnreachable
from sotto_client.recordings import UploadOptions, transcribe_file, transcribe_file_as


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    path.write_bytes(b"x" * 300_000)
    return path


async def test_transcribe_file(speech_server: str, recording: Path) -> None:
    seen: list[tuple[int, int]] = []
    answer = await transcribe_file(
        recording,
        url=speech_server,
        options=UploadOptions(language="de"),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert (answer.transcript, answer.language, answer.duration_s) == ("hello", "de", 1.5)
    assert answer.segments[0].avg_logprob == -0.2
    assert answer.body["num_bytes"] == 300_000
    assert seen[-1] == (300_000, 300_000)
    assert len(seen) > 2


async def test_who_spoke(speech_server: str, recording: Path) -> None:
    options = UploadOptions(diarize=True, num_speakers=2, diarization_backend="channel")
    answer = await transcribe_file(recording, url=speech_server, options=options)
    assert (answer.segments[0].speaker, answer.speakers) == ("SPEAKER_01", ("SPEAKER_01",))
    query = answer.body["query"]
    assert (query["diarize"], query["num_speakers"], query["diarization_backend"]) == ("true", "2", "channel")
    assert "max_speakers" not in query


async def test_nobody_is_named_unless_asked_for(speech_server: str, recording: Path) -> None:
    answer = await transcribe_file(recording, url=speech_server)
    assert (answer.segments[0].speaker, answer.speakers) == (None, ())
    assert "diarize" not in answer.body["query"]


async def test_subtitles_come_as_they_are(speech_server: str, recording: Path) -> None:
    assert "-->" in await transcribe_file_as(recording, "srt", url=speech_server)


def test_blocking(speech_server: str, recording: Path) -> None:
    assert blocking.transcribe_file(recording, url=speech_server).transcript == "hello"
    assert "-->" in blocking.transcribe_file_as(recording, "srt", url=speech_server)


async def test_a_refusal_carries_the_servers_words(speech_server: str, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(RequestFailed, match="no audio in it") as refused:
        await transcribe_file(tmp_path / "empty.wav", url=speech_server)
    assert (refused.value.status, refused.value.retry_after_s) == (400, None)


async def test_a_full_server_says_when_to_come_back(speech_server: str, tmp_path: Path) -> None:
    (tmp_path / "busy.wav").write_bytes(b"busy")
    with pytest.raises(RequestFailed) as refused:
        await transcribe_file(tmp_path / "busy.wav", url=speech_server)
    assert (refused.value.status, refused.value.retry_after_s) == (503, 2.0)


async def test_nobody_listens(recording: Path) -> None:
    with pytest.raises(ServerUnreachable):
        await transcribe_file(recording, url=f"http://127.0.0.1:{free_ports(1)[0]}")


async def test_a_file_that_is_not_there(speech_server: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await transcribe_file(tmp_path / "gone.wav", url=speech_server)
