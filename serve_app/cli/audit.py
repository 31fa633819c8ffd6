"""`sotto audit`: whether the audit log is as it was written, what it says, and where its chains stand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from serve_app.assembly.process import known_pseudonyms
from serve_app.audit.folder import Head, heads
from serve_app.audit.lines import Line, Sums
from serve_app.audit.verify import Report, read_lines, verify
from serve_app.cli.console import FAILED, OK, complain, fail, note, plain, table, warn
from serve_app.settings import Settings, SettingsError, read_settings

_INNER: Final = ("who_sum", "prev", "others", "key", "chain", "segment", "gaps", "lines")
_COLUMNS: Final = (
    *(
        "t",
        "chain",
        "n",
        "kind",
        "key_id",
        "key_name",
        "address",
        "session_id",
        "request_id",
        "method",
        "door",
    ),
    *("status", "close_code", "reason", "duration_s", "audio_s", "num_finals", "num_chars", "was_erased"),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines to show; `sessions`: an id, and the pseudonym that strict privacy writes for it."""

    since: datetime | None = None
    until: datetime | None = None
    key_id: str | None = None
    sessions: frozenset[str] = frozenset()

    def is_met_by(self, entry: Mapping[str, Any]) -> bool:
        at = datetime.fromisoformat(str(entry["t"]))
        if (self.since and at < self.since) or (self.until and at > self.until):
            return False
        if self.key_id not in (None, entry.get("key_id")):
            return False
        return not self.sessions or entry.get("session_id") in self.sessions


def wanted(
    env_file: Path | None, since: str | None, until: str | None, key_id: str | None, session: str | None
) -> Wanted:
    """Raises a usage error for what is no time."""
    sessions = frozenset[str]()
    if session:
        sessions = frozenset({session, known_pseudonyms(_settings(env_file))(session)})
    return Wanted(_time(since), _time(until), key_id, sessions)


def _settings(env_file: Path | None) -> Settings:
    try:
        return read_settings(flags={}, env_file=env_file)[0]
    except SettingsError as error:
        fail(str(error))


def where_it_is(folder: Path | None, env_file: Path | None) -> tuple[Path, bytes | None]:
    """The folder, from the settings where none is given, and the key; a usage error where there is none."""
    settings = _settings(env_file)
    found = folder or settings.audit_log_dir
    if found is None:
        fail("name the folder: --dir, or STT_AUDIT_LOG_DIR")
    if not found.is_dir():
        fail(f"{found} is no folder")
    key = settings.secret("audit_key")
    return found, key.encode() if key else None


def verify_audit(folder: Path, key: bytes | None, heads_file: Path | None) -> int:
    """Print what was found; 0 where all is as it was written, 1 where it is not."""
    report = verify(folder, key, _kept_heads(heads_file) if heads_file else ())
    for problem in report.problems:
        complain(problem)
    for line in report.notes:
        warn(line)
    _show_chains(report)
    erased = f", in {report.num_erased} of them who it was is erased" if report.num_erased else ""
    summed = "with a key" if key else "without a key: it shows damage, and no forgery"
    told = f"{report.num_lines} lines in {len(report.chains)} chains{erased}, {summed}"
    if report.problems:
        complain(f"NOT as it was written; {told}")
        return FAILED
    plain(f"as it was written; {told}")
    return OK


def show_heads(folder: Path, key: bytes | None) -> int:
    """Where all chains stand, a line of JSON each, to be kept where the service cannot write."""
    status = OK
    for name, head in heads(folder, Sums(key)):
        if head is None:
            complain(f"{name}.head is not what was written there")
            status = FAILED
        else:
            plain(json.dumps({"chain": head.chain, "n": head.n, "hash": head.hash}))
    return status


def show_audit(
    folder: Path,
    key: bytes | None,
    lines_wanted: Wanted,
    output_format: str,
) -> int:
    """Lines of requests, oldest first: `output_format` text, jsonl or csv. Lines that cannot be read are left
    out: `verify` names them."""
    lines = list(_requests(read_lines(folder, key), lines_wanted))
    lines.sort(key=lambda entry: entry["t"])
    if output_format == "jsonl":
        for entry in lines:
            plain(json.dumps(entry, ensure_ascii=False))
    elif output_format == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, _COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({name: _harmless(value) for name, value in entry.items()} for entry in lines)
        plain(out.getvalue())
    elif lines:
        table([_row(entry) for entry in lines])
    if not lines:
        note("no line of a request")
    return OK


def _row(entry: Mapping[str, Any]) -> list[str]:
    whose = "(erased)" if entry.get("was_erased") else entry.get("key_name") or entry.get("key_id") or "-"
    outcome = entry.get("status") or entry.get("close_code") or "-"
    return [
        str(entry["t"]),
        str(whose),
        str(entry.get("address", "-")),
        f"{entry.get('method', '-')} {entry.get('door', '-')}",
        f"{outcome} {entry.get('reason', '')}".strip(),
        f"{entry.get('duration_s', 0):g} s",
        f"{entry.get('audio_s', 0):g} s of audio",
        str(entry.get("session_id", "")),
    ]


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value


def _requests(lines: Iterable[tuple[str, Line]], lines_wanted: Wanted) -> Iterator[dict[str, Any]]:
    for chain, line in lines:
        if line.kind != "request":
            continue
        entry = {name: value for name, value in line.fields.items() if name not in _INNER}
        entry |= {"chain": chain, **(line.who or {})}
        if line.was_erased:
            entry["was_erased"] = True
        if lines_wanted.is_met_by(entry):
            yield entry


def _time(given: str | None) -> datetime | None:
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        fail(f"{given!r} is no date or time: 2026-11-30, or 2026-11-30T09:00")
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _kept_heads(path: Path) -> list[Head]:
    try:
        entries = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        return [Head(str(entry["chain"]), 0, int(entry["n"]), str(entry["hash"])) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError):
        fail(f"{path} is not what `sotto audit heads` printed")


def _show_chains(report: Report) -> None:
    if report.chains:
        rows = [[chain.name, f"{chain.num_lines} lines", chain.end.value] for chain in report.chains]
        table(rows)
