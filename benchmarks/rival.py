"""Somebody else who changes a store over HTTP while a client is killed; and what the server says of its records."""

import http.client
import itertools
import json
import random
from typing import Any

import msgspec

from .load import Address, LoadError
from .wire import STORE

__all__ = ["Rival"]

#: One burst has so many records at most, enough for a catch-up of several batches.
_BURST_MAX = 1500

_OPS_MAX = 500


class _Line(msgspec.Struct):
    """A record, as the server streams it."""

    key: str
    value: msgspec.Raw


class Rival:
    """Writes under keys of its own, and remembers what has to be there.

    Attributes:
        changes: how many it has made.
    """

    def __init__(self, address: Address, chance: random.Random) -> None:
        self.changes = 0
        self._numbers = itertools.count(1)
        self._live: dict[str, str] = {}
        self._address = address
        self._chance = chance

    def owns(self, key: str) -> bool:
        """Whether a key is one of its own."""
        return key.startswith("rival.")

    def write(self) -> None:
        """Change something: mostly little, sometimes so much that catching up with it takes a while."""
        chance = self._chance
        count = chance.randrange(_BURST_MAX) if chance.random() < 0.5 else chance.randrange(5)
        ops: list[dict[str, Any]] = []
        # A transaction names a key once, so what is deleted was there before.
        before = list(self._live)
        for _ in range(count):
            if before and chance.random() < 0.3:
                key = before.pop()
                del self._live[key]
                ops.append({"op": "DELETE", "key": key})
            else:
                key = f"rival.{next(self._numbers)}"
                self._live[key] = f'"{"y" * chance.randrange(200)}"'
                ops.append({"op": "ADD", "key": key, "value": json.loads(self._live[key])})
        for first in range(0, len(ops), _OPS_MAX):
            self._post(ops[first : first + _OPS_MAX])
        self.changes += len(ops)

    def check(self, live: dict[str, str]) -> None:
        """Check that its own records are all there, and no more."""
        if {key: text for key, text in live.items() if self.owns(key)} != self._live:
            raise LoadError("the records of the rival are not what it has written")

    # --- what the server says ---

    def records(self) -> dict[str, str]:
        """Return the text of every live record by its key."""
        lines = self._request("GET", "/records", headers={"Accept": "application/x-ndjson"}).splitlines()
        return {line.key: bytes(line.value).decode() for line in map(msgspec.json.Decoder(_Line).decode, lines)}

    def head(self) -> int:
        """Return how many changes the log has."""
        return int(json.loads(self._request("GET", ""))["head"].partition(":")[2])

    def used_among(self, keys: set[str]) -> set[str]:
        """Return which of these keys were ever used. None of them lives, so that to delete them changes nothing."""
        used: set[str] = set()
        rest = sorted(keys)
        for first in range(0, len(rest), _OPS_MAX):
            part = rest[first : first + _OPS_MAX]
            result = self._post([{"op": "DELETE", "key": key} for key in part], atomic=False)
            for key, op in zip(part, result["ops"], strict=True):
                if op["status"] not in ("dup", "absent"):
                    raise LoadError(f"{key} was {op} when it was deleted, and was not among the records")
                if op["status"] == "dup":
                    used.add(key)
        return used

    def _post(self, ops: list[dict[str, Any]], *, atomic: bool = True) -> dict[str, Any]:
        body = json.dumps({"ops": ops, "atomic": atomic})
        result: dict[str, Any] = json.loads(self._request("POST", "/writes", body))
        return result

    def _request(self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> bytes:
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        try:
            kind = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, f"/v1/stores/{STORE}{path}", body, {**kind, **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise LoadError(f"{method} {path} was answered {answer.status}: {content[:300]!r}")
        return content
