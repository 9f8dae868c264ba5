"""Documents as objects of the application's types: dataclasses, msgspec structs, pydantic models. Pure.

An attribute is a field. Attributes that the type does not have are left alone: another version of the application may
know them. pydantic is not needed, and not imported; its models are known by their methods.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from syncline.errors import DocumentMismatch, Misuse

from .attribute import plain_attribute

__all__ = ["Shape"]

T = TypeVar("T")


class Shape(Generic[T]):
    """The type of the documents of a collection.

    Args:
        kind: a dataclass, a `msgspec.Struct` or a pydantic model.

    Raises:
        Misuse: it is something else.
    """

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind
        self._fields = _fields_of(kind)
        self._is_pydantic = hasattr(kind, "model_validate")

    def read(self, path: str, texts: Mapping[str, str]) -> T:
        """Make an object of a document's attributes.

        Raises:
            DocumentMismatch: they do not fit: one is missing that has no default, or is of another type.
        """
        values = {name: plain_attribute(text) for name, text in texts.items() if name in self._fields}
        try:
            if self._is_pydantic:
                made: T = self.kind.model_validate(values)  # type: ignore[attr-defined]
                return made
            return msgspec.convert(values, self.kind)
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            raise DocumentMismatch(path, self.kind.__name__, " ".join(str(error).split())) from error

    def attributes(self, value: T) -> dict[str, Any]:
        """Return the attributes of an object; `None` for those that are to be unset."""
        if not isinstance(value, self.kind):
            raise Misuse(f"{value!r} is not a {self.kind.__name__}", hint="give an object of the collection's type")
        if self._is_pydantic:
            dumped: dict[str, Any] = value.model_dump(mode="json")  # type: ignore[attr-defined]
            return dumped
        built = msgspec.to_builtins(value)
        return {name: built.get(name) for name in self._fields}

    def check_names(self, names: Mapping[str, object]) -> None:
        """Raise `Misuse` for an attribute that the type does not have: most likely it is mistyped."""
        for name in names:
            if name not in self._fields:
                raise Misuse(f"{self.kind.__name__} has no field {name!r}", hint=f"it has {', '.join(self._fields)}")


def _fields_of(kind: type) -> tuple[str, ...]:
    if hasattr(kind, "model_fields"):
        return tuple(kind.model_fields)
    if dataclasses.is_dataclass(kind):
        return tuple([field.name for field in dataclasses.fields(kind)])
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind.__struct_encode_fields__
    raise Misuse(
        f"{kind!r} cannot be the type of documents", hint="give a dataclass, a msgspec.Struct or a pydantic model"
    )
