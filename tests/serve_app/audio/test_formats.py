from __future__ import annotations

import av
import pytest

from fakes.encoded_audio import CONTAINERS, encoded
from serve_app.audio.formats import (
    DEMUXERS,
    canonical_format,
    canonical_formats,
    mp4_index_is_at_the_end,
    require_allowed,
    sniff_format,
)
from serve_app.core.errors import UnsupportedFormat


@pytest.mark.parametrize("name", CONTAINERS)
def test_knows_every_container_by_its_first_bytes(name: str) -> None:
    data = encoded(name, 1.0)
    wanted = "mp4" if name.startswith(("m4a", "mp4")) else name
    assert sniff_format(data[:16]) == wanted


def test_knows_amr() -> None:
    assert sniff_format(b"#!AMR\n\x3c") == "amr"


def test_knows_mp3_without_a_tag() -> None:
    data = encoded("mp3", 1.0)
    assert sniff_format(data[data.index(b"\xff\xfb") :]) == "mp3"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"Ri",
        b"RIFF\0\0\0\0AVI ",
        b"RIFF",
        b"FORM\0\0\0\0ILBM",
        b"ffconcat version 1.0",
        b"#EXTM3U\n#EXTINF:1,",
        b"<html><body>",
        b'{"type": "start"}',
        bytes(16),
        b"\xff\xff\xff\xff\xff\xff",
        b"\xff\xe8\x90\x00",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_does_not_take_other_bytes_for_audio(head: bytes) -> None:
    assert sniff_format(head) is None


def test_every_demuxer_exists() -> None:
    assert set(DEMUXERS.values()) <= av.formats_available


@pytest.mark.parametrize(
    ("name", "format_name"),
    [("MP3", "mp3"), (" .m4a", "mp4"), ("opus", "ogg"), ("mkv", "webm"), ("wave", "wav"), ("exe", None)],
)
def test_names_of_files_lead_to_formats(name: str, format_name: str | None) -> None:
    assert canonical_format(name) == format_name


def test_a_list_of_names_is_checked() -> None:
    assert canonical_formats(["wav", "m4a", "mp4"]) == {"wav", "mp4"}
    with pytest.raises(ValueError, match="unknown audio format 'xls'"):
        canonical_formats(["wav", "xls"])


def test_a_format_outside_the_list_is_named_with_the_list() -> None:
    require_allowed("wav", frozenset({"wav"}))
    with pytest.raises(UnsupportedFormat, match="webm is not allowed: expected mp3, wav"):
        require_allowed("webm", frozenset({"wav", "mp3"}))


@pytest.mark.parametrize(
    ("name", "at_the_end"), [("m4a", True), ("m4a_faststart", False), ("mp4_fragments", False)]
)
def test_tells_where_the_index_of_an_mp4_is(name: str, at_the_end: bool) -> None:
    assert mp4_index_is_at_the_end(encoded(name)[:512]) is at_the_end


@pytest.mark.parametrize("head", [b"", b"\0\0\0\x1cftypM4A ", b"\0\0\0\0ftyp" + bytes(60)])
def test_a_short_or_broken_mp4_is_not_judged(head: bytes) -> None:
    assert mp4_index_is_at_the_end(head) is False


def test_boxes_with_a_64_bit_length_are_walked() -> None:
    free = b"\0\0\0\x01free" + (24).to_bytes(8, "big") + bytes(8)
    assert mp4_index_is_at_the_end(free + b"\0\0\0\x01mdat")
