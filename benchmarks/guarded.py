"""A server on which everybody logs in: started, set up, with users, tokens and grants, as an administrator does it."""

import re
import time
from pathlib import Path

from .load import LoadError
from .server import Server
from .wire import hello

__all__ = ["GuardedServer", "Limits"]

Limits = dict[str, object]

#: Far more than a benchmark asks for, of everything that is bounded for one client.
_ROOMY = (
    *("--auth", "accounts", "--connections-per-address-max", "1000000", "--connections-per-user-max", "1000000"),
    *("--pending-max", "1000000", "--pending-per-address-max", "1000000"),
    *("--messages-per-s", "1000000", "--message-bytes-per-s", "1000000000", "--requests-per-s", "100000"),
)
_SETUP_CODE = re.compile(r"#setup=(syncline_c_[\w-]+)")
_SETUP_TIMEOUT_S = 10.0


class GuardedServer(Server):
    """`syncline serve --auth accounts` with an administrator, who makes all requests. The file is a new one."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, flags=_ROOMY)
        try:
            body = {"code": self._setup_code(), "user": "root", "password": "correct horse battery staple"}
            self.token = str(self.request("POST", "/v1/setup", body)["token"])
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> "GuardedServer":
        return self

    def _setup_code(self) -> str:
        deadline = time.monotonic() + _SETUP_TIMEOUT_S
        while (found := _SETUP_CODE.search(self.log.read_text())) is None:
            if time.monotonic() > deadline:
                raise LoadError(f"no setup code was printed; {self.failure()}")
            time.sleep(0.01)
        return found[1]

    def create_store(self) -> "GuardedServer":
        super().create_store()
        return self

    def new_user(self, name: str) -> bytes:
        """Make a user with a token that does not end. Returns the HELLO that he says."""
        self.request("PUT", f"/v1/users/{name}", {})
        return hello(str(self.new_token(name)["secret"]))

    def new_token(self, user: str) -> dict[str, object]:
        """Make a personal token."""
        return self.request("POST", "/v1/tokens", {"title": "benchmark", "user": user})

    def grant(self, to: str, store: str, role: str, limits: Limits | None = None) -> str:
        """Grant something. Returns the id of the grant."""
        body = {"to": to, "store": store, "role": role, "limits": limits or {}}
        return str(self.request("POST", "/v1/grants", body)["id"])

    def revoke(self, grant: str) -> None:
        """Take a grant back."""
        self.request("DELETE", f"/v1/grants/{grant}")
