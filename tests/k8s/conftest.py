"""The overlays, built once; tests that need them are skipped where no kustomize is found."""

from __future__ import annotations

import copy

import pytest
from planting import Built

from k8s.check.kustomize import OVERLAYS, find_kustomize, overlay_names


@pytest.fixture(scope="session")
def built() -> Built:
    kustomize = find_kustomize()
    if kustomize is None:
        pytest.skip("no kustomize 5 or kubectl: requirements/kubectl.txt has one")
    overlays = {name: kustomize.build(OVERLAYS / name) for name in overlay_names()}
    return lambda name: copy.deepcopy(overlays[name])
