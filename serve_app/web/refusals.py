"""How often a connection may be told that it is wrong."""

from __future__ import annotations

MAX_REFUSALS = 64
"""Errors that one connection may cause before it is closed."""
