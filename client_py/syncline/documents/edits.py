"""What is written for a change of a document: the ops, and the edits that say what they mean. Pure.

A value is replaced by [DELETE old, ADD new] in one transaction, so of two rivals one is refused, and learns of it. An
attribute that was never set has a first key that everybody derives alike, so there rivals collide too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from syncline.replica.entry import Edit, EntryOp

from .assemble import MARKER, Assembled
from .path import DocumentPath

__all__ = ["Change", "creation", "deletions", "setting"]

#: The marker of a document: the version of the encoding that it is written in.
MARKER_TEXT = '{"$doc":1}'

#: A document is deleted in transactions of so many records at most.
_DELETES_MAX = 500

Policy = Literal["last", "merge", "report"]


@dataclass(slots=True)
class Change:
    """Ops of one transaction, and what they mean."""

    ops: list[EntryOp] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)

    def replace(self, edit: Edit, text: str, old_keys: list[str]) -> None:
        """Replace the live values of an attribute by another one."""
        self.ops += [EntryOp(key) for key in old_keys]
        self.ops.append(EntryOp(edit.key, text))
        self.edits.append(edit)


def creation(path: DocumentPath, texts: Mapping[str, str], policy: Callable[[str], Policy]) -> Change:
    """Return what makes a document: its marker, and a first value of each attribute."""
    change = Change()
    for attribute, text in {MARKER: MARKER_TEXT, **texts}.items():
        key = path.first_key(attribute)
        change.replace(Edit(path.text, attribute, key, policy=policy(attribute)), text, [])
    return change


def setting(
    document: Assembled,
    texts: Mapping[str, str],
    policy: Callable[[str], Policy],
    new_version: Callable[[], str],
) -> Change:
    """Return what gives attributes new values; nothing for those that have them already."""
    change = Change()
    for attribute, text in texts.items():
        live = document.versions.get(attribute, [])
        if live and live[-1].text == text and len(live) == 1:
            continue
        if not live:
            edit = Edit(document.path.text, attribute, document.path.first_key(attribute), policy=policy(attribute))
        else:
            key = document.path.later_key(attribute, new_version())
            edit = Edit(document.path.text, attribute, key, live[-1].key, live[-1].text, policy(attribute))
        change.replace(edit, text, [record.key for record in live])
    return change


def deletions(path: DocumentPath, keys: list[str]) -> list[Change]:
    """Return what deletes a document and all below it, in transactions of a bounded size, its own records first.

    Each op is decided alone: a record that somebody else has deleted or replaced holds up nothing. What replaced it is
    below a document that is gone, and is cleaned up by whoever put it there, or by us.
    """
    own = [key for key in keys if key.startswith(path.prefix)]
    below = [key for key in keys if not key.startswith(path.prefix)]
    own.sort(key=lambda key: (key != path.prefix and not key.startswith(path.marker_prefix), key))
    ordered = [*own, *below]
    return [
        Change([EntryOp(key) for key in ordered[at : at + _DELETES_MAX]], [Edit(path.text, MARKER, "")])
        for at in range(0, len(ordered), _DELETES_MAX)
    ]
