"""What becomes of a change of a document when somebody else was first: the collections' part of `replica.meaning`.

Pure but for the application's own merge functions. The rules, per attribute:

- the document was deleted: the change is dropped, and that is reported; one that the server lost, and that nobody has
  brought back after a while, is rejected, so that the application decides;
- `last`: ours is put in the place of theirs; so the last one to arrive stands, everywhere;
- `merge`: the application's function makes one value of both;
- `report`: the write is rejected, and the application decides: `retry` overwrites, `discard` leaves theirs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from syncline.replica.database import Row
from syncline.replica.entry import Edit, Entry, EntryOp, Refusal
from syncline.replica.meaning import Base, Conflict, Postponed, Remade, Remaking
from syncline.replica.report import EditDropped, EditMerged, EditOverwrote, Report
from syncline_protocol import DEFAULT_LIMITS
from syncline_protocol.errors import ValueInvalid

from .assemble import MARKER
from .attribute import decode_attribute, encode_attribute
from .edits import Policy
from .path import DocumentPath, short_id

__all__ = ["ConflictPolicy", "Merge", "OnConflict", "Policies", "Rules"]

#: Makes one value of three: the one that both began with (None if there was none), ours, and theirs. What they are
#: is up to the application, which knows what it keeps in an attribute.
Merge = Callable[[Any, Any, Any], Any]
ConflictPolicy = str | Merge
OnConflict = ConflictPolicy | Mapping[str, ConflictPolicy]

_LAST: Policy = "last"

#: With these an op has shown that its key cannot be added any more.
_USED = frozenset({"gone", "conflict", "exists"})

#: So many records are cleaned up by one write.
_LEFTOVERS_MAX = 500


class Policies:
    """What the application wants done about conflicts, by collection and attribute."""

    def __init__(self) -> None:
        self._policies: dict[str, OnConflict] = {}

    def register(self, pattern: str, on_conflict: OnConflict) -> None:
        """Note the wish for all collections that have their place alike."""
        self._policies[pattern] = on_conflict

    def name_of(self, pattern: str, attribute: str) -> Policy:
        """Return what is kept with an edit."""
        wish = self._wish(pattern, attribute)
        if callable(wish):
            return "merge"
        return "report" if wish == "report" else "last"

    def merge(self, pattern: str, attribute: str) -> Merge | None:
        """Return the function of an attribute, if the application has given it yet."""
        wish = self._wish(pattern, attribute)
        return wish if callable(wish) else None

    def _wish(self, pattern: str, attribute: str) -> ConflictPolicy:
        wish = self._policies.get(pattern, _LAST)
        if isinstance(wish, Mapping):
            return wish.get(attribute, _LAST)
        return wish


class _Clash(Exception):
    """The application wants to decide about this attribute."""

    def __init__(self, edit: Edit, theirs: str) -> None:
        self.edit = edit
        self.theirs = theirs


class _NotYet(Exception):
    """The function that merges this attribute is not known yet."""


@dataclass(slots=True)
class _Remake:
    """An entry on its way to be made anew."""

    ops: list[EntryOp] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)


class Rules:
    """The meaning of entries with edits.

    Args:
        prefix: the replica holds the records with these keys only; of documents elsewhere it cannot tell anything.
    """

    def __init__(self, policies: Policies, prefix: str = "") -> None:
        self._policies = policies
        self._prefix = prefix

    # --- somebody else was first ---

    def remake(self, entry: Entry, base: Base, new_key: Callable[[], str]) -> Remaking:
        """Make an entry anew on top of what is there now."""
        remake = _Remake()
        statuses = dict(zip(entry.keys, entry.refusal.ops if entry.refusal else (), strict=False))
        texts = {op.key: op.text for op in entry.ops if op.text is not None}
        created = {edit.document for edit in entry.edits if edit.attribute == MARKER and edit.key}
        try:
            for edit in entry.edits:
                path = DocumentPath.parse(edit.document)
                assert path is not None, edit
                if edit.document in created or _marker_lives(path, base):
                    self._remake_edit(remake, edit, path, texts[edit.key], statuses, base, new_key)
                elif entry.returned and not _was_deleted(path, statuses):
                    # The server lost the document, and nobody has brought it back in the time that one waits for that.
                    return Conflict(_lost(entry, edit))
                else:
                    remake.reports.append(EditDropped(edit.document, edit.attribute))
        except _Clash as clash:
            return Conflict(_refusal_of(entry, clash))
        except _NotYet:
            return Postponed()
        return Remade(tuple(remake.ops), tuple(remake.edits), remake.renamed, tuple(remake.reports))

    def _remake_edit(
        self,
        remake: _Remake,
        edit: Edit,
        path: DocumentPath,
        text: str,
        statuses: Mapping[str, str],
        base: Base,
        new_key: Callable[[], str],
    ) -> None:
        live = _live(path, edit.attribute, base)
        current = live[-1] if live else None
        if current is not None and (edit.attribute == MARKER or current.text == text):
            # What we wanted is there already, whoever did it.
            return
        is_rival = current is not None and current.key != edit.on
        if current is not None and is_rival:
            text = self._decide(remake, edit, path, text, current.text)
        key = edit.key
        if statuses.get(key) in _USED or (is_rival and edit.policy == "merge"):
            key = remake.renamed[edit.key] = path.later_key(edit.attribute, short_id(new_key()))
        remake.ops += [EntryOp(row.key) for row in live]
        remake.ops.append(EntryOp(key, text))
        on, base_text = (current.key, current.text) if current is not None else (None, None)
        remake.edits.append(msgspec.structs.replace(edit, key=key, on=on, base=base_text))

    def _decide(self, remake: _Remake, edit: Edit, path: DocumentPath, ours: str, theirs: str) -> str:
        """Return the value that an attribute gets, of two that rivals want it to have."""
        if edit.policy == "report":
            raise _Clash(edit, theirs)
        if edit.policy == "last":
            remake.reports.append(EditOverwrote(edit.document, edit.attribute, decode_attribute(theirs)))
            return ours
        merge = self._policies.merge(path.collection.pattern, edit.attribute)
        if merge is None:
            raise _NotYet
        before = None if edit.base is None else decode_attribute(edit.base)
        try:
            value = merge(before, decode_attribute(ours), decode_attribute(theirs))
            text = encode_attribute(value, DEFAULT_LIMITS).decode()
        except (Exception, ValueInvalid) as error:
            # The application's function failed: both values are kept, and the application decides.
            raise _Clash(edit, theirs) from error
        remake.reports.append(EditMerged(edit.document, edit.attribute, decode_attribute(text)))
        return text

    # --- what is left behind ---

    def leftovers(self, entry: Entry, base: Base) -> list[str]:
        """Return the keys of records below documents that are gone, which this entry put there or failed to delete."""
        keys: list[str] = []
        if entry.returned:
            # What it builds on may not be back yet.
            return keys
        for name in dict.fromkeys(edit.document for edit in entry.edits):
            path = DocumentPath.parse(name)
            assert path is not None, name
            known = [each for each in (path, *path.collection.above) if each.prefix.startswith(self._prefix)]
            if not all(_marker_lives(document, base) for document in known):
                rows = [*base.with_prefix(path.prefix), *base.with_prefix(path.prefix_below)]
                keys += [row.key for row in rows]
        return keys[:_LEFTOVERS_MAX]


def _refusal_of(entry: Entry, clash: _Clash) -> Refusal:
    message = f"{clash.edit.attribute!r} of {clash.edit.document} was set to {clash.theirs[:200]} by somebody else"
    head = entry.refusal.head if entry.refusal else None
    return Refusal("conflict", entry.refusal.ops if entry.refusal else (), message=message, head=head)


def _lost(entry: Entry, edit: Edit) -> Refusal:
    message = f"{edit.document} is not on the server: it lost it, and whoever made it has not brought it back"
    head = entry.refusal.head if entry.refusal else None
    return Refusal("absent", entry.refusal.ops if entry.refusal else (), message=message, head=head)


def _was_deleted(path: DocumentPath, statuses: Mapping[str, str]) -> bool:
    """Whether a record of the document was there in this log and has been deleted."""
    return any(status == "gone" for key, status in statuses.items() if key.startswith(path.prefix))


def _live(path: DocumentPath, attribute: str, base: Base) -> list[Row]:
    """Return the records of an attribute that the server has, the one that counts last."""
    first = path.first_key(attribute)
    row = base.get(first)
    rows = [*([] if row is None else [row]), *base.with_prefix(first + ":")]
    return sorted(rows, key=lambda row: row.seq)


def _marker_lives(path: DocumentPath, base: Base) -> bool:
    return base.get(path.prefix) is not None or bool(base.with_prefix(path.marker_prefix))
