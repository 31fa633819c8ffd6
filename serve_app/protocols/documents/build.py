"""All doors in documents for machines: OpenAPI 3.1 of the HTTP ones, AsyncAPI 3.0 of the WebSocket ones.

What is read and what is written is described by the codecs' own types; tests hold the documents to the app's
routes and to the golden files.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from serve_app.access.caller import Scope
from serve_app.protocols.documents.components import Components, Schema
from serve_app.protocols.doors import Answer, Channel, Described, Form, Message, Operation, Query

Document: TypeAlias = dict[str, Any]

_ABOUT: Final = (
    "Self-hosted speech-to-text, live and for recordings. docs/api.md shows how every door is used."
)
_LICENSE: Final = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
_BINARY: Final[Schema] = {"type": "string", "format": "binary"}
_TAGS: Final = {
    "recordings": "Our own doors for recordings.",
    "jobs": "Recordings that wait in a queue, and webhooks.",
    "clips": "Recordings that are stored here for a time, and what transcribes them.",
    "openai": "OpenAI's doors, for its clients.",
    "deepgram": "Deepgram's door, for its clients.",
    "access": "Short-lived tokens, where the service has keys.",
    "service": "Probes, status and metrics.",
}


STATUS_MEANINGS: Final = {
    400: "A parameter, a body or audio that cannot be understood.",
    401: "No key, or one that is unknown, expired or revoked; where the service has keys.",
    403: "The key does not open this door, or the address may not come in.",
    404: "Nothing of that name or id is here, or is yours.",
    408: "The body came too slowly.",
    409: "The session id or the idempotency key is in use, or this server stores no recordings.",
    413: "Larger or longer than the server takes.",
    414: "An address that is too long: what is long goes into the body.",
    415: "No audio, or a container that is not allowed.",
    429: "The key or the address has used what it may: try again after `retry-after` seconds.",
    500: "A model failed; the same may succeed.",
    503: "Full, or no model is loaded yet: try again after `retry-after` seconds.",
    504: "Not done within the server's limit: try again after `retry-after` seconds.",
}
CLOSE_CODES: Final = MappingProxyType(
    {
        1000: "Done, cancelled, idle for too long or open for too long.",
        1003: "A container that is not allowed.",
        1008: "Refused: the key, what the address or the audio says, too many errors, or too much not read.",
        1009: "A frame over the limit.",
        1011: "Our fault.",
        1012: "The server restarts: resume, or start again.",
        1013: "Full, or as much as may be used: try again.",
        4400: "`/asr`, and `/ws` in WhisperLiveKit's protocol: parameters that make no sense.",
    }
)


def openapi_document(version: str, doors: Iterable[Described]) -> Document:
    """The HTTP ones of `doors` as OpenAPI 3.1; addresses are relative to the document's own."""
    components = Components()
    paths: dict[str, Any] = {}
    for operation in (door for door in doors if isinstance(door, Operation)):
        methods = paths.setdefault(operation.documented_path, {})
        methods[operation.method] = _operation(operation, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sotto", "version": version, "description": _ABOUT, "license": _LICENSE},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.schemas.items())),
            "securitySchemes": _SECURITY_SCHEMES,
        },
        "security": [{}, *({name: []} for name in _SECURITY_SCHEMES)],
    }


def asyncapi_document(
    version: str, doors: Iterable[Described], host: str = "127.0.0.1:8000", *, secure: bool = False
) -> Document:
    """The live ones of `doors` as AsyncAPI 3.0, served at `host`; the server is the application described."""
    components = Components(discriminators=False)
    messages: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for channel in (door for door in doors if isinstance(door, Channel)):
        both = (*channel.received, *channel.sent)
        for message in both:
            messages.setdefault(_key(channel, message), _message(channel, message, components))
        channels[channel.name] = _channel(channel, components)
        for action, some in (("receive", channel.received), ("send", channel.sent)):
            operations[f"{action}{channel.name[0].upper()}{channel.name[1:]}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{channel.name}"},
                "messages": [
                    {"$ref": f"#/channels/{channel.name}/messages/{_key(channel, m)}"} for m in some
                ],
            }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Sotto",
            "version": version,
            "description": _ABOUT,
            "license": {"name": _LICENSE["name"]},
        },
        "defaultContentType": "application/json",
        "servers": {"here": {"host": host, "protocol": "wss" if secure else "ws"}},
        "channels": channels,
        "operations": operations,
        "components": {"schemas": dict(sorted(components.schemas.items())), "messages": messages},
    }


# -- OpenAPI ---------------------------------------------------------------------------------------


_SECURITY_SCHEMES: Final[Document] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
"""A key, where the service has one."""


def _operation(operation: Operation, components: Components) -> Document:
    document: Document = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": _responses(operation, components),
    }
    if operation.description:
        document["description"] = operation.description
    parameters = [_path_parameter(name) for name in _path_names(operation.documented_path)]
    if operation.query is not None:
        parameters += _query_parameters(operation.query, components, operation.prefix)
    if parameters:
        document["parameters"] = parameters
    if content := _body(operation, components):
        required = operation.json is None and not operation.may_be_empty
        document["requestBody"] = {"required": required, "content": content}
    return document


def _path_names(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _path_parameter(name: str) -> Document:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameters(query: Query, components: Components, prefix: str) -> list[Document]:
    properties, required = _query_properties(query, components, prefix)
    parameters = []
    for name, field in properties.items():
        schema = {key: value for key, value in field.items() if key != "description"}
        parameter = {"name": name, "in": "query", "required": name in required, "schema": schema}
        if "description" in field:
            parameter["description"] = field["description"]
        parameters.append(parameter)
    return parameters


def _query_properties(
    query: Query, components: Components, prefix: str
) -> tuple[dict[str, Schema], frozenset[str]]:
    properties, required = components.fields(query.record, prefix)
    kept = {name: field for name, field in properties.items() if name not in query.without}
    for name, meaning in query.repeated.items():
        kept[name] = {"type": "array", "items": {"type": "string"}, "description": meaning}
    return kept, required


def _body(operation: Operation, components: Components) -> Document:
    content: Document = {}
    if operation.form is not None:
        content["multipart/form-data"] = {"schema": _form(operation.form, components, operation.prefix)}
    for media_type in operation.audio:
        content[media_type] = {"schema": {}}
    if operation.json is not None:
        content["application/json"] = {"schema": components.schema(operation.json, operation.prefix)}
    return content


def _form(form: Form, components: Components, prefix: str) -> Schema:
    fields, required = components.fields(form.record, prefix)
    properties: dict[str, Schema] = {
        "file": {"description": "The recording."} | {"contentMediaType": "application/octet-stream"}
    }
    for name, field in fields.items():
        properties[name] = field
        if name in form.lists:
            properties[f"{name}[]"] = field
    properties |= {name: {"type": "string", "description": text} for name, text in form.more.items()}
    return {"type": "object", "properties": properties, "required": ["file", *sorted(required)]}


def _responses(operation: Operation, components: Components) -> Document:
    responses = {
        str(answer.status): _response(answer, components, operation.prefix) for answer in operation.answers
    }
    refusals: list[int] = []
    if operation.needs_key or operation.scope is Scope.METRICS:
        refusals += [401, 403]
    if operation.needs_key:
        refusals.append(429)
    if (operation.form or operation.audio or operation.json) and not operation.is_live:
        refusals.append(408)
    if operation.query is not None:
        refusals.append(414)
    for status in sorted({*operation.errors, *refusals}):
        error = Answer(status, STATUS_MEANINGS[status], operation.error)
        response = _response(error, components, operation.prefix)
        if status in (429, 503, 504):
            response["headers"] = {
                "retry-after": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
            }
        responses[str(status)] = response
    return responses


def _response(answer: Answer, components: Components, prefix: str) -> Document:
    content: Document = {}
    if answer.record is not None:
        content["application/json"] = {"schema": components.schema(answer.record, prefix)}
    for media_type in answer.texts:
        content[media_type] = {"schema": {"type": "string"}}
    for media_type, record in answer.streams.items():
        content[media_type] = {"schema": components.schema(record, prefix)}
    return {"description": answer.meaning, "content": content}


# -- AsyncAPI --------------------------------------------------------------------------------------


def _key(channel: Channel, message: Message) -> str:
    """The name of a message in the document; what says the same on two channels has one."""
    family = channel.prefix or "Native"
    audio = f".{channel.name}" if message.record is None else ""
    return f"{family}.{message.name}{audio}"


def _channel(channel: Channel, components: Components) -> Document:
    properties: dict[str, Schema] = {}
    for query in channel.queries:
        properties |= _query_properties(query, components, channel.prefix)[0]
    both = (*channel.received, *channel.sent)
    return {
        "address": channel.path,
        "title": channel.summary,
        "messages": {_key(channel, m): {"$ref": f"#/components/messages/{_key(channel, m)}"} for m in both},
        "bindings": {"ws": {"method": "GET", "query": {"type": "object", "properties": properties}}},
        "x-close-codes": {str(code): meaning for code, meaning in CLOSE_CODES.items()},
    }


def _message(channel: Channel, message: Message, components: Components) -> Document:
    if message.record is None:
        return {
            "name": message.name,
            "summary": message.summary,
            "contentType": "application/octet-stream",
            "payload": _BINARY,
        }
    schema = components.schema(message.record, channel.prefix)
    described = components.schemas[schema["$ref"].rpartition("/")[2]].get("description", "")
    return {
        "name": message.name,
        "summary": message.summary or described or message.name,
        "payload": schema,
    }
