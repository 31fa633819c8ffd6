"""How many people may talk at once on this machine: as a service that runs here says, else measured now."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from serve_app.settings import Settings

ASK_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Here:
    """`speakers` at once; 0: not known. `source` says where it is from."""

    speakers: int
    model: str
    source: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def text(self) -> str:
        return f"about {self.speakers} at once with {self.model} ({self.source})"


def speakers_here(settings: Settings) -> Here:
    """Blocking: seconds, where no service runs here. Raises `ModelUnavailable`."""
    return _as_the_service_says(settings.service_url) or _as_measured(settings)


def _as_the_service_says(url: str) -> Here | None:
    import httpx

    try:
        body = httpx.get(f"{url.rstrip('/')}/health/status", timeout=ASK_TIMEOUT_S).json()
        speakers, model = int(body["capacity"]["estimated_max_concurrent"]), str(body["model"]["model_size"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
    return Here(speakers, model, f"the service at {url}") if speakers > 0 else None


def _as_measured(settings: Settings) -> Here:
    from serve_app.assembly.recognisers import load_recogniser
    from serve_app.capacity.machine import available_cores
    from serve_app.capacity.speakers import Speed, speakers_at_once
    from serve_app.core.jobs import Role

    recogniser = load_recogniser(settings, (Role.FINAL, Role.INTERIM, Role.RECORDING), shares_cores=True)
    model = recogniser.models()[0]
    cores = available_cores() if model.device == "cpu" else None
    speed = Speed(model.audio_s_per_s, model.cpu_s_per_audio_s)
    source = f"measured now: {speed.at_start:.0f} s of audio a second"
    return Here(speakers_at_once(speed, cores=cores), model.name, source)
