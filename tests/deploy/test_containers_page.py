"""docs/containers.md names only what exists."""

import re
import subprocess
from pathlib import Path

import pytest
from dockerfile import parse_dockerfile

from serve_app.settings import Settings

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "containers.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_every_file_it_names_exists():
    named = set(re.findall(r"\b(?:deploy|k8s)/[\w./-]*\w", PAGE))
    named |= {f"docs/{link}" for link in re.findall(r"\]\((\w+\.md)\)", PAGE)}
    assert len(named) > 10
    assert [name for name in sorted(named) if not (CHECKOUT / name).exists()] == []


def test_every_file_of_the_folder_that_a_person_needs_is_named():
    for pattern in ("docker/Dockerfile*", "compose/*.yaml", "systemd/*", "nginx/sotto.conf", "haproxy/*"):
        for path in (CHECKOUT / "deploy").glob(pattern):
            assert path.name in PAGE, path


def test_every_setting_it_names_exists():
    named = {name.lower() for name in re.findall(r"\bSTT_(\w+)", PAGE)}
    assert named
    assert named <= Settings.model_fields.keys()


def test_the_build_arguments_are_those_of_the_dockerfiles():
    there = set()
    for name in ("Dockerfile", "Dockerfile.cuda"):
        text = (CHECKOUT / "deploy" / "docker" / name).read_text()
        there |= set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
        assert parse_dockerfile(text)
    table = PAGE.partition("| build argument | meaning |")[2].partition("\n\n")[0]
    named = {
        name
        for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", table, re.MULTILINE)
        for name in re.findall(r"\w+", row)
    }
    assert named == there


@pytest.mark.parametrize("block", BLOCKS)
def test_its_commands_are_such(block):
    assert subprocess.run(["bash", "-n"], input=block, text=True, timeout=60).returncode == 0


def test_what_the_image_writes_to_is_what_the_page_says():
    dockerfile = (CHECKOUT / "deploy" / "docker" / "Dockerfile").read_text()
    for folder in ("/var/cache/sotto", "/models"):
        assert f"`{folder}`" in PAGE
        assert folder in dockerfile
