"""Final text of short utterances on the CPU, beside the GPUs."""

from __future__ import annotations

from deployments.recogniser import Recogniser
from serve_app.core.jobs import Role


class ShortAsr(Recogniser):
    """The recogniser of short finals, where `short_audio_on_cpu_s` asks for one; it takes no card."""

    roles = (Role.FINAL,)
    shares_cores = False
