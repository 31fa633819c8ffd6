"""serveConfigV2 is serve_config.yaml but for two values, and says so when it is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from planting import Built

from k8s import serve_config
from k8s.check.manifests import of_kind
from k8s.serve_config import SOURCES, in_cluster
from serve_app.launch.gpu_plan import many_cards

CHECKOUT = serve_config.ROOT.parent
IN_CLUSTER = {("proxy_location",), ("http_options", "host")}
GRAPHS = {
    "single-gpu": "serve_config.yaml",
    "multi-gpu": "serve_config.yaml",
    "air-gapped": "serve_config.yaml",
    "cpu": "serve_config.cpu.yaml",
}


def declared(source: str) -> dict[str, Any]:
    return yaml.safe_load((CHECKOUT / source).read_text())


def differences(one: Any, other: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where two configurations differ, lists item by item."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            if key not in one or key not in other:
                yield (*path, str(key))
            else:
                yield from differences(one[key], other[key], (*path, str(key)))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, (*path, str(index)))
    elif one != other:
        yield path


def test_the_committed_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve_config.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(("overlay", "source"), GRAPHS.items())
def test_host_and_proxy_location_alone_differ(overlay: str, source: str, built: Built) -> None:
    (service,) = of_kind(built(overlay), "RayService")
    deployed = yaml.safe_load(service["spec"]["serveConfigV2"])
    expected = many_cards(declared(source)) if overlay == "multi-gpu" else declared(source)
    assert set(differences(expected, deployed)) <= IN_CLUSTER
    assert deployed["http_options"]["host"] == "0.0.0.0"
    assert deployed["proxy_location"] == "EveryNode"


@pytest.mark.parametrize("source", SOURCES.values())
def test_making_it_changes_neither_order_nor_source(source: str) -> None:
    config = declared(source)
    made = in_cluster(config)
    assert config == declared(source)
    assert list(made) == list(config)
    assert made["applications"] == config["applications"]


def test_a_difference_is_named_by_its_place() -> None:
    config = declared("serve_config.yaml")
    other = in_cluster(config)
    other["applications"][0]["deployments"][1]["max_ongoing_requests"] = 7
    del other["logging_config"]["encoding"]
    assert set(differences(config, other)) - IN_CLUSTER == {
        ("applications", "0", "deployments", "1", "max_ongoing_requests"),
        ("logging_config", "encoding"),
    }


def test_a_deployment_more_is_a_difference() -> None:
    config = declared("serve_config.yaml")
    other = in_cluster(config)
    other["applications"][0]["deployments"].append({"name": "Diarization"})
    assert ("applications", "0", "deployments") in set(differences(config, other))


def test_a_stale_file_is_named_and_written(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "k8s"
    for component, source in SOURCES.items():
        (root / "components" / component).mkdir(parents=True)
        (root / "overlays" / "multi-gpu").mkdir(parents=True, exist_ok=True)
        (tmp_path / source).write_text((CHECKOUT / source).read_text())
    monkeypatch.setattr(serve_config, "ROOT", root)
    assert serve_config.main([]) == 0
    assert serve_config.main(["--check"]) == 0
    changed = (tmp_path / "serve_config.yaml").read_text().replace("port: 8000", "port: 8001")
    (tmp_path / "serve_config.yaml").write_text(changed)
    capsys.readouterr()
    assert serve_config.main(["--check"]) == 1
    assert "graph-gpu/serve_config.yaml is not what" in capsys.readouterr().out
    assert "port: 8000" in (root / "components/graph-gpu/serve_config.yaml").read_text()
