"""References from one document to another: `author=ref(user)`."""

from typing import Any

from syncline.errors import Misuse

from .attribute import Ref
from .document import Document

__all__ = ["ref"]


def ref(target: Document[Any] | str) -> Ref:
    """Return a reference to a document, or to the one with this path, to be kept as a value of an attribute.

    `replica.resolve` gives the document back.

    Raises:
        Misuse: there is no such path.
    """
    if isinstance(target, Document):
        return target.ref
    if isinstance(target, str):
        return Ref(target)
    raise Misuse(f"{target!r} is no document", hint="give a document, or the path of one")
