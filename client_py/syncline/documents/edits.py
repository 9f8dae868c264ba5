"""What is written for a change of a document: the ops, and the edits that say what they mean. Pure.

A value is replaced by [DELETE old, ADD new] in one transaction, so of two rivals one is refused, and learns of it. An
attribute that was never set has a first key that everybody derives alike, so there rivals collide too.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from syncline.replica.entry import Edit, EntryOp, deletions_of

from .assemble import MARKER, NULL, Assembled
from .path import DocumentPath

__all__ = ["Change", "Policy", "creation", "deletions", "is_creation", "is_deletion", "owner_of", "setting"]

Policy = Literal["last", "merge", "report"]
PolicyOf = Callable[[str], Policy]
NewVersion = Callable[[], str]


@dataclass(slots=True)
class Change:
    """Ops of one transaction, and what they mean."""

    ops: list[EntryOp] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)

    def replace(self, edit: Edit, text: str, old_keys: Iterable[str] = ()) -> None:
        """Replace the live values of an attribute by another one."""
        self.ops += [EntryOp(key) for key in old_keys]
        self.ops.append(EntryOp(edit.key, text))
        self.edits.append(edit)

    def set_all(
        self,
        document: Assembled,
        texts: Mapping[str, str],
        policy: PolicyOf,
        new_version: NewVersion,
        marker_version: str,
    ) -> None:
        """Give attributes new values, but for those that have them already."""
        path = document.path
        for attribute, text in texts.items():
            live = document.versions.get(attribute)
            if live is None and text != NULL:
                key = path.key(attribute, marker_version)
                self.replace(Edit(path.text, attribute, key, policy=policy(attribute)), text)
            elif live is not None and not (len(live) == 1 and live[0].text == text):
                key, old = path.key(attribute, new_version()), live[-1]
                edit = Edit(path.text, attribute, key, old.key, old.text, policy(attribute))
                self.replace(edit, text, [record.key for record in live])


def creation(
    document: Assembled, texts: Mapping[str, str], policy: PolicyOf, new_version: NewVersion, *, is_again: bool
) -> Change:
    """Return what makes a document: its marker, and a first value of each attribute.

    Args:
        document: what is left of a former one of this id; its values are replaced.
        is_again: the first keys are known to be used up.
    """
    change = Change()
    version = new_version() if is_again else ""
    edit = Edit(document.path.text, MARKER, document.path.key(MARKER, version))
    change.replace(edit, _marker_text(new_version()))
    change.set_all(document, texts, policy, new_version, version)
    return change


def _marker_text(version: str) -> str:
    # With a text of its own none is taken for the retry of an earlier one of this id, which would be answered `dup`
    # although that document is gone. The number is the version of the encoding.
    return f'{{"$doc":1,"by":"{version}"}}'


def setting(document: Assembled, texts: Mapping[str, str], policy: PolicyOf, new_version: NewVersion) -> Change:
    """Return what gives attributes new values; nothing for those that have them already."""
    change = Change()
    change.set_all(document, texts, policy, new_version, document.marker_version)
    return change


def deletions(path: DocumentPath, own: Iterable[str], below: Iterable[str]) -> list[Change]:
    """Return what deletes a document and all below it, in transactions of a bounded size, its own records first.

    Each op is decided alone: a record that somebody else has deleted or replaced holds up nothing. What replaced it is
    below a document that is gone, and is cleaned up by whoever put it there, or by us once the first one has arrived.
    """
    markers_first = sorted(own, key=lambda key: (key != path.prefix and not key.startswith(path.marker_prefix), key))
    changes = [Change(list(ops)) for ops in deletions_of([*markers_first, *below])]
    changes[0].edits.append(Edit(path.text, MARKER, ""))
    return changes


def is_deletion(edit: Edit) -> bool:
    """Whether an edit says that its document is deleted."""
    return not edit.key


def is_creation(edit: Edit) -> bool:
    """Whether an edit says that its document is made."""
    return edit.attribute == MARKER and bool(edit.key)


def owner_of(edit: Edit) -> DocumentPath:
    """Return the document of an edit."""
    path = DocumentPath.parse(edit.document)
    assert path is not None, edit
    return path
