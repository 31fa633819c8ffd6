"""`sotto transcribe`: recordings through a running server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from serve_app.cli.console import complain, err, plain
from serve_app.clients import blocking
from serve_app.clients.errors import SottoClientError
from serve_app.clients.recordings import UploadOptions, UploadProgress

FORMATS = ("text", "json", "srt", "vtt")


def transcribe_files(files: Sequence[Path], url: str, output_format: str, options: UploadOptions) -> int:
    """Print each file's transcript; several JSON answers are one a line. 1 where a file failed."""
    num_failed = 0
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

            try:
                text = _transcribe(path, url, output_format, options, progress, one=len(files) == 1)
            except (SottoClientError, OSError, ValueError) as error:
                num_failed += 1
                complain(f"{path}: {error}")
                continue
            finally:
                bars.remove_task(bar)
            if len(files) > 1 and output_format == "text":
                plain(f"# {path}")
            plain(text)
    return 1 if num_failed else 0


def _transcribe(
    path: Path,
    url: str,
    output_format: str,
    options: UploadOptions,
    progress: UploadProgress,
    *,
    one: bool,
) -> str:
    if output_format != "json":
        return blocking.transcribe_file_as(path, output_format, url=url, options=options, progress=progress)
    body = blocking.transcribe_file(path, url=url, options=options, progress=progress).body
    if one:
        return json.dumps(body, ensure_ascii=False, indent=2)
    return json.dumps({"file": str(path), **body}, ensure_ascii=False)
