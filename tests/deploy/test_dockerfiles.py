"""The two Dockerfiles and what is sent to their builds, checked without Docker."""

import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import pytest
from dockerfile import (
    DockerfileError,
    among,
    environment,
    files_of,
    lineage,
    parse_dockerfile,
    sent_to_build,
)
from image_rules import complaints

import serve_app

CHECKOUT = Path(__file__).parents[2]
DOCKER = CHECKOUT / "deploy" / "docker"
CPU = (DOCKER / "Dockerfile").read_text()
CUDA = (DOCKER / "Dockerfile.cuda").read_text()
IGNORE = (CHECKOUT / ".dockerignore").read_text()


def names(*paths):
    return [str(path) for path in sent_to_build(IGNORE, map(PurePosixPath, paths))]


def test_both_images_keep_the_rules():
    assert complaints(parse_dockerfile(CPU)) == []
    assert complaints(parse_dockerfile(CUDA), is_base=False) == []


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("USER 1000:1000", "USER sotto", "the last USER is 'sotto'"),
        ("USER 1000:1000", "", "runs as root"),
        (
            "--require-hashes --only-binary :all: -r requirements/runtime.txt",
            "-r requirements/runtime.txt",
            "hashes",
        ),
        ("recommends tini", "recommends gcc tini", "brings gcc"),
        ("    && rm -rf /var/lib/apt/lists/* \\\n", "", "leaves apt's lists"),
        (
            'ENTRYPOINT ["/usr/bin/tini", "--", "sotto"]',
            "ENTRYPOINT tini -- sotto",
            "ENTRYPOINT is in shell form",
        ),
        ('CMD ["serve"]', "CMD serve", "CMD is in shell form"),
        (
            "HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=3",
            "LABEL",
            "has no HEALTHCHECK",
        ),
        ("COPY graphs/ graphs/", "COPY . .", "copies everything"),
        ("COPY graphs/ graphs/", "ADD graphs/ graphs/", "ADD fetches"),
        ('ARG EXTRAS=""', "ARG HF_TOKEN", "HF_TOKEN would be kept"),
        ("org.opencontainers.image.revision", "revision", "has no label revision"),
    ],
)
def test_each_rule_is_seen_broken(right, wrong, complaint):
    assert right in CPU
    spoilt = CPU.replace(right, wrong)
    assert any(complaint in line for line in complaints(parse_dockerfile(spoilt)))


def test_a_dockerfile_that_cannot_be_read_is_refused():
    for text in ("RUN true", "FROM a\nrun true", "FROM a\nRUN true \\"):
        with pytest.raises(DockerfileError):
            parse_dockerfile(text)


@pytest.mark.parametrize("text", [CPU, CUDA])
def test_every_file_that_is_copied_is_there_and_sent(text):
    sent = sent_to_build(IGNORE, files_of(CHECKOUT))
    for stage in parse_dockerfile(text):
        for instruction in stage.instructions:
            for source in instruction.copied:
                assert among(sent, source), source


def test_what_is_secret_large_or_made_here_is_not_sent():
    assert not names(
        ".env",
        "serve_app/.env.local",
        ".git/config",
        ".venv/bin/python",
        "audio/spoken/visit.flac",
        "deploy/compose/.env",
        "serve_app/web/__pycache__/app.cpython-311.pyc",
        "tests/conftest.py",
    )
    assert names("serve_app/web/app.py", "requirements/runtime.txt", "README.md", "requirements/x/y.txt") == [
        "serve_app/web/app.py",
        "requirements/runtime.txt",
        "README.md",
    ]


def test_one_folder_forgotten_in_dockerignore_is_noticed():
    spoilt = IGNORE.replace("!graphs\n", "")
    assert not [file for file in sent_to_build(spoilt, files_of(CHECKOUT)) if file.parts[0] == "graphs"]


def test_what_is_baked_in_is_what_the_service_asks_for():
    """The models' stage and the final one take the same build arguments to the same settings."""
    given = {"MODEL": "small", "INTERIM_MODEL": "tiny", "FINAL_MODEL": ""}
    stages = parse_dockerfile(CPU)
    final = environment(lineage(stages, stages[-1].name), given)
    pull = next(stage for stage in stages if stage.name == "models").values("RUN")[0]
    for name in given:
        assert final[f"STT_{name}"] == given[name]
        assert f'STT_{name}="${name}"' in pull
    assert final["STT_MODEL_DIR"] == "/models"
    assert final["STT_HOST"] == "0.0.0.0"


def test_the_python_is_one_that_we_support_and_the_same_in_both():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["requires-python"]
    bases = {stages[0].base for stages in map(parse_dockerfile, (CPU, CUDA))}
    assert len(bases) == 1
    minor = int(bases.pop().partition("python:3.")[2].partition("-")[0])
    low, high = (int(part.partition("3.")[2]) for part in project.split(","))
    assert low <= minor < high


def test_the_version_is_the_packages_own():
    assert f"ARG VERSION={serve_app.__version__}\n" in CPU


def test_every_extra_is_a_file_of_hashes():
    for extra in ("engines", "speakers", "speaker_models"):
        assert "--hash=sha256:" in (CHECKOUT / "requirements" / f"{extra}.txt").read_text()


def test_the_cuda_image_brings_what_ctranslate2_loads_and_no_more():
    spec = find_spec("ctranslate2")
    libraries = list(Path(spec.origin).parents[1].glob("ctranslate2.libs/libctranslate2*")) if spec else []
    if not libraries:
        pytest.skip("ctranslate2 of this platform has no library to look into")
    binary = libraries[0].read_bytes()
    assert b"libcublas.so.12" in binary
    assert b"libcudnn" not in binary
    locked = (DOCKER / "cuda.txt").read_text()
    assert "nvidia-cublas-cu12==12." in locked
    assert "cudnn" not in locked


def test_hadolint_has_no_complaint_and_sees_a_planted_one(program, tmp_path):
    hadolint = program("hadolint")
    files = [DOCKER / "Dockerfile", DOCKER / "Dockerfile.cuda"]
    done = subprocess.run([hadolint, *files], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    spoilt = tmp_path / "Dockerfile"
    spoilt.write_text(CPU.replace("    && rm -rf /var/lib/apt/lists/* \\\n", ""))
    done = subprocess.run([hadolint, spoilt], capture_output=True, text=True, timeout=60)
    assert "DL3009" in done.stdout
