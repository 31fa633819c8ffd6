from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.core.errors import InvalidMessage, SottoError, UnsupportedFormat
from serve_app.protocols.dialect import ContainerAudio, RawAudio
from serve_app.protocols.media_type import parse_audio_type


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("audio/pcm;rate=16000", RawAudio("pcm16", 16_000)),
        ("audio/pcm", RawAudio("pcm16", 16_000)),
        ("Audio/PCM; rate=48000; channels=2", RawAudio("pcm16", 48_000, 2)),
        ('audio/pcm;rate="8000";encoding=float32', RawAudio("float32", 8_000)),
        ("audio/pcm;rate=8000;encoding=pcm_f32le", RawAudio("float32", 8_000)),
        ("audio/pcm;rate=96000", RawAudio("pcm16", 96_000)),
        ("audio/pcm;rate=192000", RawAudio("pcm16", 192_000)),
        ("audio/pcm;rate=44100.0", RawAudio("pcm16", 44_100)),
        ("audio/basic", RawAudio("mulaw", 8_000)),
        ("audio/pcma;rate=8000", RawAudio("alaw", 8_000)),
        ("audio/webm;codecs=opus", ContainerAudio()),
        ("audio/wav", ContainerAudio()),
        ("video/webm", ContainerAudio()),
        ("application/octet-stream", ContainerAudio()),
        ("", ContainerAudio()),
        (None, ContainerAudio()),
    ],
)
def test_content_types(content_type, body):
    assert parse_audio_type(content_type) == body


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/json", "image/png", "nonsense", "audio", "multipart/form-data"],
)
def test_what_carries_no_audio_is_an_unsupported_format(content_type):
    with pytest.raises(UnsupportedFormat, match="carries no audio"):
        parse_audio_type(content_type)


@pytest.mark.parametrize(
    ("content_type", "complaint"),
    [
        ("audio/pcm;rate=7999", "7999"),
        ("audio/pcm;rate=192001", "192001"),
        ("audio/pcm;rate=44100.5", "whole number"),
        ("audio/pcm;rate=-16000", "whole number"),
        ("audio/pcm;rate=16k", "whole number"),
        ("audio/pcm;rate=99999999999999999999", "whole number"),
        ("audio/pcm;channels=0", "channels"),
        ("audio/pcm;channels=9", "channels"),
        ("audio/pcm;encoding=mp3", "unknown encoding"),
    ],
)
def test_bad_parameters_are_refused(content_type, complaint):
    with pytest.raises(InvalidMessage, match=complaint):
        parse_audio_type(content_type)


@given(st.text() | st.text("audio/pcm;rate=16000\"'*%\r\n \t"))
def test_any_header_is_a_body_or_a_sotto_error(content_type):
    with suppress(SottoError):
        assert isinstance(parse_audio_type(content_type), RawAudio | ContainerAudio)
