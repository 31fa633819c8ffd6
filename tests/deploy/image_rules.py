"""What an image of ours must keep to, beyond what hadolint knows, as complaints about its Dockerfile."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from dockerfile import Stage, lineage

COMPILERS = ("build-essential", "gcc", "g++", "clang", "make", "cmake", "cargo", "git")
LABELS = ("title", "description", "licenses", "version", "revision")
SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|API_KEY)\b", re.IGNORECASE)


def complaints(stages: Sequence[Stage], *, is_base: bool = True) -> list[str]:
    """One line for each rule that is broken. An image that is laid over another (`is_base` false) inherits
    entry point, health check and most labels."""
    final = lineage(stages, stages[-1].name)
    found = [*_of_installs(stages), *_of_secrets(stages), *_of_user(final), *_of_packages(final)]
    if len(stages) < 2:
        found.append("one stage only: what is needed to install stays in the image")
    return found + (_of_process(final) if is_base else [])


def _of_installs(stages: Sequence[Stage]) -> Iterator[str]:
    for stage in stages:
        for command in stage.values("RUN"):
            for words in re.findall(r"\bpip install\b([^;&|]*)", command):
                is_ours = "--no-deps" in words and "--editable" in words
                if "--require-hashes" not in words and not is_ours:
                    yield f"stage {stage.name}: `pip install{words.rstrip()}` does not check hashes"
        if stage.values("ADD"):
            yield f"stage {stage.name}: ADD fetches and unpacks by itself: use COPY"
        for sources in stage.values("COPY"):
            if sources.split()[0] in (".", "./", "/"):
                yield f"stage {stage.name}: copies everything there is"


def _of_secrets(stages: Sequence[Stage]) -> Iterator[str]:
    for stage in stages:
        for value in stage.values("ARG") + stage.values("ENV"):
            if SECRET.search(value):
                yield f"stage {stage.name}: {value.split('=')[0]} would be kept in the image"


def _of_user(final: Sequence[Stage]) -> Iterator[str]:
    users = [user for stage in final for user in stage.values("USER")]
    if not users:
        yield "runs as root"
    elif not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1]):
        yield f"the last USER is {users[-1]!r}: Kubernetes can only tell by a number that it is not root"


def _of_packages(final: Sequence[Stage]) -> Iterator[str]:
    for stage in final:
        for command in stage.values("RUN"):
            words = command.split()
            if "apt-get" in words and "/var/lib/apt/lists" not in command:
                yield f"stage {stage.name}: leaves apt's lists in the image"
            if "apt-get" in words:
                heavy = [word for word in words if word in COMPILERS or word.endswith("-dev")]
                yield from (f"stage {stage.name}: brings {word}" for word in heavy)


def _of_process(final: Sequence[Stage]) -> list[str]:
    found = []
    for keyword in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        values = [value for stage in final for value in stage.values(keyword)]
        if not values:
            found.append(f"has no {keyword}")
        elif not _is_exec_form(values[-1].partition("CMD ")[2] if keyword == "HEALTHCHECK" else values[-1]):
            found.append(f"{keyword} is in shell form: a shell does not hand signals on")
    labels = " ".join(value for stage in final for value in stage.values("LABEL"))
    found += [f"has no label {name}" for name in LABELS if f"org.opencontainers.image.{name}=" not in labels]
    return found


def _is_exec_form(value: str) -> bool:
    try:
        words = json.loads(value)
    except ValueError:
        return False
    return isinstance(words, list) and all(isinstance(word, str) for word in words)
