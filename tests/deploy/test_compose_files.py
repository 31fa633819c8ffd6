"""The compose files: right for Docker Compose itself, by our rules, and beside code and cluster."""

import copy
import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from serve_app.launch.cluster import HAPROXY_METRICS_PORT, MIN_LOGICAL_CPUS, OBJECT_STORE_BYTES
from serve_app.settings import Settings

CHECKOUT = Path(__file__).parents[2]
COMPOSE = CHECKOUT / "deploy" / "compose"
FILE_SETS = {
    "one": ("compose.yaml",),
    "one with logs": ("compose.yaml", "--profile", "logs"),
    "gpu": ("compose.yaml", "-f", "compose.gpu.yaml"),
    "three": ("compose.three.yaml",),
}
GIVEN = {"GRAFANA_PASSWORD": "of-the-test", "STT_TICKET_SECRET": "of-the-test"}
BYTES = {"m": 1 << 20, "g": 1 << 30}


class Loader(yaml.SafeLoader):
    """Knows compose's own tags, which only matter where files are merged."""


for tag in ("!reset", "!override"):
    Loader.add_constructor(
        tag,
        lambda loader, node: (
            loader.construct_sequence(node, deep=True)
            if isinstance(node, yaml.SequenceNode)
            else loader.construct_scalar(node)
        ),
    )


def read(name):
    return yaml.load((COMPOSE / name).read_text(), Loader)


ONE = read("compose.yaml")
THREE = read("compose.three.yaml")


def default(text):
    """What `${NAME:-value}` is where NAME is not given."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def num_bytes(text):
    amount = default(text)
    return int(amount[:-1]) * BYTES[amount[-1].lower()]


def complaints(document):
    """One line for each rule that a service breaks; services that extend another are looked at there."""
    found = []
    for name, service in document["services"].items():
        if "extends" in service:
            continue
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        if not {"cpus", "memory"} <= limits.keys():
            found.append(f"{name}: no limit of cores and memory")
        if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get(
            "security_opt", []
        ):
            found.append(f"{name}: more rights than it needs")
        if not service.get("read_only"):
            found.append(f"{name}: its root file system can be written")
        tag = default(service["image"]).rpartition(":")[2]
        if tag == "latest" or "/" in tag:
            found.append(f"{name}: the image has no version")
        if service.get("ports") and "healthcheck" not in service:
            found.append(f"{name}: is reached from outside and has no health check")
        for port in service.get("ports", []):
            if not default(str(port)).startswith("127.0.0.1:"):
                found.append(f"{name}: {port} is open to the network")
        if any("noexec" in entry for entry in service.get("tmpfs", [])):
            found.append(f"{name}: HAProxy's start script could not run")
    return found


def test_every_service_keeps_the_rules():
    assert complaints(ONE) == []
    assert complaints(THREE) == []


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda one: one["sotto"]["deploy"]["resources"]["limits"].pop("memory"), "sotto: no limit"),
        (lambda one: one["redis"].pop("cap_drop"), "redis: more rights"),
        (lambda one: one["grafana"].pop("read_only"), "grafana: its root"),
        (lambda one: one["redis"].update(image="redis:latest"), "redis: the image"),
        (lambda one: one["sotto"].pop("healthcheck"), "sotto: is reached"),
        (lambda one: one["sotto"].update(ports=["8000:8000"]), "sotto: 8000:8000 is open"),
        (lambda one: one["sotto"].update(tmpfs=["/tmp:noexec"]), "sotto: HAProxy"),
    ],
)
def test_each_rule_is_seen_broken(spoil, complaint):
    spoilt = copy.deepcopy(ONE)
    spoil(spoilt["services"])
    assert [line for line in complaints(spoilt) if line.startswith(complaint)]


def configured(program, folder, *arguments, given=GIVEN):
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), **given}
    command = [
        program("docker-compose"),
        "--env-file",
        "/dev/null",
        "-f",
        *arguments,
        "config",
        "--format",
        "json",
    ]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("files", FILE_SETS.values(), ids=FILE_SETS)
def test_docker_compose_takes_them(program, files):
    done = configured(program, COMPOSE, *files)
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    mounts = [mount for service in services.values() for mount in service.get("volumes", [])]
    for mount in mounts:
        assert mount["type"] == "volume" or Path(mount["source"]).exists(), mount["source"]
    published = [port["published"] for service in services.values() for port in service.get("ports", [])]
    assert len(published) == len(set(published))


def test_docker_compose_gives_the_three_one_name_and_folders_of_their_own(program):
    services = json.loads(configured(program, COMPOSE, "compose.three.yaml").stdout)["services"]
    instances = [service for name, service in services.items() if name.startswith("sotto-")]
    assert len(instances) == 3
    assert all(service["networks"]["inside"]["aliases"] == ["sotto"] for service in instances)
    folders = [
        mount["source"] for service in instances for mount in service["volumes"] if mount["target"] == "/tmp"
    ]
    assert len(set(folders)) == 3
    assert not any(service.get("ports") for service in instances)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("healthcheck:", "helthcheck:"),
        ("memory: 384m", "memory: [384]"),
        ("condition: service_healthy", "condition: service_well"),
        ("- runtime:/tmp", "- runtimes:/tmp"),
    ],
)
def test_docker_compose_sees_a_planted_fault(program, tmp_path, right, wrong):
    text = (COMPOSE / "compose.yaml").read_text()
    assert right in text
    (tmp_path / "compose.yaml").write_text(text.replace(right, wrong, 1))
    assert configured(program, tmp_path, "compose.yaml").returncode != 0


def test_without_its_secrets_nothing_starts(program):
    for name, file in (("GRAFANA_PASSWORD", "compose.yaml"), ("STT_TICKET_SECRET", "compose.three.yaml")):
        done = configured(program, COMPOSE, file, given={key: GIVEN[key] for key in GIVEN if key != name})
        assert done.returncode != 0
        assert name in done.stderr


def test_every_setting_exists():
    documents = [ONE, THREE, read("compose.gpu.yaml")]
    names = {
        name
        for document in documents
        for service in document["services"].values()
        for name in service.get("environment", {})
        if name.startswith("STT_")
    }
    names |= set(re.findall(r"^(STT_\w+)=", (COMPOSE / "env.example").read_text(), re.MULTILINE))
    assert names
    assert {name.removeprefix("STT_").lower() for name in names} <= Settings.model_fields.keys()


def test_the_service_has_room_for_ray():
    sotto = ONE["services"]["sotto"]
    assert num_bytes(sotto["shm_size"]) > OBJECT_STORE_BYTES
    assert int(default(sotto["command"][-1])) >= MIN_LOGICAL_CPUS
    limits = sotto["deploy"]["resources"]["limits"]
    assert default(limits["cpus"]) == default(sotto["environment"]["STT_NUM_WORKERS"])
    assert "noexec" not in ONE["volumes"]["runtime"]["driver_opts"]["o"]


def test_redis_holds_no_more_than_it_may():
    redis = ONE["services"]["redis"]
    command = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
    assert command["--maxmemory-policy"] == "volatile-lru"
    assert command["--appendonly"] == "no"
    assert command["--save"] == ""
    limit = num_bytes(redis["deploy"]["resources"]["limits"]["memory"])
    assert num_bytes(command["--maxmemory"].replace("mb", "m")) < limit
    assert "ports" not in redis
    assert redis["networks"] == ["inside"]
    assert ONE["networks"]["inside"]["internal"]


def test_prometheus_asks_for_what_answers():
    config = yaml.safe_load((COMPOSE / "prometheus" / "prometheus.yml").read_text())
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "sotto")
    (names,) = job["dns_sd_configs"]
    assert names["names"] == ["sotto"]
    assert names["port"] == Settings().port != HAPROXY_METRICS_PORT
    assert THREE["services"]["sotto-1"]["networks"]["inside"]["aliases"] == names["names"]


def rules_module():
    spec = importlib.util.spec_from_file_location("compose_rules", COMPOSE / "rules.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_rules_are_those_of_the_cluster():
    assert rules_module().main(["--check"]) == 0, "run deploy/compose/rules.py"


def test_a_changed_rule_is_noticed():
    module = rules_module()
    manifests = module.SOURCE.read_text()
    assert module.rules_file(manifests.replace(" > 1\n", " > 2\n")) != module.TARGET.read_text()
    with pytest.raises(ValueError, match="no PrometheusRule"):
        module.rules_file("kind: ConfigMap")


def test_grafana_finds_dashboards_and_their_data():
    (provider,) = yaml.safe_load(
        (COMPOSE / "grafana" / "provisioning" / "dashboards" / "sotto.yaml").read_text()
    )["providers"]
    mounts = dict(entry.split(":")[:2][::-1] for entry in ONE["services"]["grafana"]["volumes"])
    folder = (COMPOSE / mounts[provider["options"]["path"]]).resolve()
    dashboards = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert dashboards
    sources = yaml.safe_load(
        (COMPOSE / "grafana" / "provisioning" / "datasources" / "sotto.yaml").read_text()
    )
    default_types = [each["type"] for each in sources["datasources"] if each.get("isDefault")]
    for dashboard in dashboards:
        variables = {each["name"]: each for each in dashboard["templating"]["list"]}
        assert variables["datasource"]["query"] in default_types
