"""`sotto transcribe`: recordings through a running server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from serve_app.cli.console import complain, err, note, plain
from serve_app.clients import blocking
from serve_app.clients.errors import SottoClientError
from serve_app.clients.recordings import OnWarning, UploadOptions, UploadProgress

FORMATS = ("text", "json", "srt", "vtt")
DAMAGED_EXIT = 3
"""Some of the audio could not be decoded; the rest was transcribed."""


def transcribe_files(files: Sequence[Path], url: str, output_format: str, options: UploadOptions) -> int:
    """Print each file's transcript; several JSON answers are one a line. 1 where a file failed, else 3 where
    some of the audio of one is missing."""
    num_failed = 0
    damaged: list[Path] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bars:
        for path in files:
            bar = bars.add_task(f"{path.name}: uploading", total=None)

            def progress(sent: int, total: int, name: str = path.name, bar: int = bar) -> None:
                done = sent >= total
                bars.update(
                    bar,  # type: ignore[arg-type]
                    completed=sent,
                    total=None if done else total,
                    description=f"{name}: {'transcribing' if done else 'uploading'}",
                )

            def warn(warning: str, complete: bool, path: Path = path) -> None:
                note(f"warning: {path}: {warning}")
                if not complete:
                    damaged.append(path)

            try:
                text = _transcribe(path, url, output_format, options, progress, warn, one=len(files) == 1)
            except (SottoClientError, OSError, ValueError) as error:
                num_failed += 1
                complain(f"{path}: {error}")
                continue
            finally:
                bars.remove_task(bar)
            if len(files) > 1 and output_format == "text":
                plain(f"# {path}")
            plain(text)
    if num_failed:
        return 1
    return DAMAGED_EXIT if damaged else 0


def _transcribe(
    path: Path,
    url: str,
    output_format: str,
    options: UploadOptions,
    progress: UploadProgress,
    warn: OnWarning,
    *,
    one: bool,
) -> str:
    if output_format != "json":
        return blocking.transcribe_file_as(
            path, output_format, url=url, options=options, progress=progress, on_warning=warn
        )
    answer = blocking.transcribe_file(path, url=url, options=options, progress=progress)
    if answer.warning is not None:
        warn(answer.warning, answer.complete)
    body = answer.body
    if one:
        return json.dumps(body, ensure_ascii=False, indent=2)
    return json.dumps({"file": str(path), **body}, ensure_ascii=False)
