"""What an answer says of a recording beside its text: text and subtitles have no place for it."""

from __future__ import annotations

WARNING_HEADER = "x-transcript-warning"
"""What is wrong with the audio."""

COMPLETE_HEADER = "x-transcript-complete"
"""`false` where some of the audio could not be decoded; only beside a warning."""
