"""What becomes of a change of a document when somebody else was first: the collections' part of `replica.meaning`.

Pure but for the application's own merge functions. The rules, per attribute:

- the document was deleted: the change is dropped, and that is reported; one that the server lost, and that nobody has
  brought back after a while, is rejected, so that the application decides;
- what we wanted is there already: nothing is left to do;
- `last`: ours is put in the place of theirs; so the last one to arrive stands, everywhere;
- `merge`: the application's function makes one value of both;
- `report`: the write is rejected, and the application decides: `retry` overwrites, `discard` leaves theirs.

`docs/reference/documents.md` has the whole table; the tests go through it row by row.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import msgspec

from syncline.replica.database import Row
from syncline.replica.entry import Edit, Entry, EntryId, EntryOp, Refusal
from syncline.replica.meaning import Base, Conflict, Leftovers, Postponed, Remade, Remaking
from syncline.replica.message import message_of
from syncline.replica.report import EditDropped, EditMerged, EditOverwrote, Report
from syncline_protocol import DEFAULT_LIMITS, Limits

from .assemble import MARKER
from .attribute import decode_attribute
from .edits import is_creation, owner_of
from .path import DocumentPath, short_id, split_key
from .policies import Merge, Policies, conflict_message, merged

__all__ = ["Rules"]

#: With these an op has shown that its key cannot be added any more.
_USED = frozenset({"gone", "conflict", "exists"})


class _Clash(Exception):
    """The application has to decide about this attribute."""

    def __init__(self, edit: Edit, theirs: str) -> None:
        self.edit = edit
        self.theirs = theirs


class _NotYet(Exception):
    """The function that merges this attribute is not known yet, or the document is not back yet."""

    def __init__(self, given_up: Refusal | None = None) -> None:
        self.given_up = given_up


@dataclass(slots=True)
class _Making:
    """An entry on its way to be made anew.

    Attributes:
        statuses: what the server said of each key.
        texts: the values that it adds.
        created: the documents that it makes, and the versions of their markers.
    """

    entry: Entry
    base: Base
    new_version: Callable[[], str]
    statuses: Mapping[str, str]
    texts: Mapping[str, str]
    created: dict[DocumentPath, str]
    ops: list[EntryOp] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    reports: list[Report] = field(default_factory=list)

    def add(self, edit: Edit, text: str, key: str, live: list[Row]) -> None:
        """Let an edit replace what lives."""
        on, base = (live[-1].key, live[-1].text) if live else (None, None)
        self.ops += [EntryOp(row.key) for row in live]
        self.ops.append(EntryOp(key, text))
        self.edits.append(msgspec.structs.replace(edit, key=key, on=on, base=base))
        if key != edit.key:
            self.renamed[edit.key] = key
        if text != self.texts[edit.key]:
            self.merged[key] = text

    def is_used(self, key: str) -> bool:
        """Whether a key is known to have been added, when the server decided or since."""
        return self.statuses.get(key) in _USED or self.base.get(key) is not None

    def stands(self, edit: Edit, row: Row) -> None:
        """Let a record of somebody else's stand for an edit."""
        self.renamed[edit.key] = row.key
        if edit.attribute != MARKER and row.text != self.texts[edit.key]:
            self.merged[row.key] = row.text


class Rules:
    """The meaning of entries with edits.

    Args:
        prefix: the replica holds the records with these keys only; of documents elsewhere it cannot tell anything.
        limits: the bounds of the server.
    """

    def __init__(self, policies: Policies, prefix: str = "", limits: Callable[[], Limits] = lambda: DEFAULT_LIMITS):
        self._policies = policies
        self._prefix = prefix
        self._limits = limits

    # --- somebody else was first ---

    def remake(self, entry: Entry, base: Base, new_key: Callable[[], str]) -> Remaking:
        """Make an entry anew on top of what is there now."""
        making = _Making(
            entry,
            base,
            new_version=lambda: short_id(new_key()),
            statuses=dict(zip(entry.keys, entry.refusal.ops if entry.refusal else (), strict=False)),
            texts=_texts_of(entry),
            created={owner_of(edit): _version_of(edit.key) for edit in entry.edits if is_creation(edit)},
        )
        try:
            for edit in entry.edits:
                self._remake_edit(making, edit, owner_of(edit))
        except _Clash as clash:
            return Conflict(_refusal_of(entry, clash))
        except _NotYet as reason:
            return Postponed(reason.given_up)
        return self._checked(entry, making)

    def _checked(self, entry: Entry, making: _Making) -> Remade | Conflict:
        made = msgspec.structs.replace(entry, ops=tuple(making.ops), edits=tuple(making.edits))
        # What was merged may be larger than what was written; a frame that is too large would end the connection.
        if making.merged and message_of(made, "x" * 64, "x" * 64)[1] > self._limits().frame_bytes_max:
            return Conflict(Refusal("too_large", code="too_large", message="what was merged does not fit into a write"))
        return Remade(
            made.ops, made.edits, making.renamed, making.merged, frozenset(making.dropped), tuple(making.reports)
        )

    def _remake_edit(self, making: _Making, edit: Edit, path: DocumentPath) -> None:
        entry = making.entry
        needed = [*path.collection.above, *([] if path in making.created else [path])]
        if not all(self._is_there(each, making.base, entry.id) for each in needed):
            if entry.returned and not _was_deleted(path, making):
                # The server lost the document, not somebody who deleted it: whoever made it brings it back.
                raise _NotYet(_loss_of(entry, edit))
            making.dropped.add(edit.key)
            making.reports.append(EditDropped(edit.document, edit.attribute))
        elif is_creation(edit):
            self._remake_marker(making, edit, path)
        else:
            self._remake_value(making, edit, path)

    def _remake_marker(self, making: _Making, edit: Edit, path: DocumentPath) -> None:
        markers = _markers(path, making.base)
        if markers:
            making.created[path] = _version_of(markers[0].key)
            making.stands(edit, markers[0])
            return
        key = edit.key
        if making.is_used(key):
            making.created[path] = making.new_version()
            key = path.key(MARKER, making.created[path])
        making.add(edit, making.texts[edit.key], key, [])

    def _remake_value(self, making: _Making, edit: Edit, path: DocumentPath) -> None:
        live = _live(path, edit.attribute, making.base)
        text = making.texts[edit.key]
        if live and live[-1].key != edit.on and live[-1].text != text:
            text = self._decide(making, edit, path, text, live[-1].text)
        if live and live[-1].text == text:
            # What we want is there already, whoever did it.
            making.stands(edit, live[-1])
            return
        key, first = edit.key, path.key(edit.attribute, self._marker_version(making, path))
        if not live and making.statuses.get(first) not in _USED:
            # As for the first value: rivals have to collide.
            key = first
        elif making.is_used(key) or text != making.texts[edit.key]:
            key = path.key(edit.attribute, making.new_version())
        making.add(edit, text, key, live)

    def _decide(self, making: _Making, edit: Edit, path: DocumentPath, ours: str, theirs: str) -> str:
        """Return the value that an attribute gets, of two that rivals want it to have."""
        wish = self._policies.wish(path.collection.pattern, edit.attribute) if edit.policy == "merge" else edit.policy
        if wish is None:
            raise _NotYet
        if callable(wish):
            text = self._merge(wish, edit, ours, theirs)
            if text != theirs:
                making.reports.append(EditMerged(edit.document, edit.attribute, decode_attribute(text)))
            return text
        if wish == "report":
            raise _Clash(edit, theirs)
        making.reports.append(EditOverwrote(edit.document, edit.attribute, decode_attribute(theirs)))
        return ours

    def _merge(self, merge: Merge, edit: Edit, ours: str, theirs: str) -> str:
        text = merged(merge, edit.base, ours, theirs, self._limits())
        if text is None:
            raise _Clash(edit, theirs)
        return text

    def _marker_version(self, making: _Making, path: DocumentPath) -> str:
        if path in making.created:
            return making.created[path]
        markers = _markers(path, making.base)
        keys = [markers[0].key] if markers else _coming(path, making.base, making.entry.id)
        return _version_of(keys[0]) if keys else ""

    # --- what builds on it ---

    def follow(self, entry: Entry, before: Remade) -> Remade | Conflict:
        """Make an entry that was not sent yet anew, since one that it builds on was.

        It deletes what is there now. A value that was made by a merge does not know of the one before it, so it is
        merged with what became of that one.
        """
        texts = _texts_of(entry)
        merged: dict[str, str] = {}
        dropped: set[str] = set()
        reports: list[Report] = []
        edits: list[Edit] = []
        for edit in entry.edits:
            if edit.on in before.dropped:
                dropped.add(edit.key)
                reports.append(EditDropped(edit.document, edit.attribute))
                continue
            on = before.renamed.get(edit.on, edit.on) if edit.on else None
            theirs = before.merged.get(on) if on else None
            pattern = owner_of(edit).collection.pattern
            merge = self._policies.wish(pattern, edit.attribute) if edit.policy == "merge" else None
            if theirs is not None and callable(merge):
                try:
                    text = self._merge(merge, edit, texts[edit.key], theirs)
                except _Clash as clash:
                    return Conflict(_refusal_of(entry, clash))
                if text != texts[edit.key]:
                    texts[edit.key] = merged[edit.key] = text
                    reports.append(EditMerged(edit.document, edit.attribute, decode_attribute(text)))
            base = edit.base if theirs is None else theirs
            edits.append(msgspec.structs.replace(edit, on=on, base=base))
        ops = _renamed(entry, before, texts, dropped)
        return Remade(ops, tuple(edits) if ops else (), {}, merged, frozenset(dropped), tuple(reports))

    # --- what is left behind ---

    def leftovers(self, entry: Entry, base: Base) -> Leftovers:
        """Return what is below documents that are gone, and which this entry put there or failed to delete."""
        if entry.returned:
            # What it builds on may not be back yet.
            return Leftovers()
        keys: list[str] = []
        for path in self._left(entry, base):
            keys += [row.key for row in (*base.with_prefix(path.prefix), *base.with_prefix(path.prefix_below))]
        found = frozenset(keys)
        dropped = [EditDropped(edit.document, edit.attribute) for edit in entry.edits if edit.key in found]
        return Leftovers(tuple(keys), tuple(dropped))

    def _left(self, entry: Entry, base: Base) -> list[DocumentPath]:
        """Return the documents that are gone, of those that an entry has changed or deleted."""
        changed = list(dict.fromkeys([owner_of(edit) for edit in entry.edits]))
        left = [each for each in changed if not self._is_attached(each, base) or not self._is_there(each, base, None)]
        if entry.atomic:
            return left
        # What hangs below a document that was deleted, and is there again, has to be looked for by itself.
        keys = [key for key in map(split_key, entry.keys) if key is not None and key.attribute == MARKER]
        below = [key.document for key in keys if key.document not in changed]
        return left + [each for each in below if self._is_attached(each, base) and not self._is_there(each, base, None)]

    def _is_attached(self, path: DocumentPath, base: Base) -> bool:
        return all(self._is_there(each, base, None) for each in path.collection.above)

    def _is_there(self, path: DocumentPath, base: Base, before: EntryId | None) -> bool:
        """Whether a document is there, or will be, or may be for all that this replica can see."""
        if not path.prefix.startswith(self._prefix):
            return True
        return bool(_markers(path, base) or _coming(path, base, before))


def _markers(path: DocumentPath, base: Base) -> list[Row]:
    """Return the markers of a document that the server has, the oldest first."""
    first = base.get(path.prefix)
    return sorted([*([] if first is None else [first]), *base.with_prefix(path.marker_prefix)], key=lambda row: row.seq)


def _coming(path: DocumentPath, base: Base, before: EntryId | None) -> list[str]:
    """Return the markers of a document that we are about to make."""
    return [key for key in base.coming(path.prefix, before) if key == path.prefix or key.startswith(path.marker_prefix)]


def _live(path: DocumentPath, attribute: str, base: Base) -> list[Row]:
    """Return the records of an attribute that the server has, the one that counts last."""
    first = path.key(attribute)
    row = base.get(first)
    rows = [*([] if row is None else [row]), *base.with_prefix(first + ":")]
    return sorted(rows, key=lambda row: row.seq)


def _was_deleted(path: DocumentPath, making: _Making) -> bool:
    """Whether a value of the document was deleted in this log, before the server decided or since.

    What is replaced is deleted too, but then there is another one: an attribute that was set once has a value until
    the document is deleted.
    """
    for op in making.entry.ops:
        key, status = split_key(op.key), making.statuses.get(op.key)
        if key is None or key.document != path:
            continue
        was_live = status in ("conflict", "exists") or (status == "skipped" and op.text is None)
        is_gone = status == "gone" or (was_live and making.base.get(op.key) is None)
        if is_gone and not _live(path, key.attribute, making.base):
            return True
    return False


def _version_of(key: str) -> str:
    parts = split_key(key)
    return parts.version if parts is not None else ""


def _texts_of(entry: Entry) -> dict[str, str]:
    return {op.key: op.text for op in entry.ops if op.text is not None}


def _renamed(entry: Entry, before: Remade, texts: Mapping[str, str], dropped: AbstractSet[str]) -> tuple[EntryOp, ...]:
    """Return the ops of an entry: it deletes what became of keys, and once only; what is added has its own keys."""
    deleted = {op.key for op in before.ops if op.text is None} | before.dropped
    ops: list[EntryOp] = []
    for op in entry.ops:
        if op.text is not None:
            ops += [EntryOp(op.key, texts[op.key])] if op.key not in dropped else []
            continue
        key = before.renamed.get(op.key, op.key)
        if key not in deleted:
            deleted.add(key)
            ops.append(EntryOp(key))
    return tuple(ops)


def _refusal_of(entry: Entry, clash: _Clash) -> Refusal:
    message = conflict_message(clash.edit.document, clash.edit.attribute, clash.theirs)
    head = entry.refusal.head if entry.refusal else None
    return Refusal("conflict", entry.refusal.ops if entry.refusal else (), message=message, head=head)


def _loss_of(entry: Entry, edit: Edit) -> Refusal:
    message = f"{edit.document} is not on the server: it lost it, and whoever made it has not brought it back"
    head = entry.refusal.head if entry.refusal else None
    return Refusal("absent", entry.refusal.ops if entry.refusal else (), message=message, head=head)
