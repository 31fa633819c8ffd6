"""`sotto privacy delete`: deletion on request, by the running service."""

from __future__ import annotations

import httpx

from serve_app.cli.client import Server
from serve_app.cli.console import FAILED, OK, complain, plain
from serve_app.protocols.data_doors import DATA_PATH
from sotto_client.addresses import authorization, http_url

TIMEOUT_S = 300.0


def delete_data(server: Server, what: dict[str, str], *, audit: bool) -> int:
    """Print what is gone, by store; 1 where something may be left."""
    query = what | ({"audit": "true"} if audit else {})
    url = http_url(server.url, DATA_PATH)
    try:
        headers = authorization(server.api_key)
        answer = httpx.request(
            "DELETE", url, params=query, headers=headers, timeout=TIMEOUT_S, trust_env=False
        )
        body = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        complain(f"{server.url} does not answer: {type(error).__name__}")
        return FAILED
    if "erased" not in body:
        complain(str(body.get("error", {}).get("message") or body.get("detail") or answer.status_code))
        return FAILED
    for name, num_things in body["erased"].items():
        plain(f"{name}: {num_things} erased")
    for name in body["failed"]:
        complain(f"{name}: something may be left; ask once more")
    if not body["erased"] and not body["failed"]:
        plain("nothing is kept here that could be erased")
    return FAILED if body["failed"] else OK
