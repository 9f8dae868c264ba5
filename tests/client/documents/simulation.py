"""A random life of documents on several replicas and a server that fails, and what has to be true at its end.

Everything follows from the seed, but for stations with a file, whose thread has a pace of its own. The model knows only
what programs asked for: which documents were ever deleted, what was put into a set that grows, who wrote what. What
none of the faults may cost is checked against that.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncline import Collection, Document, DocumentError, DocumentGone, EditDropped, Replica, Write
from syncline.documents.path import DocumentPath, split_key
from tests.client.documents.network import Network, Station, turns
from tests.client.waiting import turn

__all__ = ["Options", "Simulation"]

#: What everybody sets; what each adds to; ids that everybody chooses. What one station alone sets is named after it.
_SHARED = ("title", "color", "size")
_GROWING = "tags"
_CHOSEN = ("main", "other")

#: The longest that anything waits by itself, with some more: for what the server lost to come back.
_PATIENCE_S = 31.0


@dataclass(frozen=True)
class Options:
    """Attributes:
    steps: how many things happen.
    restores: the server may be set back to an older log.
    deletes: documents may be deleted.
    """

    stations: int = 4
    steps: int = 120
    restores: bool = False
    deletes: bool = True


def union(before: Any, ours: Any, theirs: Any) -> list[str]:
    """Merge two sets that only grow."""
    return sorted({*(ours or []), *(theirs or [])})


@dataclass
class Model:
    """What the programs asked for.

    Attributes:
        deleted: documents that somebody deleted, at any time.
        tags: what was put into the growing set of each document.
        own: the last value of attributes that one station alone sets.
        values: everything that was ever wanted as the value of an attribute.
    """

    deleted: set[str] = field(default_factory=set)
    tags: dict[str, set[str]] = field(default_factory=dict)
    own: dict[tuple[str, str], Any] = field(default_factory=dict)
    values: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def wanted(self, document: str, attributes: dict[str, Any]) -> None:
        """Note what somebody sets."""
        for name, value in attributes.items():
            if name == _GROWING:
                self.tags.setdefault(document, set()).update(value)
            elif name not in _SHARED:
                self.own[document, name] = value
            self.values.setdefault((document, name), set()).add(repr(value))

    def is_safe(self, document: str) -> bool:
        """Whether nobody ever deleted a document, or one above it."""
        path = DocumentPath.parse(document)
        assert path is not None
        return not any(each.text in self.deleted for each in (path, *path.collection.above))


class Simulation:
    """One life.

    Args:
        directory: where the stations with a file, which are every third one, have it; without it there are none.

    Attributes:
        happened: how often what happened.
    """

    def __init__(self, seed: int, options: Options, directory: Path | None = None) -> None:
        self.random = random.Random(seed)
        self.options = options
        self.network = Network()
        self.model = Model()
        self.happened: Counter[str] = Counter()
        self._numbers = 0
        self._backups: list[Any] = []
        self._restored = 0
        self._kept_by: dict[Replica, dict[str, Document[Any]]] = {}
        self.stations = [
            Station(
                self.network,
                f"s{number}",
                path=directory / f"s{number}.db" if directory is not None and number % 3 == 0 else None,
                seed=seed * 100 + number,
            )
            for number in range(options.stations)
        ]

    # --- life ---

    async def run(self) -> None:
        """Live, come to rest, and check everything."""
        await self.network.start()
        try:
            for station in self.stations:
                station.prepare = _prepare
                await station.open()
                await station.connect()
            await turns(self.random.randrange(60))
            for _ in range(self.options.steps):
                await self._step()
                await turns(self.random.choice((0, 1, 3, 10, 40)))
            await self._come_to_rest()
            self._check()
        finally:
            for station in self.stations:
                await station.burn()
            await self.network.stop()

    async def _step(self) -> None:
        name, act = self.random.choices(*self._acts())[0]
        station = self.random.choice(self.stations)
        if not station.is_open:
            await station.open()
        await act(station)
        self.happened[name] += 1

    def _acts(self) -> tuple[list[tuple[str, Callable[[Station], Awaitable[None]]]], list[int]]:
        acts: list[tuple[int, str, Callable[[Station], Awaitable[None]]]] = [
            (6, "create", self._create),
            (3, "create below", self._create_below),
            (14, "set", self._set),
            (8, "tag", self._tag),
            (6, "own", self._own),
            (2, "unset", self._unset),
            (3 if self.options.deletes else 0, "delete", self._delete),
            (8, "connect", lambda station: station.connect()),
            (4, "cut", lambda station: station.cut()),
            (2, "deaf", self._go_deaf),
            (1, "close", lambda station: station.close()),
            (2, "crash", lambda station: station.crash()),
            (1, "restart", lambda _: self.network.restart()),
            (1, "backup", self._backup),
            (1 if self.options.restores else 0, "restore", self._restore),
        ]
        return [(name, act) for _, name, act in acts], [weight for weight, _, _ in acts]

    # --- what programs do ---

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _documents(self, station: Station) -> list[Document[Any]]:
        found = list(station.replica.collection("rooms"))
        return found + [item for room in found for item in room.collection("items")]

    def _some_attributes(self) -> dict[str, Any]:
        names = self.random.sample(_SHARED, self.random.randint(1, 2))
        return {name: self.random.choice((1, 2, self._number())) for name in names}

    async def _create(self, station: Station) -> None:
        await self._make(station.replica.collection("rooms"))

    async def _create_below(self, station: Station) -> None:
        rooms = list(station.replica.collection("rooms"))
        if rooms:
            await self._make(self.random.choice(rooms).collection("items"))

    async def _make(self, collection: Collection[Any]) -> None:
        chosen = self.random.choice(_CHOSEN) if self.random.random() < 0.3 else None
        attributes = self._some_attributes() if self.random.random() < 0.8 else {}
        if self.options.restores or self.random.random() < 0.3:
            attributes[_GROWING] = [f"t{self._number()}"]
        try:
            document = await collection.create(id=chosen, **attributes)
        except DocumentError:
            # It is there already, or what it would hang below is not there any more.
            return
        self.model.wanted(document.path, attributes)

    async def _change(self, station: Station, make: Callable[[Document[Any]], dict[str, Any]]) -> None:
        documents = self._documents(station)
        if not documents:
            return
        document = self._kept(station, self.random.choice(documents))
        attributes = make(document)
        try:
            await document.set(attributes)
        except DocumentGone:
            return
        self.model.wanted(document.path, attributes)

    def _kept(self, station: Station, document: Document[Any]) -> Document[Any]:
        """Return a document, or what the program has kept of it since it last changed it: it may be old."""
        kept = self._kept_by.setdefault(station.replica, {}).setdefault(document.path, document)
        if kept == document or self.random.random() < 0.5:
            return document
        self.happened["change of what was kept"] += 1
        return kept

    async def _set(self, station: Station) -> None:
        await self._change(station, lambda _: self._some_attributes())

    async def _unset(self, station: Station) -> None:
        await self._change(station, lambda _: {self.random.choice(_SHARED): None})

    async def _own(self, station: Station) -> None:
        await self._change(station, lambda _: {f"of {station.name}": self._number()})

    async def _tag(self, station: Station) -> None:
        await self._change(station, lambda seen: {_GROWING: [*(seen.get(_GROWING) or []), f"t{self._number()}"]})

    async def _delete(self, station: Station) -> None:
        documents = self._documents(station)
        if documents:
            document = self.random.choice(documents)
            self.model.deleted.add(document.path)
            try:
                await document.delete()
            except DocumentGone:
                return

    async def _go_deaf(self, station: Station) -> None:
        station.go_deaf()

    # --- what happens to the server ---

    async def _backup(self, _: Station) -> None:
        self._backups.append(self.network.backup())

    async def _restore(self, _: Station) -> None:
        if self._backups:
            await self.network.restore(self.random.choice(self._backups))
            self._restored += 1

    # --- the end ---

    async def _come_to_rest(self) -> None:
        """Bring everybody online, and let everything arrive that is to arrive."""
        for station in self.stations:
            # It may be deaf.
            await station.cut()
        for _ in range(3):
            await self._settle()
            # What waits for something that the server lost gives up after a while.
            for station in self.stations:
                station.clock.advance(_PATIENCE_S)
            await turns(20)
        await self._settle()

    async def _settle(self) -> None:
        still = 0
        try:
            async with asyncio.timeout(30):
                while still < 30:
                    for station in self.stations:
                        if not station.is_open:
                            await station.open()
                        await station.connect()
                    await turn()
                    still = still + 1 if all(station.is_at_rest for station in self.stations) else 0
        except TimeoutError:
            restless = [(s.name, s.replica.status, s.replica.pending) for s in self.stations if not s.is_at_rest]
            raise AssertionError(f"they do not come to rest: {restless}") from None

    def _check(self) -> None:
        server = self.network.contents()
        for station in self.stations:
            assert station.contents() == server, station.name
            assert not station.replica.pending, (station.name, station.replica.pending)
            rejected = [write for write in station.replica.rejections if not self._may_be_rejected(write)]
            assert not rejected, (station.name, rejected)
        self._check_leftovers(server)
        self._check_documents()
        self._check_reports()

    def _may_be_rejected(self, write: Write) -> bool:
        """Whether a change is one of a document of which the server lost whether it was deleted, or never made."""
        assert write.refusal is not None
        documents = [key.document for key in map(split_key, write.keys) if key is not None]
        return write.refusal.status == "absent" and not any(self.model.is_safe(each.text) for each in documents)

    def _check_leftovers(self, server: dict[str, tuple[int, str]]) -> None:
        """Nothing is below documents that are gone; unless history was lost, when nobody knows what comes back."""
        keys = [key for key in map(split_key, server) if key is not None]
        assert len(keys) == len(server)
        markers = {key.document for key in keys if not key.attribute}
        dead = [k for k in keys if not {k.document, *k.document.collection.above} <= markers]
        assert self._restored or not dead, dead

    def _check_documents(self) -> None:
        shown = [{document.path: document.attributes for document in self._documents(s)} for s in self.stations]
        assert all(each == shown[0] for each in shown)
        for path, attributes in shown[0].items():
            for name, value in attributes.items():
                if name == _GROWING:
                    assert set(value) <= self.model.tags[path]
                else:
                    assert repr(value) in self.model.values[path, name], (path, name, value)
        for path in {document for document, _ in self.model.values} - shown[0].keys():
            assert not self.model.is_safe(path), f"{path} is lost"
        for path, tags in self.model.tags.items():
            # When the server has lost a first value, another one may be the first under the same key, and is taken for
            # the one that was replaced. The first values of documents whose ids are not chosen are always the same.
            if self.model.is_safe(path) and not (self._restored and path.endswith(_CHOSEN)):
                assert set(shown[0][path][_GROWING]) == tags, path
        for (path, name), value in self.model.own.items():
            if self.model.is_safe(path):
                assert shown[0][path].get(name) == value, (path, name)

    def _check_reports(self) -> None:
        for station in self.stations:
            for report in station.reports:
                assert not isinstance(report, EditDropped) or not self.model.is_safe(report.document), report


def _prepare(replica: Replica) -> None:
    rooms = replica.collection("rooms", on_conflict={_GROWING: union})
    rooms.below(DocumentPath(rooms.collection_path, "any"), "items", None, {_GROWING: union})
