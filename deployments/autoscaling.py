"""How many replicas a recogniser needs: by the audio that waits, not by the calls that are open."""

from __future__ import annotations

import math
from typing import Any

WAITING_AUDIO_S_PER_REPLICA = 20.0
"""A replica with this much audio in its queue is as full as it should get: at twenty times real time,
a second of work."""


def by_waiting_audio(context: Any) -> tuple[int, dict[str, Any]]:
    """Serve's `policy_function`: replicas for the seconds of audio waiting at all replicas together,
    as each reports in `record_autoscaling_stats`; within the deployment's own bounds, one step down at
    a time."""
    reported = (context.aggregated_metrics or {}).get("waiting_audio_s", {})
    wanted = math.ceil(sum(reported.values()) / WAITING_AUDIO_S_PER_REPLICA)
    wanted = max(wanted, context.current_num_replicas - 1)
    lowest, highest = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    return max(lowest, min(highest, wanted)), {}
