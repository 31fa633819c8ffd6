"""Every place that the settings name is looked at."""

from pathlib import Path

import pytest

from serve_app.assembly import models
from serve_app.settings import Settings


def test_every_place_of_the_settings_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(models, "resolve_model", lambda name, **places: asked.append((name, places)))
    places = {"model_dir": "/models", "cache_dir": "/cache", "hf_home": "/hub", "hf_token": "a"}
    settings = Settings.from_dict({**places, "offline": False})
    models.find_model("base", settings)
    models.find_model("base", settings, offline=True)
    (name, given), (_, again) = asked
    paths = {place: given[place] for place in ("model_dir", "cache_dir", "hf_home")}
    assert paths == {"model_dir": Path("/models"), "cache_dir": Path("/cache"), "hf_home": Path("/hub")}
    assert (name, given["hf_token"], given["offline"], again["offline"]) == ("base", "a", False, True)
