"""The console: the files of the page at `/`, read once at the start and served from memory.

Nothing but its own files may run in it: its policy allows scripts, styles and connections of this origin only, so that
a record's value that looks like a script stays a text.
"""

from collections.abc import Callable, Coroutine
from hashlib import blake2b
from importlib.resources import files
from typing import Any

from starlette.responses import Response

from syncline_server.access.authority import Action

from .call import Call
from .operation import Answer, Operation

__all__ = ["console_operations"]

_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
}

_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


def console_operations() -> list[Operation]:
    """Return an operation for each file of the console: `index.html` at `/`, the others below `console/`."""
    operations = []
    for file in sorted(files("syncline_server").joinpath("console").iterdir(), key=lambda file: file.name):
        media_type = _MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            path = "/" if file.name == "index.html" else f"/console/{file.name}"
            operations.append(_operation(path, file.read_bytes(), media_type))
    return operations


def _operation(path: str, content: bytes, media_type: str) -> Operation:
    return Operation(
        name="getConsole",
        method="GET",
        path=path,
        handler=_handler(content, media_type),
        summary="A file of the console",
        action=Action.ANYTHING,
        answers=(Answer(200, "the file"),),
        always=True,
    )


def _handler(content: bytes, media_type: str) -> Callable[[Call], Coroutine[Any, Any, Response]]:
    headers = {**_HEADERS, "ETag": f'"{blake2b(content, digest_size=12).hexdigest()}"'}

    async def serve(call: Call) -> Response:
        if call.has_etag(headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return serve
