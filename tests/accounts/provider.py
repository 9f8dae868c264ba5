"""OpenID providers for tests: a real one in a process of its own, and one that can be made to lie.

`LiveProvider` runs `oidc_provider_mock` on a free loopback port and is walked through its login form as a browser
would. `FakeProvider` answers in this process; it checks PKCE, the client and the redirect by itself, and its ID tokens
and documents can be bent.
"""

import base64
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Self
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx2

from tests.accounts.issuer import NOW_S, Issuer, ed_key
from tests.support.live_server import free_port

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "REDIRECT_URI", "FakeProvider", "LiveProvider", "returned_by"]

CLIENT_ID = "syncline"
CLIENT_SECRET = "a secret of the client"
REDIRECT_URI = "http://127.0.0.1:7171/v1/oidc/callback"

_START_TIMEOUT_S = 30.0


class LiveProvider:
    """A provider in a process of its own, which is ended by its id."""

    def __init__(self) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None
        self._drain: threading.Thread | None = None

    def start(self) -> Self:
        """Start it and return when it answers."""
        command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(self.port), "--require-nonce", "true"]
        environ = os.environ | {"NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
        process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
        self._process = process
        assert process.stderr is not None
        killer = threading.Timer(_START_TIMEOUT_S, process.kill)
        killer.start()
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if "Uvicorn running on" in line:
                break
        killer.cancel()
        if process.poll() is not None:
            raise RuntimeError("the provider did not start:\n" + "".join(lines))
        # What it logs later must not fill the pipe.
        self._drain = threading.Thread(target=process.stderr.read, daemon=True)
        self._drain.start()
        return self

    def stop(self) -> None:
        """End it."""
        if self._process is None:
            return
        os.kill(self._process.pid, signal.SIGTERM)
        self._process.wait()
        if self._drain is not None:
            self._drain.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None

    def set_user(self, subject: str, claims: Mapping[str, object]) -> None:
        """Say what it knows of a user."""
        with httpx2.Client() as client:
            answer = client.put(f"{self.issuer}/users/{subject}", json=dict(claims))
        assert answer.status_code == httpx2.codes.NO_CONTENT, answer.text

    def log_in(self, url: str, subject: str) -> tuple[str, str]:
        """Open its login page and fill in its form. Returns the state and the code that the browser comes back with."""
        with httpx2.Client() as browser:
            page = browser.get(url)
            assert page.status_code == httpx2.codes.OK, page.text
            assert 'name="sub"' in page.text
            answer = browser.post(url, data={"sub": subject})
        assert answer.status_code == httpx2.codes.FOUND, answer.text
        return returned_by(answer.headers["Location"])


def returned_by(location: str) -> tuple[str, str]:
    """Return the state and the code of the URL that a provider sends a browser back to."""
    assert location.startswith(REDIRECT_URI + "?")
    query = parse_qs(urlsplit(location).query)
    return query["state"][0], query["code"][0]


class FakeProvider:
    """A provider in this process. `changed` goes into its ID tokens, `document` into its discovery document."""

    issuer = "https://provider.example"

    def __init__(self) -> None:
        self.keys = Issuer(ed_key())
        self.user: dict[str, object] = {"sub": "alice", "name": "Alice", "email": "a@example.com"}
        self.user |= {"email_verified": True, "groups": ["staff"]}
        self.told: dict[str, object] = {}
        self.changed: dict[str, object] = {}
        self.without = ""
        self.document: dict[str, object] = {}
        self.answers: dict[str, httpx2.Response] = {}
        self.asked: list[str] = []
        self.authentication: str | None = None
        self._codes: dict[str, dict[str, str]] = {}
        self.transport = httpx2.MockTransport(self._answer)

    def log_in(self, url: str) -> tuple[str, str]:
        """Let the user log in at the URL that a login began with. Returns the state and a code."""
        query = dict(parse_qsl(urlsplit(url).query))
        assert url.startswith(f"{self.issuer}/authorize?")
        assert (query["response_type"], query["client_id"]) == ("code", CLIENT_ID)
        assert query["code_challenge_method"] == "S256"
        code = f"code-{len(self._codes)}"
        self._codes[code] = query
        return query["state"], code

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        self.asked.append(path)
        if path in self.answers:
            return self.answers[path]
        if path == "/.well-known/openid-configuration":
            return httpx2.Response(200, json=self._discovery())
        if path == "/jwks":
            return httpx2.Response(200, content=self.keys.jwks())
        if path == "/userinfo":
            assert request.headers["Authorization"] == "Bearer access"
            return httpx2.Response(200, json=self.told)
        assert path == "/token"
        self.authentication = request.headers.get("Authorization")
        return self._token(dict(parse_qsl(request.content.decode())))

    def _discovery(self) -> dict[str, object]:
        paths = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
        urls = {name: f"{self.issuer}/{path}" for name, path in paths.items()}
        return {"issuer": self.issuer, "userinfo_endpoint": f"{self.issuer}/userinfo", **urls} | self.document

    def _token(self, form: dict[str, str]) -> httpx2.Response:
        login = self._codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        wanted = {"code_challenge": challenge, "redirect_uri": form["redirect_uri"]}
        if login is None or any(login[name] != value for name, value in wanted.items()):
            return httpx2.Response(400, json={"error": "invalid_grant"})
        half = hashlib.sha512(b"access").digest()[:32]
        claims: dict[str, object] = {"iss": self.issuer, "aud": CLIENT_ID, "nonce": login["nonce"], "iat": NOW_S}
        claims |= self.user | {"at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode()} | self.changed
        id_token = self.keys.sign(claims, algorithm="Ed25519", without=self.without)
        return httpx2.Response(200, json={"token_type": "Bearer", "access_token": "access", "id_token": id_token})
