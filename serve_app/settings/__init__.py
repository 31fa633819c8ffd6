"""Settings: one frozen record, read once where the graph is built, with every name that it accepts."""

from serve_app.settings.define import SettingsError
from serve_app.settings.load import ALIASES, FLAGS, env_name, load_settings, read_settings, read_some
from serve_app.settings.model import Settings

__all__ = [
    "ALIASES",
    "FLAGS",
    "Settings",
    "SettingsError",
    "env_name",
    "load_settings",
    "read_settings",
    "read_some",
]
