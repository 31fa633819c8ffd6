from pathlib import Path

import pytest

from serve_app.launch.deploy_config import (
    DeployConfigError,
    app_names,
    app_settings,
    for_one_machine,
    http_address,
    read_deploy_config,
    with_replicas,
)

TEXT = """
proxy_location: EveryNode
http_options: {host: 0.0.0.0, port: 8000, request_timeout_s: null}
applications:
  - name: one
    import_path: a:b
    args: {profile: cpu, settings: {language: en, model: base}}
    deployments:
      - {name: Ingress, autoscaling_config: {min_replicas: 1}}
  - import_path: c:d
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "serve.yaml"
    path.write_text(TEXT)
    return path


def test_read(path: Path) -> None:
    config = read_deploy_config(path)
    assert http_address(config) == ("0.0.0.0", 8000)
    assert app_names(config) == ("one", "default")
    assert app_settings(config) == {"language": "en", "model": "base"}


def test_for_one_machine_changes_a_copy(path: Path, tmp_path: Path) -> None:
    config = read_deploy_config(path)
    changed = for_one_machine(
        config, host="127.0.0.1", port=9, settings={"model": "tiny"}, env_file=tmp_path / ".env"
    )
    assert changed["proxy_location"] == "HeadOnly"
    assert changed["http_options"] == {"host": "127.0.0.1", "port": 9, "request_timeout_s": None}
    assert changed["applications"][0]["args"] == {
        "profile": "cpu",
        "settings": {"language": "en", "model": "tiny"},
        "env_file": str(tmp_path / ".env"),
    }
    assert config == read_deploy_config(path)


def test_without_changes_the_arguments_stay(path: Path) -> None:
    config = read_deploy_config(path)
    changed = for_one_machine(config, host="h", port=1)
    assert changed["applications"][0]["args"] == config["applications"][0]["args"]


def test_with_replicas(path: Path) -> None:
    config = with_replicas(read_deploy_config(path), "Ingress", 3)
    assert config["applications"][0]["deployments"] == [{"name": "Ingress", "num_replicas": 3}]
    config = with_replicas(config, "Other", 2)
    assert config["applications"][0]["deployments"][1] == {"name": "Other", "num_replicas": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "no valid YAML"),
        ("just text", "no list of `applications`"),
        ("applications: []", "no list of `applications`"),
        ("applications: [{name: x}]", "needs an `import_path`"),
        ("applications: [3]", "needs an `import_path`"),
    ],
)
def test_unusable_files_say_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    with pytest.raises(DeployConfigError, match=message):
        read_deploy_config(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DeployConfigError, match="cannot read"):
        read_deploy_config(tmp_path / "gone.yaml")
