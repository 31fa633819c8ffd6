"""The graph's declaration for more than one card: nothing is there only once, speakers have a card apart."""

from __future__ import annotations

import copy

from serve_app.launch.deploy_config import DeployConfig, deployment

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
    for name, wish in (("Diarization", "true"), ("FinalAsr", "!true")):
        options = deployment(changed, name)["ray_actor_options"]
        options["label_selector"] = {SPEAKER_LABEL: wish}
        options["fallback_strategy"] = [{"label_selector": {}}]
    return changed
