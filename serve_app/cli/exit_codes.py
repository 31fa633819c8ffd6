"""How a command ended, for scripts: the statuses of `sotto`, the same in every command."""

from __future__ import annotations

OK = 0
FAILED = 1
"""Something that was asked for is not there: a recording, a session, a model; the others are."""
USAGE = 2
"""The command line or a setting is wrong, and nothing was begun."""
DAMAGED = 3
"""Everything is there, but some of the audio could not be decoded."""
INTERRUPTED = 130
TERMINATED = 143
READER_LEFT = 141
"""Standard output was closed, as by `| head`."""
