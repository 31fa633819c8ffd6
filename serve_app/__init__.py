"""Self-hosted streaming speech to text."""

__version__ = "0.1.0"
"""The only place: the package's metadata, `sotto --version` and `GET /health` take it from here."""
