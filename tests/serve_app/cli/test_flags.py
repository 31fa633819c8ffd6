import pytest

from serve_app.cli.app import FlagError, parse_flags


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {}),
        (["--vad-threshold", "0.4"], {"vad_threshold": "0.4"}),
        (["--vad-threshold=0.4"], {"vad_threshold": "0.4"}),
        (["--initial-prompt="], {"initial_prompt": ""}),
        (["--diarization", "--beam-size", "5"], {"diarization": "true", "beam_size": "5"}),
        (["--no-partial-results"], {"partial_results": "false"}),
        (["--hotwords=a=b"], {"hotwords": "a=b"}),
    ],
)
def test_parse_flags(arguments: list[str], expected: dict[str, str]) -> None:
    assert parse_flags(arguments) == expected


@pytest.mark.parametrize("argument", ["model.bin", "-x", "--"])
def test_what_is_no_flag(argument: str) -> None:
    with pytest.raises(FlagError):
        parse_flags([argument])
