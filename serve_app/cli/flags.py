"""Start flags that are settings: `--vad-threshold 0.4`, `--vad-threshold=0.4`, `--diarization`."""

from __future__ import annotations

from collections.abc import Sequence


class FlagError(ValueError):
    """An argument that is no flag."""


def parse_flags(arguments: Sequence[str]) -> dict[str, str]:
    """Names (dashes to underscores) to values; a flag without one is "true", `--no-NAME` is "false".

    Whether the names exist is for the settings to say. Raises `FlagError` on anything that is no flag.
    """
    flags: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--") or len(argument) < 3:
            raise FlagError(f"{argument!r} is no flag: settings are given as --name value")
        name, equals, value = argument[2:].partition("=")
        if not equals:
            if rest and not rest[0].startswith("--"):
                value = rest.pop(0)
            elif name.startswith("no-"):
                name, value = name.removeprefix("no-"), "false"
            else:
                value = "true"
        flags[name.replace("-", "_")] = value
    return flags
