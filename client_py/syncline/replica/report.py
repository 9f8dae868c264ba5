"""What a replica reports besides its records: things that happened to it that an application may want to show."""

from dataclasses import dataclass

from syncline.value import JsonValue
from syncline_protocol.cursor import Seq

from .entry import EntryId

__all__ = [
    "EditDropped",
    "EditMerged",
    "EditOverwrote",
    "NotPutBack",
    "PutBack",
    "Rejected",
    "Repaired",
    "Report",
    "Returned",
    "RewoundTo",
    "StoreReplaced",
]


@dataclass(frozen=True, slots=True)
class RewoundTo:
    """The server was restored from an older state: history above `keep_to` is another one now."""

    keep_to: Seq


@dataclass(frozen=True, slots=True)
class Returned:
    """The server had lost these writes of ours; they are in the outbox again."""

    entry_ids: tuple[EntryId, ...]


@dataclass(frozen=True, slots=True)
class PutBack:
    """The server had lost these records, which others had written; they are in the outbox to be put back."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotPutBack:
    """The server had lost this record, and did not take it from us; `reason` says why. We are not to keep it alive."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoreReplaced:
    """The store was dropped and made anew. What the old one did not have for good is among the rejections."""

    rejected: int


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was held was not what the server has, so it is being read from the start. `attempt` counts them in a row."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A write was refused for good; it is among the rejections."""

    entry_id: EntryId


@dataclass(frozen=True, slots=True)
class EditOverwrote:
    """Somebody else had set an attribute before us; ours was the last, so it stands. `theirs` was replaced."""

    document: str
    attribute: str
    theirs: JsonValue


@dataclass(frozen=True, slots=True)
class EditMerged:
    """Somebody else had set an attribute before us; the application's function made one value of both."""

    document: str
    attribute: str
    value: JsonValue


@dataclass(frozen=True, slots=True)
class EditDropped:
    """The document was deleted by somebody else before our change of it arrived; the change is dropped."""

    document: str
    attribute: str


Report = (
    RewoundTo
    | Returned
    | PutBack
    | NotPutBack
    | StoreReplaced
    | Repaired
    | Rejected
    | EditOverwrote
    | EditMerged
    | EditDropped
)
