"""The OpenAPI document, made from the table of operations and the structs of the bodies: it has no life of its own.

Refusals are grouped by their HTTP status, each status with the codes that it can carry there. A stream's line or
event has its schema under `x-itemSchema`, since version 3.1 has no word for it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from syncline_protocol.errors import ERROR_CODES
from syncline_server.access.authority import Action

from .bodies import Problem
from .operation import JSON, Answer, Operation, Parameter
from .problem import PROBLEM_TYPE

__all__ = ["Document", "openapi_document", "refusals_of"]

Document = dict[str, Any]

_REF = "#/components/schemas/{name}"

#: What every operation may be refused with: for its parameters, its origin, its credentials, or how often it comes.
_ALWAYS = (
    "unknown_parameter",
    "origin_refused",
    "internal",
    "unauthenticated",
    "token_in_url",
    "rate_limited",
    "overloaded",
)

_PATH_PARAMETERS = {
    "store": "the name of a store",
    "index": "the name of an index",
    "key": "the key of a record, percent-encoded: a slash in it is written %2F",
    "user": "the name of a user",
    "group": "the name of a group",
    "token": "the id of a token, not its text",
    "grant": "the id of a grant",
    "invitation": "the id of an invitation, not its code",
    "backup": "the name of a backup, as the list has it",
}

_DESCRIPTION = """\
Stores of records that are added and deleted, never changed, and a log of these changes that anyone follows without a \
gap. The same by WebSocket is in `asyncapi.json` beside this document. Refusals are `application/problem+json`; \
`code` names them, `retry` says whether the same request may work later."""


def refusals_of(operation: Operation) -> list[str]:
    """Return every code with which an operation may refuse a request."""
    codes = {*operation.refusals, *_ALWAYS}
    if not operation.is_for_anybody:
        codes |= {"token_expired", "forbidden"}
    if operation.action is Action.WRITE:
        codes.add("quota_exceeded")
    if operation.parameters:
        codes.add("bad_message")
    if not operation.always:
        codes.add("drain")
    if operation.body is not None:
        codes |= {"media_type_unsupported", "too_large", "body_timeout"}
    return [code for code in ERROR_CODES if code in codes]


def openapi_document(operations: Sequence[Operation], *, version: str) -> Document:
    """Return the document of these operations."""
    schemas = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        item = paths.setdefault(operation.path, _path_item(operation.path))
        item[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Syncline",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "..", "description": "the server that this document came from"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {code: _problem([code]) for code in ("not_found", "method_not_allowed")},
        },
    }


def _schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    contents = chain.from_iterable(answer.content.values() for op in operations for answer in op.answers)
    structs = {struct for structs in contents for struct in structs} | {Problem}
    structs |= {op.body.schema for op in operations if op.body is not None and op.body.schema is not None}
    _, schemas = msgspec.json.schema_components(sorted(structs, key=lambda kind: kind.__name__), ref_template=_REF)
    return schemas


def _ref(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=struct.__name__)}


def _path_item(path: str) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", path)
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": {"type": "string"},
        }
        for name in names
    ]
    return {"parameters": parameters} if parameters else {}


def _operation(operation: Operation) -> dict[str, Any]:
    document: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    if operation.description:
        document["description"] = operation.description
    parameters = [_parameter(parameter) for parameter in operation.parameters]
    parameters += [
        {"name": header.name, "in": "header", "description": header.description, "schema": {"type": "string"}}
        for header in operation.headers
    ]
    if parameters:
        document["parameters"] = parameters
    if operation.body is not None:
        schema = {} if operation.body.schema is None else _ref(operation.body.schema)
        document["requestBody"] = {
            "description": operation.body.description,
            "required": True,
            "content": {JSON: {"schema": schema}},
        }
    document["responses"] = _responses(operation)
    return document


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.kind}
    if parameter.kind != "string":
        schema |= {"minimum": parameter.minimum, "maximum": parameter.maximum}
    if parameter.default is not None:
        schema["default"] = parameter.default
    return {"name": parameter.name, "in": "query", "description": parameter.description, "schema": schema}


# --- answers ---


def _responses(operation: Operation) -> dict[str, Any]:
    responses = {str(answer.status): _answer(answer) for answer in operation.answers}
    by_status: dict[str, list[str]] = {}
    for code in refusals_of(operation):
        by_status.setdefault(str(ERROR_CODES[code].http_status), []).append(code)
    for status, codes in by_status.items():
        refusal = _problem(codes)
        answer = responses.setdefault(status, refusal)
        if answer is not refusal:
            answer["description"] += f"; or {refusal['description']}"
            answer["content"] |= refusal["content"]
    return dict(sorted(responses.items()))


def _answer(answer: Answer) -> dict[str, Any]:
    document: dict[str, Any] = {"description": answer.description}
    if answer.content:
        document["content"] = {
            media_type: _content(media_type, structs) for media_type, structs in answer.content.items()
        }
    if answer.headers:
        document["headers"] = {
            name: {"description": description, "schema": {"type": "string"}}
            for name, description in answer.headers.items()
        }
    return document


def _content(media_type: str, structs: Sequence[type[msgspec.Struct]]) -> dict[str, Any]:
    if media_type == JSON and not structs:
        return {"schema": {"type": "object"}}
    if media_type == JSON:
        return {"schema": _ref(structs[0])}
    content: dict[str, Any] = {"schema": {"type": "string"}}
    if structs:
        content["x-itemSchema"] = {"anyOf": [_ref(struct) for struct in structs]}
    return content


def _problem(codes: Iterable[str]) -> dict[str, Any]:
    codes = list(codes)
    narrowed: Mapping[str, Any] = {
        "properties": {"code": {"enum": codes}, "status": {"const": ERROR_CODES[codes[0]].http_status}}
    }
    return {
        "description": "; ".join(f"`{code}`: {ERROR_CODES[code].meaning}" for code in codes),
        "content": {PROBLEM_TYPE: {"schema": {"allOf": [_ref(Problem), narrowed]}}},
    }
