"""`sotto transcribe`: recordings through a running server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from serve_app.audio.formats import is_named_as_audio
from serve_app.cli.client import STDIN, kept
from serve_app.cli.console import DAMAGED, FAILED, OK, complain, err, in_words, note, plain, warn
from sotto_client import blocking
from sotto_client.errors import SottoClientError
from sotto_client.recordings import UploadOptions

SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}
SUBTITLES = ("srt", "vtt")


@dataclass(frozen=True, slots=True)
class Recording:
    """A file, `-`, or a name that is neither; `below`: where its folder is in the folder that was named."""

    path: Path
    below: Path = Path()


@dataclass(frozen=True, slots=True)
class Output:
    """Where transcripts go: into files in `folder` or `beside` the recordings, else to standard output.

    A file that exists is an error, or written anew with `overwrite`, or with `resume` taken as done.
    """

    format: str
    folder: Path | None
    overwrite: bool = False
    beside: bool = False
    resume: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """A transcript; `warning`: what is wrong with the audio; `complete`: all of it was decoded."""

    text: str
    warning: str | None = None
    complete: bool = True


def find_recordings(named: Sequence[Path]) -> list[Recording]:
    """What folders hold, and what patterns that no shell has expanded stand for, in the order of their names.

    A folder or pattern without any recording stays as it is, for the transcription to complain.
    """
    found: list[Recording] = []
    for path in named:
        inside: list[Recording] = []
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and is_named_as_audio(file))
            inside = [Recording(file, file.parent.relative_to(path)) for file in files]
        elif path != STDIN and has_magic(str(path)) and not path.exists():
            files = sorted(Path(name) for name in glob(str(path), recursive=True))
            inside = [Recording(file) for file in files if file.is_file()]
        found += inside or [Recording(path)]
    return found


def transcribe_files(files: Sequence[Recording], url: str, output: Output, options: UploadOptions) -> int:
    """Transcribe them one after the other; one that fails stops none of the others. The exit status."""
    targets = _targets(files, output)
    num_failed = num_damaged = num_kept = 0
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        all_of_them = bars.add_task(f"{len(files)} recordings", total=len(files), visible=len(files) > 1)
        for recording, target in zip(files, targets, strict=True):
            path, name = recording.path, _name(recording.path)
            try:
                if target is not None and target.exists() and output.resume:
                    num_kept += 1
                    continue
                if target is not None and target.exists() and not output.overwrite:
                    raise ValueError(f"{target} exists already: --overwrite writes it anew")
                answer = _transcribe(path, url, output.format, options, bars)
                if target is not None:
                    _write(target, answer.text)
                    note(str(target))
            except (SottoClientError, OSError, ValueError) as error:
                num_failed += 1
                complain(f"{name}: {in_words(error)}")
                continue
            finally:
                bars.advance(all_of_them)
            if answer.warning is not None:
                num_damaged += not answer.complete
                warn(f"{name}: {answer.warning}")
            if target is None:
                _print(name, answer.text, output.format, alone=len(files) == 1)
    if num_kept:
        note(f"{num_kept} of {len(files)} were there already")
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


def _write(target: Path, text: str) -> None:
    """All of it or nothing: a file that is there is taken as done."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.part")
    unfinished.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    unfinished.replace(target)


def _targets(files: Sequence[Recording], output: Output) -> list[Path | None]:
    """A file for each recording, named after it: two of one name are told apart by a number."""
    if output.folder is None and not output.beside:
        return [None] * len(files)
    suffix = SUFFIXES[output.format]
    targets: dict[Path, None] = {}
    for recording in files:
        path = recording.path
        folder = path.parent if output.folder is None else output.folder / recording.below
        stem = "stdin" if path == STDIN else path.stem
        names = (stem, path.name, *(f"{path.name}-{number}" for number in range(2, len(files) + 1)))
        target = next(one for name in names if (one := folder / f"{name}{suffix}") not in targets)
        targets[target] = None
    return list(targets)


def _name(path: Path) -> str:
    return "standard input" if path == STDIN else str(path)
