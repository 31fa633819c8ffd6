"""Interim text: a fast model on the tail of utterances in progress."""

from __future__ import annotations

from deployments.recogniser import Recogniser
from serve_app.core.jobs import Role


class InterimAsr(Recogniser):
    """The recogniser of interims, where they have a GPU share of their own."""

    roles = (Role.INTERIM,)
    shares_cores = False
