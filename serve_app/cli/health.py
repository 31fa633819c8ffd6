"""`sotto health`: is a running server well, for cron and monitoring programs; changes are told to Slack."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from serve_app.cli.client import Server
from serve_app.cli.console import plain, warn
from serve_app.models.places import DEFAULT_CACHE_DIR
from sotto_client.addresses import authorization, http_url, is_loopback

SLOW_S = 5.0
MAX_BODY_BYTES = 1024 * 1024


class State(StrEnum):
    WELL = "well"
    DEGRADED = "degraded"
    DOWN = "down"


EXIT_STATUS = {State.WELL: 0, State.DEGRADED: 1, State.DOWN: 2}
"""As monitoring plug-ins (Nagios, Icinga) say well, warning and critical."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`reasons` say why it is not well; `response_s`: how long `GET /health` took, None without an answer."""

    state: State
    reasons: tuple[str, ...] = ()
    response_s: float | None = None
    active_sessions: int | None = None
    max_sessions: int | None = None

    def sentence(self, url: str) -> str:
        parts = [f"Sotto at {url} is {self.state.upper() if self.state is State.DOWN else self.state}"]
        if self.reasons:
            parts.append(f": {', '.join(self.reasons)}")
        elif self.response_s is not None:
            parts.append(f": answered in {self.response_s:.3f} s")
        if self.active_sessions is not None and self.max_sessions:
            parts.append(f"; {self.active_sessions} of {self.max_sessions} sessions")
        return "".join(parts)


def check_health(
    server: Server,
    *,
    timeout_s: float,
    slack_webhook: str | None,
    as_json: bool,
    state_dir: Path | None = None,
) -> int:
    """Look, say it, tell Slack where it has changed; the exit status."""
    finding = look(server, timeout_s)
    url = shown_address(server.url)
    if as_json:
        body = {"url": url, "state": finding.state.value, "reasons": list(finding.reasons)}
        figures = ("response_s", "active_sessions", "max_sessions")
        plain(json.dumps(body | {name: getattr(finding, name) for name in figures}))
    else:
        plain(finding.sentence(url))
    if slack_webhook:
        memory = Memory(state_dir or DEFAULT_CACHE_DIR.expanduser() / "health", url)
        if finding.state is not memory.last() and (
            not tell_slack(slack_webhook, finding.sentence(url), timeout_s) or not memory.keep(finding.state)
        ):
            warn("Slack will be told again at the next check")
    return EXIT_STATUS[finding.state]


def look(server: Server, timeout_s: float) -> Finding:
    """Ask the probes; never raises for what the server does."""
    headers = authorization(server.api_key)
    try:
        with _client(server.url, timeout_s, headers) as client:
            began_s = time.monotonic()
            alive = _get(client, http_url(server.url, "/health"))
            response_s = time.monotonic() - began_s
            status = _get(client, http_url(server.url, "/status"))
    except httpx.TimeoutException:
        return Finding(State.DOWN, (f"no answer within {timeout_s:g} s",))
    except httpx.HTTPError as error:
        return Finding(State.DOWN, (f"it cannot be reached ({type(error).__name__})",))
    if alive.status != httpx.codes.OK:
        return Finding(State.DOWN, (f"GET /health answers {alive.status}",), response_s)
    reasons = list(_complaints(alive, status))
    if response_s > SLOW_S:
        reasons.append(f"GET /health took {response_s:.1f} s")
    config = status.at("config")
    return Finding(
        State.DEGRADED if reasons else State.WELL,
        tuple(reasons),
        round(response_s, 4),
        status.number("connections"),
        config["max_sessions"] if isinstance(config, dict) and "max_sessions" in config else None,
    )


def _complaints(alive: _Answer, status: _Answer) -> list[str]:
    found = []
    if alive.at("status") != "healthy":
        found.append("its models are not loaded")
    elif status.at("accepting_requests") is False:
        found.append("it takes no new sessions")
    pressure = status.at("backpressure")
    if isinstance(pressure, dict) and pressure.get("level") == "critical":
        found.append("backpressure is critical")
    return found


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: Mapping[str, Any]

    def at(self, name: str) -> Any:
        return self.body.get(name)

    def number(self, name: str) -> int | None:
        value = self.body.get(name)
        return value if isinstance(value, int) else None


def _get(client: httpx.Client, url: str) -> _Answer:
    """The status and the JSON object, empty where there is none or too much of it."""
    with client.stream("GET", url) as response:
        body = bytearray()
        for part in response.iter_bytes():
            body += part
            if len(body) > MAX_BODY_BYTES:
                return _Answer(response.status_code, {})
    try:
        parsed = json.loads(bytes(body))
    except ValueError:
        parsed = {}
    return _Answer(response.status_code, parsed if isinstance(parsed, dict) else {})


def _client(url: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> httpx.Client:
    return httpx.Client(timeout=timeout_s, headers=headers, trust_env=not is_loopback(url))


def tell_slack(webhook: str, text: str, timeout_s: float) -> bool:
    """Whether the message was taken; why not is said without the address, which is a secret."""
    try:
        with _client(webhook, timeout_s) as client:
            answer = client.post(webhook, json={"text": text})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        warn(f"Slack could not be told ({type(error).__name__})")
        return False
    if answer.is_error:
        warn(f"Slack could not be told (HTTP {answer.status_code})")
    return not answer.is_error


class Memory:
    """The state that was told last, in a file; what cannot be read counts as well."""

    def __init__(self, folder: Path, url: str) -> None:
        self._path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.json"

    def last(self) -> State:
        try:
            return State(json.loads(self._path.read_text(encoding="utf-8"))["state"])
        except (OSError, ValueError, KeyError, TypeError):
            return State.WELL

    def keep(self, state: State) -> bool:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps({"state": state.value}), encoding="utf-8")
        except OSError as error:
            warn(f"what Slack was told cannot be kept: {error.strerror}")
            return False
        return True


def shown_address(url: str) -> str:
    """The address without a user's name and password."""
    parts = urlsplit(http_url(url, ""))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
