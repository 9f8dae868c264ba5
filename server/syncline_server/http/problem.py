"""Refusals as `application/problem+json` (RFC 9457), from the same table of codes as ERROR (PROTOCOL 10.1).

Whatever a handler raises becomes one of these in one place, `refusal_of`; nothing of the server's inside and nothing
of a value ever gets into the text.

    Refusal     this request is answered with a problem
"""

from collections.abc import Mapping
from math import ceil

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from syncline_protocol.errors import ERROR_CODES, ProtocolError
from syncline_server.accounts.error import AccountError
from syncline_server.answers import error_code_of
from syncline_server.storage.base import StorageError

from .bodies import Problem

__all__ = ["PROBLEM_TYPE", "RETRY_AFTER_S", "Refusal", "problem_response", "refusal_of", "too_often"]

PROBLEM_TYPE = "application/problem+json"

#: What `Retry-After` says with the codes that may work later. A storage is tried again twice a second.
RETRY_AFTER_S = 1


class Refusal(Exception):
    """Args:
    code: a key of ERROR_CODES.
    detail: what is wrong with this request.
    hint: what the reader can do about it.
    headers: further headers of the answer.
    fields: further members of the problem, fields of `Problem`.
    """

    def __init__(
        self, code: str, detail: str, *, hint: str = "", headers: Mapping[str, str] | None = None, **fields: object
    ) -> None:
        assert code in ERROR_CODES, code
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.hint = hint
        self.headers = dict(headers or {})
        self.fields = fields


def too_often(wait_s: float, detail: str) -> Refusal:
    """Return the refusal of what came too early; it may come after so many seconds."""
    headers = {"Retry-After": str(ceil(wait_s))}
    return Refusal("rate_limited", detail, hint="wait as long as Retry-After says", headers=headers)


def refusal_of(error: Exception) -> Refusal:
    """Return what is told to the client about something that was raised."""
    match error:
        case Refusal():
            return error
        case ProtocolError():
            return Refusal(error.code, error.message, hint=error.hint)
        case AccountError():
            return Refusal(error.code, error.message, hint=error.hint)
        case StorageError():
            return Refusal(error_code_of(error), error.message, hint=error.hint)
        case HTTPException(status_code=404):
            return Refusal("not_found", "there is no such route", hint="the routes are listed in v1/openapi.json")
        case _:
            return Refusal("internal", "the server failed; its log says more")


def problem_response(refusal: Refusal) -> Response:
    """Return the answer that carries a refusal."""
    rule = ERROR_CODES[refusal.code]
    problem = Problem(
        type=f"urn:syncline:error:{refusal.code}",
        title=rule.meaning,
        status=rule.http_status,
        detail=refusal.detail,
        code=refusal.code,
        retry=rule.retry,
        hint=refusal.hint,
        **refusal.fields,  # type: ignore[arg-type]
    )
    headers = {"Cache-Control": "no-store", **refusal.headers}
    if rule.retry:
        headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    if refusal.code == "drain":
        headers["Connection"] = "close"
    return Response(msgspec.json.encode(problem), rule.http_status, headers, PROBLEM_TYPE)
