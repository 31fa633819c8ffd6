"""OpenAI's Realtime doors: `WS /v1/realtime?intent=transcription`, and secrets for browsers to open it with.

`POST /v1/realtime/client_secrets` makes them; so does the beta's `/v1/realtime/transcription_sessions`. A
secret brings the settings it was made with into the socket that it opens.
"""

from __future__ import annotations

import secrets
import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from serve_app.access.caller import Caller
from serve_app.core.errors import SottoError
from serve_app.protocols.openai.client_secrets import (
    BETA_LIFETIME_S,
    MAX_BODY_BYTES,
    ClientSecret,
    ExpiresAfter,
    SecretRequest,
    issue_secret,
    secret_request,
    verify_secret,
)
from serve_app.protocols.openai.errors import RefusedParameter
from serve_app.protocols.openai.handshake import REALTIME_PATH, Handshake, read_handshake
from serve_app.protocols.openai.models import hosted_model
from serve_app.protocols.openai.realtime import RealtimeDialect
from serve_app.protocols.openai.realtime_frames import shown_beta_session, shown_session
from serve_app.protocols.openai.realtime_records import ClientSecret as ClientSecretAnswer
from serve_app.protocols.openai.realtime_session import (
    DEFAULT_SESSION,
    RealtimeSession,
    decode_session,
    merged,
)
from serve_app.web.callers import caller_of
from serve_app.web.door import Door, Endpoints
from serve_app.web.errors import refuse
from serve_app.web.live.serve import serve_websocket
from serve_app.web.records import RecordResponse, small_body


def realtime_endpoints(door: Door) -> Endpoints:
    signing_key = door.signing_key

    async def realtime(websocket: WebSocket) -> None:
        try:
            dialect, handshake = realtime_dialect(websocket, door, signing_key)
        except SottoError as error:
            await refuse(websocket.scope, websocket.receive, websocket.send, error)
            return
        await serve_websocket(websocket, door, dialect, subprotocol=handshake.subprotocol)

    async def client_secrets(request: Request) -> Response:
        asked = secret_request(await small_body(request, MAX_BODY_BYTES, RefusedParameter))
        value, secret = _new_secret(asked, signing_key, caller_of(request.scope))
        session, name = merged(DEFAULT_SESSION, secret.settings), secret.nonce
        shown = shown_session(session, f"sess_{name}", secret.expires_at)
        return RecordResponse(ClientSecretAnswer(value=value, expires_at=secret.expires_at, session=shown))

    async def transcription_sessions(request: Request) -> Response:
        body = await small_body(request, MAX_BODY_BYTES, RefusedParameter) or b"{}"
        session = merged(DEFAULT_SESSION, decode_session(body))
        asked = SecretRequest(ExpiresAfter(seconds=BETA_LIFETIME_S), msgspec.Raw(body))
        value, secret = _new_secret(asked, signing_key, caller_of(request.scope))
        session_id = f"sess_{secret.nonce}"
        return RecordResponse(shown_beta_session(session, session_id, secret.expires_at, secret=value))

    return {
        "openaiRealtime": realtime,
        "createClientSecret": client_secrets,
        "createTranscriptionSession": transcription_sessions,
    }


def realtime_dialect(
    websocket: WebSocket, door: Door, signing_key: bytes
) -> tuple[RealtimeDialect, Handshake]:
    """The dialect of one Realtime socket, before it is accepted with the handshake's subprotocol.

    A client secret of ours brings the settings it was made with. Raises `RefusedParameter` and
    `ModelNotFound`.
    """
    headers = websocket.headers
    handshake = read_handshake(
        websocket.query_params.multi_items(),
        authorization=headers.get("authorization", ""),
        beta_header=headers.get("openai-beta", ""),
        subprotocols=websocket.scope.get("subprotocols", []),
    )
    session = DEFAULT_SESSION
    if handshake.model is not None:
        hosted_model(handshake.model, door.service.status().models)
        session = RealtimeSession(model=handshake.model)
    now_s = time.time()
    secret = verify_secret(signing_key, handshake.token or "", now_s)
    if secret is not None:
        session = merged(session, secret.settings)
    dialect = RealtimeDialect(
        secrets.token_hex(6),
        session,
        beta=handshake.beta,
        expires_at=int(now_s + door.settings.max_session_s),
        check_model=lambda name: hosted_model(
            name, door.service.status().models, param="session.audio.input.transcription.model"
        ),
    )
    return dialect, handshake


def secret_owner(key: str, path: str, signing_key: bytes) -> str | None:
    """The id of the key that a client secret was made with; None where `key` is none of ours, has expired, or
    `path` is another than the Realtime socket's."""
    secret = verify_secret(signing_key, key, time.time()) if path == REALTIME_PATH else None
    return None if secret is None else secret.key_id


def _new_secret(asked: SecretRequest, key: bytes, caller: Caller) -> tuple[str, ClientSecret]:
    expires_at = int(time.time()) + asked.expires_after.seconds
    secret = ClientSecret(expires_at, secrets.token_hex(12), asked.session, caller.key_id)
    return issue_secret(key, secret), secret
