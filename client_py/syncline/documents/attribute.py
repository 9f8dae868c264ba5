"""The values of attributes: JSON, with references to documents among it. Pure.

A reference is an object with the one member `$ref`. An object of the application's own that has a single member whose
name begins with `$` is put into another one, as `{"$value": …}`, so that it is never taken for something else.
"""

from typing import Any

import msgspec

from syncline.errors import Misuse
from syncline.value import JsonValue, encode_value
from syncline_protocol import Limits
from syncline_protocol.errors import ValueInvalid

from .path import DocumentPath

__all__ = ["Ref", "decode_attribute", "encode_attribute", "plain_attribute", "with_references"]

_decode = msgspec.json.Decoder().decode


class Ref(msgspec.Struct, frozen=True, order=True):
    """A reference to a document, to be kept as a value, or as part of one, of another's attribute.

    `path` is the path of the document: `rooms:0d4g…`. The document may be gone; a reference does not hold it.
    """

    path: str = msgspec.field(name="$ref")

    def __post_init__(self) -> None:
        if DocumentPath.parse(self.path) is None:
            raise Misuse(f"{self.path!r} is not the path of a document", hint="take `document.ref`")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Tell pydantic how to read and write one."""
        from pydantic_core import core_schema

        def read(value: Any) -> Ref:
            if isinstance(value, Ref):
                return value
            return msgspec.convert(value, Ref)

        return core_schema.no_info_plain_validator_function(
            read, serialization=core_schema.plain_serializer_function_ser_schema(msgspec.to_builtins)
        )


def encode_attribute(value: object, limits: Limits) -> bytes:
    """Return a value as JSON text.

    Raises:
        ValueInvalid: it cannot be said in JSON, or breaks a rule of PROTOCOL 3.3.
    """
    try:
        wrapped = _wrap(value)
    except RecursionError as error:
        raise ValueInvalid("value_invalid", "the value is nested too deep, or in itself") from error
    return encode_value(wrapped, limits)


def _wrap(value: object) -> object:
    if isinstance(value, Ref):
        return {"$ref": value.path}
    if isinstance(value, dict):
        wrapped = {name: _wrap(item) for name, item in value.items()}
        return {"$value": wrapped} if _is_special(wrapped) else wrapped
    if isinstance(value, list | tuple):
        return [_wrap(item) for item in value]
    return value


def _is_special(value: dict[Any, Any]) -> bool:
    if len(value) != 1:
        return False
    (name,) = value
    return isinstance(name, str) and name.startswith("$")


def with_references(built: Any) -> Any:
    """Return what an object was built down to with its references as `Ref` again: as JSON they look like its own."""
    if isinstance(built, dict):
        if _is_special(built) and isinstance(path := built.get("$ref"), str):
            return _reference(path)
        return {name: with_references(item) for name, item in built.items()}
    if isinstance(built, list | tuple):
        return [with_references(item) for item in built]
    return built


def decode_attribute(text: str) -> Any:
    """Return the value of a text: what `encode_attribute` took, with `Ref` for references."""
    return _unwrap(_decode(text), _reference)


def plain_attribute(text: str) -> JsonValue:
    """Return the value of a text with references as they stand in JSON; for types that know `Ref` by themselves."""
    plain: JsonValue = _unwrap(_decode(text), lambda path: {"$ref": path})
    return plain


def _reference(path: str) -> Any:
    return Ref(path) if DocumentPath.parse(path) is not None else {"$ref": path}


def _unwrap(value: Any, reference: Any) -> Any:
    if isinstance(value, dict):
        if _is_special(value):
            ((name, inner),) = value.items()
            if name == "$ref" and isinstance(inner, str):
                return reference(inner)
            if name == "$value" and isinstance(inner, dict):
                return {name: _unwrap(item, reference) for name, item in inner.items()}
        return {name: _unwrap(item, reference) for name, item in value.items()}
    if isinstance(value, list):
        return [_unwrap(item, reference) for item in value]
    return value
