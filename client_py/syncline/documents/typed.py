"""Documents as objects of the application's types: dataclasses, msgspec structs, pydantic models. Pure.

An attribute is a field, under the name that the field has in JSON. Attributes that the type does not have are left
alone: another version of the application may know them. pydantic is not needed, and not imported; its models are
known by their methods.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from syncline.errors import DocumentMismatch, Misuse

from .attribute import plain_attribute, with_references

__all__ = ["Shape"]

T = TypeVar("T")


class Shape(Generic[T]):
    """The type of the documents of a collection.

    Args:
        kind: a dataclass, a `msgspec.Struct` or a pydantic model.

    Raises:
        Misuse: it is something else, or has no fields by name.
    """

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind
        self._fields = _fields_of(kind)
        self._is_pydantic = _is_pydantic(kind)

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
        except Exception as error:
            # Whatever the type's own checks raise: it is for the document's reader to know, not for the replica.
            raise DocumentMismatch(path, self.kind.__name__, " ".join(str(error).split())) from error

    def attributes(self, value: object) -> dict[str, Any]:
        """Return the attributes of an object; `None` for those that are not set.

        Raises:
            Misuse: it is of another type.
        """
        if not isinstance(value, self.kind):
            raise Misuse(f"{value!r} is not a {self.kind.__name__}", hint="give an object of the collection's type")
        dump = getattr(value, "model_dump", None) if self._is_pydantic else None
        built = msgspec.to_builtins(value) if dump is None else dump(mode="json", by_alias=True)
        return {name: with_references(built.get(name)) for name in self._fields}

    def check_unset(self, path: str, value: object, texts: Mapping[str, str]) -> None:
        """Check that what is None in an object is None when the document is read: that is what an unset one is.

        Raises:
            DocumentMismatch: a field that is None has another default, or the attributes do not fit.
        """
        again = self.attributes(self.read(path, texts))
        for name, item in self.attributes(value).items():
            if item is None and again[name] is not None:
                fault = f"{name!r} is None, which unsets it, and it would be read as {again[name]!r}"
                raise DocumentMismatch(path, self.kind.__name__, fault)

    def check_names(self, names: Mapping[str, object]) -> None:
        """Raise `Misuse` for an attribute that the type does not have: most likely it is mistyped."""
        for name in names:
            if name not in self._fields:
                raise Misuse(f"{self.kind.__name__} has no field {name!r}", hint=f"it has {', '.join(self._fields)}")


def _is_pydantic(kind: type) -> bool:
    return hasattr(kind, "model_validate") and hasattr(kind, "model_fields")


def _fields_of(kind: type) -> tuple[str, ...]:
    """Return the names that the fields have in JSON."""
    if isinstance(kind, type):
        if _is_pydantic(kind) and not getattr(kind, "__pydantic_root_model__", False):
            return tuple([_name_of(kind, name, field) for name, field in kind.model_fields.items()])  # type: ignore[attr-defined]
        if dataclasses.is_dataclass(kind):
            return tuple([field.name for field in dataclasses.fields(kind)])
        if issubclass(kind, msgspec.Struct) and not kind.__struct_config__.array_like:
            return kind.__struct_encode_fields__
    raise Misuse(
        f"{kind!r} cannot be the type of documents",
        hint="give a dataclass, a msgspec.Struct or a pydantic model, with fields that have names in JSON",
    )


def _name_of(kind: type, name: str, field: Any) -> str:
    written, read = field.serialization_alias or name, field.validation_alias or name
    if written != read:
        raise Misuse(
            f"{kind.__name__}.{name} is written as {written!r} and read as {read!r}", hint="give it one alias for both"
        )
    return str(written)
