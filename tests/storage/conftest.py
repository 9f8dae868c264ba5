"""An open storage of every backend, checked when the test is over, with short words for writes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from syncline_protocol import DEFAULT_LIMITS, Seq, Transaction
from syncline_protocol.codec import decode_change
from syncline_protocol.messages import OpResult
from syncline_protocol.transaction import Op, Quota, make_op
from syncline_server.storage.base import Appended, Head, Outcome, Storage, StorageError

from .backends import BACKENDS, Backend, Fault, Mint, check

__all__ = ["Bench", "add", "delete", "single", "write"]


def add(key: str, value: object = 1) -> Op:
    """An ADD."""
    return make_op(key, json.dumps(value).encode(), DEFAULT_LIMITS)


def delete(key: str, only_by: str | None = None) -> Op:
    """A DELETE, with `only_by` only of that author's record."""
    return msgspec.structs.replace(make_op(key, None, DEFAULT_LIMITS), only_by=only_by)


def single(op: Op, store: str = "notes", *, by: str | None = None, quota: Quota | None = None) -> Transaction:
    """What becomes of an ADD or DELETE of its own."""
    return Transaction(store, (op,), atomic=False, single=True, by=by, quota=quota)


def write(
    *ops: Op,
    store: str = "notes",
    atomic: bool = True,
    store_id: str | None = None,
    by: str | None = None,
    quota: Quota | None = None,
) -> Transaction:
    """What becomes of a WRITE."""
    return Transaction(store, ops, atomic, store_id, by=by, quota=quota)


class Bench:
    """A storage with one store `notes`, and a clock that moves by one at every append."""

    def __init__(self, backend: Backend, path: Path) -> None:
        self.backend = backend
        self.path = path
        self.mint = Mint()
        self.fault = Fault()
        self.storage: Storage = backend.make(path, self.mint, self.fault)
        self.now_ms = 1_000

    async def append(self, *transactions: Transaction) -> Appended:
        """Append."""
        self.now_ms += 1
        return await self.storage.append(transactions, self.now_ms)

    async def answers(self, *transactions: Transaction) -> list[Outcome | StorageError]:
        """Append; return what became of each transaction."""
        return list((await self.append(*transactions)).outcomes)

    async def answer(self, transaction: Transaction) -> Outcome:
        """Append one transaction; return what became of it."""
        (outcome,) = await self.answers(transaction)
        assert isinstance(outcome, Outcome)
        return outcome

    async def statuses(self, transaction: Transaction) -> tuple[str, list[str]]:
        """Append one transaction; return its status and those of its ops."""
        outcome = await self.answer(transaction)
        return outcome.status, [op.status for op in outcome.ops]

    async def result(self, op: Op) -> OpResult:
        """Append one op alone; return what became of it."""
        outcome = await self.answer(single(op))
        (result,) = outcome.ops
        assert outcome.status == result.status
        return result

    async def head(self, store: str = "notes") -> Head:
        """Return the head, read from the log."""
        return (await self.storage.info(store)).head

    async def reopen(self) -> None:
        """Close and open, as a new process does."""
        await self.storage.close()
        await self.storage.open()

    async def walk(self, after: int = 0, upto: int | None = None, *, records_only: bool = False) -> list[str]:
        """Read from `after` to the end; return what came as `+key` and `-key`. The chunks have to tile."""
        end = (await self.head()).seq if upto is None else upto
        seen: list[str] = []
        at = Seq(after)
        while at < end:
            chunk = await self.storage.read("notes", at, Seq(end), deletes_to=Seq(0) if records_only else None)
            assert chunk.after == at < chunk.to <= end
            for row in chunk.rows:
                change = decode_change(row.text)
                assert at < change.seq == row.seq <= row.last_seq <= chunk.to
                at = row.seq
                seen.append(("+" if change.op == "ADD" else "-") + change.key)
            at = chunk.to
        return seen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test for every backend, those of failures for every backend that declares that it can fail."""
    if "backend" in metafunc.fixturenames:
        backends = [backend for backend in BACKENDS if backend.fails or "failing" not in metafunc.fixturenames]
        metafunc.parametrize("backend", backends, ids=lambda backend: backend.name)


@pytest.fixture
async def failing(bench: Bench) -> Bench:
    """`bench`, of a backend whose medium can fail."""
    assert bench.backend.fails
    return bench


@pytest.fixture
async def bench(backend: Backend, tmp_path: Path) -> AsyncIterator[Bench]:
    """An open storage that has the store `notes`."""
    bench = Bench(backend, tmp_path / "test.db")
    await bench.storage.open()
    await bench.storage.create("notes", 1_000)
    yield bench
    await bench.storage.close()
    assert check(bench.storage, bench.path) >= 0
