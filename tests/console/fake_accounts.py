"""A server with accounts that only plays: the routes of accounts and access over plain dictionaries, and one feed.

The console's flows are tried against it, because a test can see here what was asked (`requests`), decide what is
answered, and let the socket say or close what a real server says only after hours. It checks who is logged in, not who
may do what; that the real server understands the console is shown in `test_accounts_end_to_end.py`.
"""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from .server import free_port
from .test_files import FILES

__all__ = ["SETUP_CODE", "FakeServer"]

SETUP_CODE = "syncline_c_setup"
Body = dict[str, Any]
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Refused(Exception):
    """Args: the HTTP status, the code and the detail of the problem that is answered."""


class FakeServer:
    """Use it in a `with`; change its attributes while it runs."""

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.users: dict[str, Body] = {}
        self.passwords: dict[str, str] = {}
        self.groups: dict[str, list[str]] = {}
        self.tokens: dict[str, Body] = {}
        self.grants: dict[str, Body] = {}
        self.invitations: dict[str, Body] = {}
        self.codes: dict[str, str] = {}
        self.sessions: dict[str, str] = {}
        self.stores: dict[str, list[Body]] = {}
        self.public: set[str] = set()
        self.roles: dict[str, str] = {}
        self.refuses_removals = False
        self.entries: list[Body] = []
        self.oidc = False
        self.requests: list[tuple[str, str, Body | None]] = []
        self._numbers = count(1)
        self._sockets: dict[WebSocket, str | None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        app = Starlette(routes=[*_file_routes(), *self._routes(), WebSocketRoute("/v1/ws", self._serve_socket)])
        port = int(self.url.rpartition(":")[2])
        config = uvicorn.Config(app, port=port, log_level="error", ws="websockets-sansio", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> "FakeServer":
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started and time.monotonic() < deadline:
            self._thread.join(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(20)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve()

    # --- what a test does ---

    def add_user(self, name: str, *, admin: bool = False, **fields: object) -> None:
        """Make an account whose password is `password of NAME`."""
        self.users[name] = {"user": name, "kind": "user", "title": "", "admin": admin, "disabled": False, "oidc": False}
        self.users[name] |= {"created_ms": 1_700_000_000_000, "login_ms": None} | fields
        self.passwords[name] = f"password of {name}"

    def add_store(self, name: str, *changes: Body) -> None:
        """Make a store with changes that have `key`, `value` and perhaps `by`."""
        now_ms = int(time.time() * 1000)
        known = {"op": "ADD", "time": now_ms}
        self.stores[name] = [{"seq": seq, **known, **change} for seq, change in enumerate(changes, 1)]

    def add_grant(self, to: str, store: str, role: str) -> None:
        """Give access as `ada` does."""
        self._add_grant({"to": to, "store": store, "role": role, "limits": {}}, "ada")

    def say(self, **message: object) -> None:
        """Send a message on every socket."""
        self._on_loop(lambda socket: socket.send_json(message))

    def close_sockets(self, code: int, reason: str = "") -> None:
        """Close every socket."""
        self._on_loop(lambda socket: socket.close(code, reason))

    def socket_users(self) -> list[str | None]:
        """Return who is logged in on each open socket."""
        return list(self._sockets.values())

    def asked(self, method: str, path: str) -> list[Body | None]:
        """Return the bodies of all requests for a route."""
        return [body for each, at, body in list(self.requests) if (each, at) == (method, path)]

    def _on_loop(self, act: Callable[[WebSocket], Awaitable[None]]) -> None:
        async def to_all() -> None:
            for socket in list(self._sockets):
                await act(socket)

        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(to_all(), self._loop).result(10)

    # --- routes ---

    def _routes(self) -> list[Route]:
        table: list[tuple[str, str, Callable[[Request, Body], Any]]] = [
            ("GET", "/v1/me", self._me),
            ("POST", "/v1/login", lambda _, body: self._log_in(body["user"], body["password"])),
            ("POST", "/v1/logout", self._log_out),
            ("POST", "/v1/password", self._change_password),
            ("POST", "/v1/setup", self._set_up),
            ("GET", "/v1/stores", self._list_stores),
            ("PUT", "/v1/stores/{name}", self._refuse_store),
            ("GET", "/v1/users", lambda *_: {"users": list(self.users.values())}),
            ("PUT", "/v1/users/{name}", self._put_user),
            ("DELETE", "/v1/users/{name}", lambda at, _: self.users.pop(at.path_params["name"])),
            ("GET", "/v1/groups", lambda *_: {"groups": [self._group(name) for name in self.groups]}),
            ("PUT", "/v1/groups/{name}", self._put_group),
            ("DELETE", "/v1/groups/{name}", lambda at, _: {"members": self.groups.pop(at.path_params["name"])}),
            ("PUT", "/v1/groups/{name}/members/{user}", self._add_member),
            ("DELETE", "/v1/groups/{name}/members/{user}", self._remove_member),
            ("GET", "/v1/tokens", self._list_tokens),
            ("POST", "/v1/tokens", self._add_token),
            ("DELETE", "/v1/tokens/{id}", lambda at, _: self.tokens.pop(at.path_params["id"])),
            ("GET", "/v1/grants", self._list_grants),
            ("POST", "/v1/grants", lambda at, body: self._add_grant(body, self._user_of(at))),
            ("DELETE", "/v1/grants/{id}", self._remove_grant),
            ("GET", "/v1/invitations", lambda *_: {"invitations": list(self.invitations.values())}),
            ("POST", "/v1/invitations", self._add_invitation),
            ("DELETE", "/v1/invitations/{id}", lambda at, _: self.invitations.pop(at.path_params["id"])),
            ("POST", "/v1/invitations/accept", self._accept),
            ("GET", "/v1/audit", self._audit),
        ]
        return [Route(path, self._endpoint(act), methods=[method]) for method, path, act in table]

    def _endpoint(self, act: Callable[[Request, Body], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            text = await request.body()
            body = json.loads(text) if text else None
            self.requests.append((request.method, request.url.path, body))
            try:
                if request.url.path == "/v1/users" and self._user_of(request) is None:
                    raise Refused(401, "unauthenticated", "nobody is logged in")
                answer = act(request, dict(body or {}))
            except Refused as refusal:
                status, code, detail = refusal.args
                problem = {"status": status, "code": code, "detail": detail, "hint": f"hint of {code}", "title": code}
                return JSONResponse(problem, status, media_type="application/problem+json")
            return answer if isinstance(answer, Response) else JSONResponse(answer)

        return serve

    def _user_of(self, request: Request | WebSocket) -> str | None:
        return self.sessions.get(request.cookies.get("syncline_session", ""))

    def _me(self, request: Request, _: Body) -> Body:
        name = self._user_of(request)
        known = {"auth": "accounts", "oidc": self.oidc, "setup": not self.users}
        if name is None:
            return {"user": None, "kind": "anonymous", "admin": False, **known}
        groups = [group for group, members in self.groups.items() if name in members]
        expires_ms = int(time.time() * 1000) + 3_600_000
        me = {"user": name, "kind": "user", "admin": self.users[name]["admin"], "groups": groups}
        return {**me, "expires_ms": expires_ms, **known}

    def _log_in(self, user: str, password: str) -> Response:
        if self.passwords.get(user) != password:
            raise Refused(401, "login_failed", "no account has this name and password")
        session = f"syncline_s_{next(self._numbers)}"
        self.sessions[session] = user
        response = JSONResponse({"token": None, "user": user, "expires_ms": 0})
        response.set_cookie("syncline_session", session, httponly=True, samesite="strict")
        return response

    def _log_out(self, request: Request, _: Body) -> Response:
        self.sessions.pop(request.cookies["syncline_session"])
        response = JSONResponse({})
        response.delete_cookie("syncline_session")
        return response

    def _change_password(self, request: Request, body: Body) -> Response:
        user = self._user_of(request)
        if user is None or self.passwords[user] != body["password"]:
            raise Refused(401, "login_failed", "this is not the password")
        self.passwords[user] = body["new_password"]
        return self._log_in(user, body["new_password"])

    def _set_up(self, _: Request, body: Body) -> Response:
        if self.users or body["code"] != SETUP_CODE:
            raise Refused(403, "forbidden", "the code does not hold")
        self.add_user(body["user"], admin=True)
        self.passwords[body["user"]] = body["password"]
        return self._log_in(body["user"], body["password"])

    def _list_stores(self, request: Request, _: Body) -> Body:
        is_user = bool(self._user_of(request))
        names = self.stores if is_user else self.public
        others = "owner" if is_user else "reader"
        listed = [(_store_of(name, self.stores[name]), self.roles.get(name, others)) for name in sorted(names)]
        return {"stores": [{**store, "role": role} for store, role in listed]}

    def _refuse_store(self, request: Request, _: Body) -> Body:
        raise Refused(403, "forbidden", f"only administrators may create {request.path_params['name']}")

    def _put_user(self, request: Request, body: Body) -> Body:
        name = request.path_params["name"]
        if name != name.lower():
            raise Refused(400, "account_invalid", f"{name} cannot name a user")
        if name not in self.users:
            self.add_user(name)
        self.passwords[name] = body.pop("password", "")
        if body.pop("service", False):
            body["kind"] = "service"
        self.users[name] |= body
        return self.users[name]

    def _group(self, name: str) -> Body:
        return {"group": name, "members": sorted(self.groups[name]), "created_ms": 0}

    def _put_group(self, request: Request, _: Body) -> Body:
        self.groups.setdefault(request.path_params["name"], [])
        return self._group(request.path_params["name"])

    def _add_member(self, request: Request, _: Body) -> Body:
        if request.path_params["user"] not in self.users:
            raise Refused(404, "account_unknown", "there is no such user")
        self.groups[request.path_params["name"]].append(request.path_params["user"])
        return self._group(request.path_params["name"])

    def _remove_member(self, request: Request, _: Body) -> Body:
        self.groups[request.path_params["name"]].remove(request.path_params["user"])
        return self._group(request.path_params["name"])

    def _list_tokens(self, request: Request, _: Body) -> Body:
        user = request.query_params.get("user", self._user_of(request))
        return {"tokens": [token for token in self.tokens.values() if token["user"] == user]}

    def _add_token(self, request: Request, body: Body) -> Body:
        number = next(self._numbers)
        token = {"id": f"t_{number}", "user": self._user_of(request), "kind": "personal", "created_ms": 0, **body}
        self.tokens[token["id"]] = token
        return {"secret": f"syncline_p_secret{number}", "token": token}

    def _list_grants(self, request: Request, _: Body) -> Body:
        store = request.query_params.get("store")
        if store is not None:
            return {"grants": [grant for grant in self.grants.values() if _covers(grant["store"], store)]}
        return {"grants": [grant for grant in self.grants.values() if self._shares(self._user_of(request), grant)]}

    def _shares(self, user: str | None, grant: Body) -> bool:
        if user is None:
            return False
        if self.users[user]["admin"] or not grant["store"].endswith("*"):
            return True
        owned = [each for each in self.grants.values() if (each["to"], each["role"]) == (f"user:{user}", "owner")]
        return any(_covers(each["store"], grant["store"]) for each in owned)

    def _add_grant(self, body: Body, by: str | None) -> Body:
        for old in list(self.grants.values()):
            if (old["to"], old["store"]) == (body["to"], body["store"]):
                del self.grants[old["id"]]
        grant = {"id": f"g_{next(self._numbers)}", "by": by, "created_ms": 0, **body}
        self.grants[grant["id"]] = grant
        return grant

    def _remove_grant(self, request: Request, _: Body) -> Body:
        if self.refuses_removals:
            raise Refused(403, "forbidden", "this is not yours to take back")
        return self.grants.pop(request.path_params["id"])

    def _add_invitation(self, request: Request, body: Body) -> Body:
        number = next(self._numbers)
        invitation = {"id": f"i_{number}", "by": self._user_of(request), "created_ms": 0, "uses": 0, **body}
        self.invitations[invitation["id"]] = invitation
        code = f"syncline_i_code{number}"
        self.codes[code] = invitation["id"]
        return {"code": code, "path": f"/#invite={code}", "invitation": invitation}

    def _accept(self, request: Request, body: Body) -> Response:
        invitation = self.invitations.get(self.codes.get(body["code"], ""))
        if invitation is None:
            raise Refused(404, "invitation_invalid", "this invitation cannot be used")
        user = body.get("user") or self._user_of(request)
        if user is None:
            raise Refused(401, "unauthenticated", "nobody is logged in")
        headers = {}
        if "user" in body:
            if user in self.users:
                raise Refused(409, "name_taken", f"there is a user {user}")
            self.add_user(user)
            self.passwords[user] = body["password"]
            headers["set-cookie"] = self._log_in(user, body["password"]).headers["set-cookie"]
        grant = {"to": f"user:{user}", "store": invitation["store"], "role": invitation["role"]}
        text = json.dumps({"grant": self._add_grant(grant, invitation["by"]), "login": None})
        return Response(text, headers=headers, media_type="application/json")

    def _audit(self, request: Request, _: Body) -> Body:
        after, limit = (int(request.query_params.get(name, other)) for name, other in (("after", -1), ("limit", 100)))
        page = self.entries[after + 1 : after + 1 + limit]
        return {"entries": page, "head": {"n": len(self.entries) - 1, "hash": "0" * 64}}

    # --- the feed ---

    async def _serve_socket(self, socket: WebSocket) -> None:
        await socket.accept("syncline.v1.json")
        self._sockets[socket] = self._user_of(socket)
        try:
            while True:
                message = json.loads(await socket.receive_text())
                for answer in self._answers_to(message):
                    await socket.send_json(answer)
        except WebSocketDisconnect:
            pass
        finally:
            del self._sockets[socket]

    def _answers_to(self, message: Body) -> list[Body]:
        if message["type"] == "HELLO":
            return [{"type": "WELCOME", "session": "s", "server": "syncline/0", "limits": {}, "heartbeat_ms": 15000}]
        if message["type"] == "UNSUBSCRIBE":
            return [{"type": "ENDED", "id": message["id"], "feed": "f", "reason": "unsubscribed", "at": "i:0"}]
        if message["type"] != "SUBSCRIBE":
            return []
        changes = self.stores[message["store"]]
        feed, end = {"feed": f"f{message['id']}"}, f"i:{len(changes)}"
        opened = {"type": "SUBSCRIBED", "id": message["id"], **feed, "how": "resume", "at": "i:0", "lineage": "i@0"}
        batch = {"type": "BATCH", **feed, "from": "i:0", "to": end, "changes": changes}
        return [opened, batch, {"type": "CAUGHT_UP", **feed, "at": end, "count": len(changes), "digest": "0" * 8}]


def _covers(pattern: str, store: str) -> bool:
    return store.startswith(pattern[:-1]) if pattern.endswith("*") else store == pattern


def _store_of(name: str, changes: list[Body]) -> Body:
    return {"name": name, "store_id": name, "seq": len(changes), "count": len(changes), "digest": "0" * 8}


def _file_routes() -> list[Route]:
    routes = []
    for path in FILES:
        content, media_type = path.read_bytes(), _TYPES[path.suffix[1:]]

        async def serve(_: Request, content: bytes = content, media_type: str = media_type) -> Response:
            return Response(content, headers={"Content-Security-Policy": _POLICY}, media_type=media_type)

        routes.append(Route("/" if path.name == "index.html" else f"/console/{path.name}", serve))
    return routes
