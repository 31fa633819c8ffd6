"""deploy/docker/check_install.py's machinery, on a Dockerfile of a few lines; the real one takes minutes."""

from pathlib import Path

import pytest
from check_install import BareFolder, InstallError, needs_root
from dockerfile import parse_dockerfile

pytestmark = pytest.mark.slow

FEW_LINES = """\
ARG PYTHON_IMAGE=python:3.11
FROM ${PYTHON_IMAGE} AS install
WORKDIR /opt/sotto
COPY pyproject.toml ./
COPY graphs/ graphs/
ARG NAME="nobody"
RUN python -c "import os, pathlib; pathlib.Path('/opt/said').write_text('$NAME ' + os.getcwd())"
FROM ${PYTHON_IMAGE} AS service
RUN apt-get update && apt-get install --yes tini
COPY --from=install /opt/sotto /opt/sotto
ENV PATH=/opt/venv/bin:$PATH STT_MODEL_DIR=/models
FROM service AS late
RUN echo never > /opt/late
"""


def run(tmp_path, text=FEW_LINES, arguments=None):
    folder = BareFolder(tmp_path, arguments or {})
    folder.run_stages(parse_dockerfile(text), "service")
    return folder


def test_steps_run_under_the_folder_and_those_of_root_are_named(tmp_path):
    folder = run(tmp_path, arguments={"NAME": "somebody"})
    assert (tmp_path / "opt/said").read_text() == f"somebody {tmp_path}/opt/sotto"
    assert (tmp_path / "opt/sotto/pyproject.toml").is_file()
    assert (tmp_path / "opt/sotto/graphs/full.py").is_file()
    assert not list((tmp_path / "opt/sotto").rglob("__pycache__"))
    assert not (tmp_path / "opt/late").exists()
    assert folder.skipped == ["line 9: apt-get update ..."]


def test_a_file_that_is_not_sent_to_the_build_is_missing(tmp_path):
    with pytest.raises(InstallError, match="keeps tests/ out"):
        run(tmp_path, FEW_LINES.replace("COPY graphs/ graphs/", "COPY tests/ tests/"))


def test_a_step_that_fails_ends_it_with_its_words(tmp_path):
    with pytest.raises(InstallError, match=r"line 7: status 1(.|\n)*ZeroDivisionError"):
        run(tmp_path, FEW_LINES.replace("import os, pathlib;", "1 / 0;"))


def test_a_step_in_a_pipe_may_fail_too(tmp_path):
    with pytest.raises(InstallError, match="status 3"):
        run(tmp_path, FEW_LINES.replace("RUN python", "RUN (exit 3) | cat; python"))


def test_only_paths_of_the_image_are_moved(tmp_path):
    moved = BareFolder(tmp_path, {}).moved
    assert moved("/opt/venv/bin/pip --to /models") == f"{tmp_path}/opt/venv/bin/pip --to {tmp_path}/models"
    assert moved("STT_CACHE_DIR=/tmp/joined") == f"STT_CACHE_DIR={tmp_path}/tmp/joined"
    assert moved("https://host/opt a/tmp /usr/bin") == "https://host/opt a/tmp /usr/bin"


def test_no_python_of_this_machine_is_on_the_path(tmp_path):
    folder = BareFolder(tmp_path, {})
    said = folder.run("command -v python; echo $PATH", {"PATH": "/opt/venv/bin:"}, "test").split()
    assert Path(said[0]) == tmp_path / "bin/python"
    assert said[1] == f"{tmp_path}/opt/venv/bin:{tmp_path}/bin:/usr/bin:/bin"


def test_what_only_root_can_do_is_left_out():
    assert needs_root("apt-get update && apt-get install --yes tini")
    assert needs_root("printf x > /etc/ld.so.conf.d/y && ldconfig")
    assert not needs_root("/opt/venv/bin/pip install --require-hashes -r requirements/runtime.txt")
