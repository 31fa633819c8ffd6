"""What a config file may hand to a graph's builder, and the settings it leads to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.settings import Settings, load_settings

KNOWN = {"profile", "settings", "env_file"}


@dataclass(frozen=True, slots=True)
class GraphArguments:
    """Settings as they hold for this graph, and whether interims and finals have GPU shares."""

    settings: Settings
    on_gpu: bool

    @property
    def diarization_on_gpu(self) -> bool:
        """Whether speakers are told apart on a share of a GPU; the CPU is allowed beside one."""
        return self.on_gpu and self.settings.diarization_device in ("auto", "cuda")

    @classmethod
    def parse(cls, args: Mapping[str, Any]) -> GraphArguments:
        """Read the environment once, here. Raises `ValueError` for unknown arguments, `SettingsError`."""
        unknown = set(args) - KNOWN
        if unknown:
            raise ValueError(f"unknown graph arguments {sorted(unknown)}; known are {sorted(KNOWN)}")
        flags = dict(args.get("settings") or {})
        profile = args.get("profile", "auto")
        env_file = args.get("env_file")
        settings = load_settings(
            flags=flags, environ=os.environ, env_file=Path(env_file) if env_file else None
        )
        if settings.profile != "auto":
            profile = settings.profile
        return cls(settings, on_gpu=_wants_gpu(profile, settings.device))


def _wants_gpu(profile: str, device: str) -> bool:
    if profile not in ("auto", "cpu", "gpu"):
        raise ValueError(f"profile must be auto, cpu or gpu, got {profile!r}")
    if profile == "auto":
        import ray

        return device != "cpu" and ray.is_initialized() and ray.cluster_resources().get("GPU", 0) > 0
    return profile == "gpu"
