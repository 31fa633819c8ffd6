"""`sotto transcribe`: recordings through a running server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from serve_app.cli.client import STDIN, kept
from serve_app.cli.console import DAMAGED, FAILED, OK, complain, err, in_words, note, plain, warn
from sotto_client import blocking
from sotto_client.errors import SottoClientError
from sotto_client.recordings import UploadOptions

SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}
SUBTITLES = ("srt", "vtt")


@dataclass(frozen=True, slots=True)
class Output:
    """Where transcripts go: into files in `folder`, or to standard output."""

    format: str
    folder: Path | None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """A transcript; `warning`: what is wrong with the audio; `complete`: all of it was decoded."""

    text: str
    warning: str | None = None
    complete: bool = True


def transcribe_files(files: Sequence[Path], url: str, output: Output, options: UploadOptions) -> int:
    """Transcribe them one after the other; one that fails stops none of the others. The exit status."""
    targets = _targets(files, output)
    num_failed = num_damaged = 0
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        for path, target in zip(files, targets, strict=True):
            name = _name(path)
            try:
                if target is not None and target.exists() and not output.overwrite:
                    raise ValueError(f"{target} exists already: --overwrite writes it anew")
                answer = _transcribe(path, url, output.format, options, bars)
                if target is not None:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(answer.text.rstrip("\n") + "\n", encoding="utf-8")
                    note(str(target))
            except (SottoClientError, OSError, ValueError) as error:
                num_failed += 1
                complain(f"{name}: {in_words(error)}")
                continue
            if answer.warning is not None:
                num_damaged += not answer.complete
                warn(f"{name}: {answer.warning}")
            if target is None:
                _print(name, answer.text, output.format, alone=len(files) == 1)
    if num_failed and len(files) > 1:
        complain(f"{num_failed} of {len(files)} recordings failed")
    return FAILED if num_failed else DAMAGED if num_damaged else OK


def _transcribe(path: Path, url: str, output_format: str, options: UploadOptions, bars: Progress) -> _Answer:
    name = escape(_name(path))
    bar = bars.add_task(f"{name}: uploading", total=None)
    try:
        with kept(path) as file:
            progress = _Shown(bars, bar, name)
            if output_format != "json":
                found: list[tuple[str, bool]] = []
                text = blocking.transcribe_file_as(
                    file,
                    output_format,
                    url=url,
                    options=options,
                    progress=progress,
                    on_warning=lambda warning, complete: found.append((warning, complete)),
                )
                return _Answer(text, *(found[0] if found else ()))
            answer = blocking.transcribe_file(file, url=url, options=options, progress=progress)
            text = json.dumps(answer.body, ensure_ascii=False, indent=2)
            return _Answer(text, answer.warning or None, answer.complete)
    finally:
        bars.remove_task(bar)


@dataclass(frozen=True, slots=True)
class _Shown:
    """The progress of one upload on its bar."""

    bars: Progress
    bar: TaskID
    name: str

    def __call__(self, sent: int, total: int) -> None:
        done = sent >= total
        self.bars.update(
            self.bar,
            completed=sent,
            total=None if done else total,
            description=f"{self.name}: {'transcribing' if done else 'uploading'}",
        )


def _print(name: str, text: str, output_format: str, *, alone: bool) -> None:
    """Several texts have their recording's name above them; several JSON answers are one a line."""
    if alone:
        plain(text)
    elif output_format == "json":
        plain(json.dumps({"file": name, **json.loads(text)}, ensure_ascii=False))
    else:
        plain(f"# {name}\n{text}")


def _targets(files: Sequence[Path], output: Output) -> list[Path | None]:
    """A file for each recording, named after it: two of one name are told apart by a number."""
    if output.folder is None:
        return [None] * len(files)
    suffix = SUFFIXES[output.format]
    targets: list[Path | None] = []
    for path in files:
        stem = "stdin" if path == STDIN else path.stem
        names = (stem, path.name, *(f"{path.name}-{number}" for number in range(2, len(files) + 1)))
        targets.append(
            next(target for name in names if (target := output.folder / f"{name}{suffix}") not in targets)
        )
    return targets


def _name(path: Path) -> str:
    return "standard input" if path == STDIN else str(path)
