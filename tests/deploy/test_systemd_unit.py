"""The systemd unit and what goes with it, as systemd itself reads them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from serve_app.launch.edge import STOP_TIMEOUT_S as EDGE_STOP_TIMEOUT_S
from serve_app.launch.serving import STOP_TIMEOUT_S
from serve_app.settings import Settings

CHECKOUT = Path(__file__).parents[2]
SYSTEMD = CHECKOUT / "deploy" / "systemd"
UNIT = (SYSTEMD / "sotto.service").read_text()
MAX_EXPOSURE = 2.0
"""Of 10, by `systemd-analyze security`; most services have more than 9."""


def values(text):
    """Section and name to the values given, in order."""
    found: dict[tuple[str, str], list[str]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault((section, name), []).append(value)
    return found


SERVICE = {name: given[-1] for (section, name), given in values(UNIT).items() if section == "Service"}


@pytest.fixture
def analyse(program, tmp_path):
    systemd_analyze = program("systemd-analyze")

    def run(unit, *arguments):
        for name in ("sotto", "python"):
            path = tmp_path / "sotto/.venv/bin" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("#!/bin/sh\n")
            path.chmod(0o755)
        file = tmp_path / "sotto.service"
        file.write_text(unit.replace("/opt/sotto", str(tmp_path / "sotto")))
        command = [systemd_analyze, *(arguments or ("verify",)), str(file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    return run


def test_systemd_has_no_complaint(analyse):
    done = analyse(UNIT)
    assert done.returncode == 0
    assert "sotto.service" not in done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("KillMode=mixed", "KilMode=mixed"),
        ("ExecStart=/opt/sotto/.venv/bin/sotto serve", "ExecStart=/opt/sotto/.venv/bin/soto serve"),
        ("SystemCallFilter=@system-service", "SystemCallFilter=@system-servise"),
        ("Type=exec", "Type=executable"),
    ],
)
def test_systemd_sees_a_planted_fault(analyse, right, wrong):
    assert right in UNIT
    done = analyse(UNIT.replace(right, wrong))
    assert done.returncode != 0 or "sotto.service" in done.stderr


def test_little_is_open_to_the_service(analyse):
    done = analyse(UNIT, "security", "--offline=true", "--no-pager")
    if "exposure level" not in done.stdout:
        pytest.skip("this systemd does not look into files (250 and newer do)")
    assert float(re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)[1]) <= MAX_EXPOSURE
    opened = analyse(UNIT.replace("CapabilityBoundingSet=\n", ""), "security", "--offline=true", "--no-pager")
    assert float(re.search(r"exposure level for \S+: ([\d.]+)", opened.stdout)[1]) > MAX_EXPOSURE


def test_the_gpu_drop_in_opens_the_devices_and_no_more(analyse):
    gpu = values((SYSTEMD / "gpu.conf").read_text())
    assert gpu["Service", "PrivateDevices"] == ["no"]
    assert {value.split()[0] for value in gpu["Service", "DeviceAllow"]} == {
        "char-nvidia",
        "char-nvidia-uvm",
        "char-nvidia-caps",
    }
    done = analyse(UNIT.replace("[Install]", (SYSTEMD / "gpu.conf").read_text() + "\n[Install]"))
    assert done.returncode == 0
    assert "sotto.service" not in done.stderr


def test_the_service_may_end_by_itself_before_it_is_killed():
    assert SERVICE["KillMode"] == "mixed"
    assert int(SERVICE["TimeoutStopSec"]) > 2 * STOP_TIMEOUT_S + EDGE_STOP_TIMEOUT_S
    assert SERVICE["Restart"] == "always"
    waits = SERVICE["ExecStartPost"].split()
    assert int(waits[waits.index("--wait") + 1]) < int(SERVICE["TimeoutStartSec"])
    assert (CHECKOUT / waits[3].removeprefix("/opt/sotto/")).is_file()


def test_nothing_forbids_what_ray_and_the_engines_do():
    assert "MemoryDenyWriteExecute" not in SERVICE
    assert "ProcSubset" not in SERVICE
    assert "NoExecPaths" not in SERVICE
    assert {"AF_UNIX", "AF_INET", "AF_NETLINK"} <= set(SERVICE["RestrictAddressFamilies"].split())


def test_every_setting_exists_and_may_be_written_where_it_says():
    lines = (SYSTEMD / "sotto.env").read_text() + UNIT.replace("Environment=", "\n").replace(
        " STT_", "\nSTT_"
    )
    names = re.findall(r"^#?STT_(\w+)=", lines, re.MULTILINE)
    assert len(names) > 5
    assert {name.lower() for name in names} <= Settings.model_fields.keys()
    assert f"STT_CACHE_DIR=/var/cache/{SERVICE['CacheDirectory']} " in UNIT


def test_a_reload_is_not_an_end():
    assert "-HUP" in SERVICE["ExecReload"]
    assert "SIGHUP" in (CHECKOUT / "serve_app" / "cli" / "serving.py").read_text()


def test_logs_are_rotated_where_the_unit_may_write_them(tmp_path):
    text = (SYSTEMD / "sotto.logrotate").read_text()
    assert text.count("{") == text.count("}") == 1
    assert f"/var/log/{SERVICE['LogsDirectory']}/*.log {{" in text
    assert f"su {SERVICE['User']} {SERVICE['Group']}" in text
    assert "systemctl reload sotto" in text
    if logrotate := shutil.which("logrotate"):
        file = tmp_path / "sotto"
        file.write_text(re.sub(r"su .*|create .*", "", text))
        assert subprocess.run([logrotate, "-d", file], capture_output=True).returncode == 0
