"""Backups over HTTP, for administrators: make one, see how far it is, list them, take one away as a stream.

A backup is never removed by a request: whoever has stolen an administrator's token could leave nothing to go back to.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import msgspec
from starlette.responses import Response

from syncline_protocol.audit import AuditOutcome
from syncline_protocol.limits import SEQ_MAX
from syncline_protocol.messages import Milliseconds
from syncline_server.access.authority import Action
from syncline_server.backups import Backup, Kind
from syncline_server.storage.base import StorageUnavailable

from .accounts.acting import path_text, record, require_admin
from .call import Call, json_response
from .operation import JSON, Answer, Header, Operation
from .problem import Refusal
from .stream import Stream, Wait

__all__ = ["BACKUPS", "SQLITE"]

SQLITE = "application/vnd.sqlite3"

_PIECE_BYTES = 256 * 1024

_Bytes = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]


class BackupBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """A backup. Of one under way, `done` of `total` tells how far its state has come, 0 of an unknown whole."""

    name: str
    kind: Kind
    state: Literal["copying", "checking", "ready", "failed"]
    time: Milliseconds
    done: _Bytes = 0
    total: _Bytes = 0
    bytes: _Bytes = 0
    error: str = ""


class BackupsBody(msgspec.Struct, frozen=True):
    """All backups, the newest first."""

    backups: tuple[BackupBody, ...]


def _body(backup: Backup) -> BackupBody:
    return BackupBody(**{name: getattr(backup, name) for name in BackupBody.__struct_fields__})


async def _make(call: Call) -> Response:
    require_admin(call.principal)
    backups, actor = call.backups, call.principal.name
    has_log = call.api.accounts is not None
    if has_log and not backups.is_running:
        await record(call, "backup.make", None, actor=actor, outcome="begun")
        require_admin(call.principal)

    async def note(name: str, outcome: AuditOutcome) -> None:
        if has_log:
            await record(call, "backup.make", name, actor=actor, outcome=outcome)

    backup, is_new = backups.begin("manual", note)
    return json_response(_body(backup), 202 if is_new else 200)


async def _list(call: Call) -> Response:
    require_admin(call.principal)
    return json_response(BackupsBody(tuple([_body(backup) for backup in call.backups.all()])))


async def _get(call: Call) -> Response:
    require_admin(call.principal)
    backup = call.backups.get(path_text(call, "backup"))
    if backup is None:
        raise _unknown()
    return json_response(_body(backup))


async def _download(call: Call) -> Response:
    _require_reader(call)
    name = path_text(call, "backup")
    path = call.backups.path(name)
    if path is None:
        raise _unknown()
    if call.api.accounts is not None:
        await record(call, "backup.read", name, actor=call.principal.name)
        _require_reader(call)
    size = await asyncio.to_thread(_size_of, path)
    first = _first_of(call, size)

    async def pieces(wait: Wait) -> AsyncGenerator[bytes, None]:
        with _open(path) as file:
            file.seek(first)
            while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
                yield piece

    headers = {
        "Content-Length": str(size - first),
        "Content-Disposition": f'attachment; filename="{name}"',
        "Accept-Ranges": "bytes",
    }
    if not first:
        return Stream(call, pieces, SQLITE, headers)
    stream = Stream(call, pieces, SQLITE, {**headers, "Content-Range": f"bytes {first}-{size - 1}/{size}"})
    stream.status_code = 206
    return stream


def _require_reader(call: Call) -> None:
    """Let administrators pass whose token may also read: every record of every store is in the file."""
    require_admin(call.principal)
    if "read" not in call.principal.scopes:
        raise Refusal("forbidden", "a token without the scope read cannot do this", hint="use one that has it")


def _size_of(path: Path) -> int:
    with _open(path) as file:
        return os.fstat(file.fileno()).st_size


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        # It may have been rotated away just now.
        raise StorageUnavailable(f"the backup {path.name} cannot be read: {error.strerror}") from error


def _first_of(call: Call, size: int) -> int:
    """Return from which byte on it is asked for. Other ranges than those to the end are answered with the whole."""
    text = call.request.headers.get("range", "").strip().lower().removeprefix("bytes=")
    first = text.removesuffix("-")
    if first == text or not first.isascii() or not first.isdecimal() or len(first) > 16:
        return 0
    return int(first) if int(first) < size else 0


def _unknown() -> Refusal:
    return Refusal("not_found", "there is no backup of this name, or it is not ready", hint="look at the list")


_REFUSALS = ("unauthenticated", "forbidden", "unsupported", "storage_unavailable", "storage_full")

BACKUPS: tuple[Operation, ...] = (
    Operation(
        name="listBackups",
        method="GET",
        path="/v1/backups",
        handler=_list,
        summary="List the backups that the server keeps, and one that is under way or failed last",
        action=Action.ADMINISTER,
        answers=(Answer(200, "the backups, the newest first", {JSON: (BackupsBody,)}),),
        refusals=_REFUSALS,
    ),
    Operation(
        name="makeBackup",
        method="POST",
        path="/v1/backups",
        handler=_make,
        summary="Begin a backup of everything as it is now, unless one is under way",
        action=Action.ADMINISTER,
        description=(
            "The backup goes on after the answer: look at it until its state is `ready` or `failed`. Before it is "
            "ready it was read back and checked completely."
        ),
        answers=(
            Answer(202, "it was begun", {JSON: (BackupBody,)}),
            Answer(200, "this one is under way already", {JSON: (BackupBody,)}),
        ),
        refusals=_REFUSALS,
    ),
    Operation(
        name="getBackup",
        method="GET",
        path="/v1/backups/{backup}",
        handler=_get,
        summary="Look at a backup: its state, and how far it has come",
        action=Action.ADMINISTER,
        answers=(Answer(200, "the backup", {JSON: (BackupBody,)}),),
        refusals=(*_REFUSALS, "not_found"),
    ),
    Operation(
        name="downloadBackup",
        method="GET",
        path="/v1/backups/{backup}/file",
        handler=_download,
        summary="Download a backup that is ready: the file that `syncline restore` takes",
        action=Action.ADMINISTER,
        headers=(Header("Range", "`bytes=N-` goes on at byte N, after a download that was broken off"),),
        answers=(
            Answer(200, "the file", {SQLITE: ()}),
            Answer(206, "the rest of the file", {SQLITE: ()}, {"Content-Range": "which bytes these are"}),
        ),
        refusals=(*_REFUSALS, "not_found", "overloaded"),
    ),
)
