"""Which server the client commands speak to: flags, else `STT_SERVICE_URL` and `STT_API_KEY`."""

from __future__ import annotations

from dataclasses import dataclass, field

from serve_app.cli.console import fail
from serve_app.clients.addresses import authorization, http_url
from serve_app.settings import SettingsError, read_some


@dataclass(frozen=True, slots=True)
class Server:
    """An address that was looked at, and the key, which is never shown."""

    url: str
    api_key: str | None = field(default=None, repr=False)


def find_server(url: str | None, api_key: str | None) -> Server:
    """The server that flags or settings name; a usage error where they are wrong."""
    try:
        settings = read_some(
            ("service_url", "api_key"), flags={"service_url": url or None, "api_key": api_key or None}
        )
        server = Server(settings.service_url, settings.secret("api_key") or None)
        http_url(server.url, "/")
        authorization(server.api_key)
    except (SettingsError, ValueError) as error:
        fail(str(error))
    return server
