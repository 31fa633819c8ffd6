"""From start flags, environment variables and a `.env` file to `Settings`; the only place that reads them.

Precedence: flag, `STT_` name, alias, `STT_` name in the file, alias in the file, default. An empty value
counts as not given, as compose files write `API_KEY=${KEY:-}`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from dotenv import dotenv_values
from pydantic import ValidationError

from serve_app.settings.define import ENV_PREFIX, SettingsError, about
from serve_app.settings.model import Settings, describe_errors

ENV_FILE_VARIABLE = "STT_ENV_FILE"
DEFAULT_ENV_FILE = Path(".env")
_log = structlog.get_logger(__name__)


def env_name(field: str) -> str:
    """The canonical variable of a field: `STT_<FIELD>`."""
    return ENV_PREFIX + field.upper()


ALIASES: dict[str, str] = {
    alias: field for field, info in Settings.model_fields.items() for alias in about(info).aliases
}
"""Variable of another server to our field."""

FLAGS: dict[str, str] = {
    flag: field for field, info in Settings.model_fields.items() for flag in (field, *about(info).flags)
}
"""Start flag, without dashes in front and with underscores inside, to our field."""

_VARIABLES: dict[str, str] = {env_name(field): field for field in Settings.model_fields}


@dataclass(frozen=True, slots=True)
class _Given:
    """A value and the name under which it came, fit to be shown to a person."""

    label: str
    value: Any


def load_settings(
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    env_file: Path | None = None,
) -> Settings:
    """Read the settings and log what deserves a warning.

    `environ` None is the process's own. `env_file` None is the file that `STT_ENV_FILE` names, or `.env` in
    the working directory when the environment is the process's own. Raises `SettingsError`.
    """
    settings, warnings = read_settings(flags=flags, environ=environ, env_file=env_file)
    for warning in warnings:
        _log.warning("setting needs attention", detail=warning)
    return settings


def read_settings(
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    env_file: Path | None = None,
) -> tuple[Settings, tuple[str, ...]]:
    """As `load_settings`, with the warnings returned instead of logged, a line each."""
    problems: list[str] = []
    warnings: list[str] = []
    given = _collect(flags or {}, environ, env_file, problems, warnings)
    return _build(given, problems), tuple(dict.fromkeys(warnings))


def read_some(
    fields: Collection[str],
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Settings of which only `fields` are read: a client command beside a service minds none of the others.

    Raises `SettingsError` for what is wrong with these.
    """
    problems: list[str] = []
    return _build(_collect(flags or {}, environ, None, problems, [], fields), problems)


def _collect(
    flags: Mapping[str, Any],
    environ: Mapping[str, str] | None,
    env_file: Path | None,
    problems: list[str],
    warnings: list[str],
    wanted: Collection[str] = tuple(Settings.model_fields),
) -> dict[str, _Given]:
    """What was given for each of the `wanted` fields, by precedence."""
    own = environ is None or environ is os.environ
    environ = os.environ if environ is None else environ
    file_values = _read_file(_find_file(env_file, environ, own=own), problems)
    layers = [
        _from_flags(flags, problems),
        *_from_variables(environ, "", warnings),
        *_from_variables(file_values, " (in the .env file)", warnings),
    ]
    given: dict[str, _Given] = {}
    for layer in layers:
        for field, values in layer.items():
            if field in wanted and field not in given:
                given[field] = _agree(field, values, problems)
    return given


def _build(given: Mapping[str, _Given], problems: list[str]) -> Settings:
    """The settings, or `SettingsError` for `problems` and what is wrong with the values."""
    try:
        settings = Settings(**_with_debug({field: item.value for field, item in given.items()}))
    except ValidationError as error:
        problems += describe_errors(error, {field: (item.label, item.value) for field, item in given.items()})
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    return settings


def _find_file(env_file: Path | None, environ: Mapping[str, str], *, own: bool) -> Path | None:
    if env_file is not None:
        return env_file
    if named := environ.get(ENV_FILE_VARIABLE):
        return Path(named)
    return DEFAULT_ENV_FILE if own and DEFAULT_ENV_FILE.is_file() else None


def _read_file(path: Path | None, problems: list[str]) -> dict[str, str]:
    if path is None:
        return {}
    try:
        with path.open(encoding="utf-8") as file:
            return {
                name: value
                for name, value in dotenv_values(stream=file, interpolate=False).items()
                if value is not None
            }
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: the settings file cannot be read ({type(error).__name__})")
        return {}


_Layer = dict[str, list[_Given]]


def _from_flags(flags: Mapping[str, Any], problems: list[str]) -> _Layer:
    layer: _Layer = {}
    for name, value in flags.items():
        plain = name.lstrip("-").replace("-", "_").lower()
        field = FLAGS.get(plain)
        if field is None:
            problems.append(f"{name}: there is no such setting{_nearest(plain, FLAGS)}")
        elif value is not None:
            layer.setdefault(field, []).append(_Given(name, value))
    return layer


def _from_variables(variables: Mapping[str, str], where: str, warnings: list[str]) -> Iterator[_Layer]:
    """Two layers: what came by our own names, then what came by aliases."""
    own: _Layer = {}
    other: _Layer = {}
    for name, value in variables.items():
        canonical = name.upper() if name.upper().startswith(ENV_PREFIX) else name
        layer, field = (own, _VARIABLES.get(canonical))
        if field is None:
            layer, field = (other, ALIASES.get(canonical))
        if field is not None:
            if value.strip():
                layer.setdefault(field, []).append(_Given(f"{name}{where}", value.strip()))
        elif canonical.startswith(ENV_PREFIX) and canonical != ENV_FILE_VARIABLE:
            known = [*_VARIABLES, *(alias for alias in ALIASES if alias.startswith(ENV_PREFIX))]
            warnings.append(f"{name}{where} is no setting of ours and is ignored{_nearest(canonical, known)}")
    yield own
    yield other


def _agree(field: str, values: list[_Given], problems: list[str]) -> _Given:
    """The one value that several names of the same rank give; a problem where they differ."""
    first = values[0]
    for other in values[1:]:
        if _coerced(field, first.value) != _coerced(field, other.value):
            problems.append(
                f"{first.label} and {other.label} both set {env_name(field)} and contradict each other: "
                "remove one"
            )
    return first


def _coerced(field: str, value: Any) -> Any:
    """The value as the field would hold it, so that "1" and "true" agree; itself where it is not valid."""
    try:
        return getattr(Settings(**{field: value}), field)
    except ValidationError:
        return value


def _with_debug(values: dict[str, Any]) -> dict[str, Any]:
    """`debug` sets the log level where none is given."""
    if "log_level" in values or "debug" not in values:
        return values
    try:
        wanted = Settings(debug=values["debug"]).debug
    except ValidationError:
        return values
    return {**values, "log_level": "DEBUG"} if wanted else values


def _nearest(name: str, known: Mapping[str, str] | list[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else ""
