"""A server over HTTP that answers what a test says, in a thread: for commands, which run an event loop of their own."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Asked", "FakeRest", "problem", "served_rest"]


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    body: Any = None
    token: str | None = None


Answer = tuple[int, Any]


def problem(status: int, code: str, detail: str = "it is so") -> Answer:
    """Return a problem document."""
    return status, {"status": status, "code": code, "detail": detail}


@dataclass
class FakeRest:
    """Attributes:
    answers: what is answered to a method and path; a function is given the request.
    asked: every request, in order.
    """

    url: str = ""
    answers: dict[tuple[str, str], Answer | Callable[[Asked], Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Answer:
        """Return the answer to a request."""
        self.asked.append(asked)
        found = self.answers.get((asked.method, asked.path), problem(404, "not_found", f"{asked.method} {asked.path}"))
        return found(asked) if callable(found) else found

    @property
    def last(self) -> Asked:
        """The last request."""
        return self.asked[-1]


@contextmanager
def served_rest() -> Iterator[FakeRest]:
    """Serve in a thread."""
    rest = FakeRest()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            header = self.headers.get("Authorization")
            token = None if header is None else header.removeprefix("Bearer ")
            status, answer = rest.answer(Asked(self.command, self.path.removeprefix("/v1/"), body, token))
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    rest.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield rest
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
