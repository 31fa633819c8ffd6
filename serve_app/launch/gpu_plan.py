"""The sizing of this machine's cards, laid over settings and Serve config; what a person set stays.

`many_cards` is the declaration for more than one card: two replicas of what sessions depend on, and a card
apart for speakers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from serve_app.assembly.models import find_model
from serve_app.capacity.machine import Gpu, read_gpus, visible_gpus
from serve_app.capacity.sizing import RolePlan, Sizing, Wanted, size_for_cards
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import Role
from serve_app.launch.deploy_config import DeployConfig, deployment
from serve_app.settings import Settings

UNREADABLE = "the GPUs' memory cannot be read (is nvidia-ml-py installed?): the config file's shares are used"
TOO_SMALL = "no model fits into the memory that is free on the GPUs"
VOICE, INTERIM, FINAL, SPEAKERS = "VoiceActivity", "InterimAsr", "FinalAsr", "Diarization"


def machine_cards(num_gpus: int | None = None) -> tuple[Gpu, ...]:
    """The cards that Ray will use here, the first `num_gpus` of those that CUDA shows."""
    return visible_gpus(read_gpus())[:num_gpus]


def size_settings(settings: Settings, cards: Sequence[Gpu]) -> Sizing | None:
    """What these cards hold, with what was given in the settings kept."""
    return size_for_cards(cards, wanted_of(settings), most_batch=settings.max_batch_size)


def wanted_of(settings: Settings) -> Wanted:
    """What a person set, as far as it matters for memory. In offline mode only models that are here count."""
    given = settings.model_fields_set
    named = settings.model is not None
    return Wanted(
        interim_model=settings.interim_model_name if named or "interim_model" in given else None,
        final_model=settings.final_model_name if named or "final_model" in given else None,
        interim_compute=_compute_type(settings, "interim_compute"),
        final_compute=_compute_type(settings, "final_compute"),
        num_workers=settings.num_workers,
        max_batch=settings.max_batch_size if "max_batch_size" in given else None,
        beam_size=max(map(settings.beam_size_for, Role)),
        translates=settings.task == "translate",
        float_only=settings.engine == "torch" or settings.streaming_policy == "align_att",
        can_have=(lambda name: _is_here(name, settings)) if settings.offline else lambda name: True,
    )


def planned_settings(sizing: Sizing, settings: Settings) -> dict[str, Any]:
    """The settings that carry the sizing to the graph: those that were not given."""
    wanted = wanted_of(settings)
    planned: dict[str, tuple[object, Any]] = {
        "interim_model": (wanted.interim_model, sizing.interim.model),
        "final_model": (wanted.final_model, sizing.final.model),
        "interim_compute": (wanted.interim_compute, sizing.interim.compute_type),
        "final_compute": (wanted.final_compute, sizing.final.compute_type),
        "num_workers": (wanted.num_workers, sizing.num_workers),
        "max_batch_size": (wanted.max_batch, sizing.max_batch),
    }
    return {name: value for name, (given, value) in planned.items() if given is None}


def with_slots(config: DeployConfig, sizing: Sizing) -> DeployConfig:
    """A copy whose recognisers take slots of the cards; the others are on the CPU and take none."""
    changed = copy.deepcopy(config)
    for entry in changed["applications"][0].get("deployments") or []:
        if entry.get("name") in (VOICE, SPEAKERS):
            _set_gpus(entry, 0)
        elif entry.get("name") in (INTERIM, FINAL):
            _set_gpus(entry, sizing.gpu_fraction)
            _set_replicas(entry, sizing.interim if entry["name"] == INTERIM else sizing.final)
    return changed


def _set_gpus(entry: dict[str, Any], num_gpus: float) -> None:
    entry["ray_actor_options"] = {**(entry.get("ray_actor_options") or {}), "num_gpus": num_gpus}


def _set_replicas(entry: dict[str, Any], role: RolePlan) -> None:
    entry.pop("num_replicas", None)
    entry["autoscaling_config"] = {
        **(entry.get("autoscaling_config") or {}),
        "min_replicas": role.min_replicas,
        "max_replicas": role.max_replicas,
    }


def _compute_type(settings: Settings, field: str) -> str | None:
    given = settings.model_fields_set & {field, "compute_type"}
    value: str = getattr(settings, field) if field in given else settings.compute_type
    return value if given and value not in ("auto", "default") else None


def _is_here(name: str, settings: Settings) -> bool:
    try:
        find_model(name, settings, offline=True)
    except ModelUnavailable:
        return False
    return True


SPEAKER_LABEL = "sotto-speakers"
SPEAKER_CARD = f"{SPEAKER_LABEL}=true"
"""Label of the nodes whose card is kept for telling speakers apart, where there is more than one card."""
NEVER_ALONE = ("Ingress", "VoiceActivity", "InterimAsr", "FinalAsr")


def many_cards(config: DeployConfig) -> DeployConfig:
    """A copy for more than one card: two replicas of what sessions hang on, so that no host has the last one,
    and finals on other cards than speakers where a node has the label. Both only prefer their cards."""
    changed = copy.deepcopy(config)
    for name in NEVER_ALONE:
        scaling = deployment(changed, name)["autoscaling_config"]
        scaling["min_replicas"] = max(2, scaling.get("min_replicas", 1))
    for name, label in (("Diarization", "true"), ("FinalAsr", "!true")):
        options = deployment(changed, name)["ray_actor_options"]
        options["label_selector"] = {SPEAKER_LABEL: label}
        options["fallback_strategy"] = [{"label_selector": {}}]
    return changed
