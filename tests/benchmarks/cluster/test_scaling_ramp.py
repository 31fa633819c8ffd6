"""What the ramp reads out of logs and latencies."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from benchmarks.cluster.scaling_ramp import (
    decisions,
    first_late_s,
    num_flaps,
    ramp_config,
)
from serve_app.launch.deploy_config import deployment, read_deploy_config

CHECKOUT = Path(__file__).resolve().parents[3]
COLOURED = "\x1b[2m2026-11-21 12:00:05\x1b[0m [info] \x1b[1mautoscaling decision\x1b[0m"
PLAIN = "[info     ] autoscaling decision          "
LINES = "\n".join(
    (
        f"{COLOURED} deployment=FinalAsr reason=load replicas_from=1 replicas_to=2 running=1",
        f"2026-11-21 12:00:09 {PLAIN} deployment=InterimAsr reason=load replicas_from=1 replicas_to=2",
        f"2026-11-21 12:01:30 {PLAIN} deployment='FinalAsr' reason='quiet' replicas_from=2 replicas_to=1",
        "2026-11-21 12:01:31 something else",
    )
)


def test_decisions_are_read_once_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "worker.out").write_text(LINES)
    (tmp_path / "copy.log").write_text(LINES)
    (tmp_path / "other.bin").write_text(LINES)
    up_s, down_s = (datetime(2026, 11, 21, 12, *rest).timestamp() for rest in ((0, 5), (1, 30)))
    assert decisions(tmp_path) == [(up_s, 1, 2, "load"), (down_s, 2, 1, "quiet")]


def test_late_is_the_first_moment_over_the_bar_of_enough_finals() -> None:
    early = [(float(second), 100.0) for second in range(30)]
    assert first_late_s(early, 900) is None
    assert first_late_s([(0.0, 5_000.0)], 900) is None
    assert first_late_s([*early, (30.0, 5_000.0), (31.0, 5_000.0)], 900) == 30.0


def test_a_flap_takes_back_within_the_quiet_time() -> None:
    assert num_flaps([(0.0, 1, 2, ""), (10.0, 2, 1, ""), (100.0, 1, 2, "")], 30) == 1
    assert num_flaps([(0.0, 1, 2, ""), (10.0, 2, 3, ""), (100.0, 3, 2, "")], 30) == 0


def test_only_finals_scale_in_the_ramp() -> None:
    config = read_deploy_config(CHECKOUT / "serve_config.yaml")
    changed = ramp_config(config, 30, 20)
    assert deployment(changed, "FinalAsr")["autoscaling_config"]["max_replicas"] == 4
    assert deployment(changed, "InterimAsr")["autoscaling_config"]["max_replicas"] == 1
    assert deployment(config, "InterimAsr")["autoscaling_config"]["max_replicas"] > 1
