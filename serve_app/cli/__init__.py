"""The `sotto` command: serve, transcribe, live, models, doctor. Heavy imports wait inside the commands."""

from serve_app.cli.app import main

__all__ = ["main"]
