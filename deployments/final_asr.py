"""Final text: the quality model on finished utterances and on recordings."""

from __future__ import annotations

from deployments.recogniser import Recogniser
from serve_app.core.jobs import Role


class FinalAsr(Recogniser):
    """The recogniser of finals and uploads, where they have a GPU share of their own."""

    roles = (Role.FINAL, Role.RECORDING)
    shares_cores = False
