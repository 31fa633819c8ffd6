"""Where a key's holder gets short-lived tokens: `POST /auth/token` and Deepgram's `/v1/auth/grant`."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from serve_app.access.tokens import issue_token
from serve_app.protocols.deepgram import grant
from serve_app.protocols.native import tokens
from serve_app.web.callers import caller_of
from serve_app.web.door import Door, Endpoint
from serve_app.web.records import RecordResponse, small_body

_NO_STORE = {"cache-control": "no-store"}


def token_endpoint(door: Door) -> Endpoint:
    async def token(request: Request) -> Response:
        asked = tokens.token_request(await small_body(request, tokens.MAX_BODY_BYTES))
        caller, now_s = caller_of(request.scope), time.time()
        scopes = tokens.granted_scopes(asked, caller)
        text = issue_token(door.signing_key, caller.key_id, scopes, asked.lifetime_s, now_s)
        answer = tokens.TokenAnswer(
            token=text, expires_at=int(now_s + asked.lifetime_s), scopes=sorted(scopes)
        )
        return RecordResponse(answer, headers=_NO_STORE)

    return token


def grant_endpoint(door: Door) -> Endpoint:
    async def grant_token(request: Request) -> Response:
        asked = grant.grant_request(await small_body(request, tokens.MAX_BODY_BYTES))
        caller, lifetime_s = caller_of(request.scope), asked.lifetime_s
        scopes = grant.granted_scopes(caller)
        text = issue_token(door.signing_key, caller.key_id, scopes, lifetime_s, time.time())
        return RecordResponse(grant.GrantAnswer(access_token=text, expires_in=lifetime_s), headers=_NO_STORE)

    return grant_token
