"""Values on their way to the server: any JSON-able object, or JSON text that is sent as it is.

What JSON cannot say is refused, never bent: encoders write NaN as null, which would store another value than the
program has. The text made here is the text that every retry sends, and the text that the server keeps.
"""

import math
from dataclasses import dataclass

import msgspec

from syncline_protocol.errors import ValueInvalid
from syncline_protocol.limits import Limits
from syncline_protocol.values import check_value

__all__ = ["Json", "JsonValue", "encode_value"]

#: What a value decodes to. Encoding takes more: dataclasses, msgspec structs, datetimes, UUIDs and the like.
JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


@dataclass(frozen=True, slots=True)
class Json:
    """JSON text to be sent exactly as it is: `Json('{"n": 12345678901234567890.5}')`."""

    text: str


def encode_value(value: object, limits: Limits) -> bytes:
    """Return the JSON text of a value, in UTF-8.

    Raises:
        ValueInvalid: it cannot be said in JSON, or it breaks a rule of PROTOCOL 3.3.
    """
    try:
        text = value.text.encode() if isinstance(value, Json) else msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise ValueInvalid("value_invalid", "the value has a lone surrogate") from error
    except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError) as error:
        raise ValueInvalid("value_invalid", f"the value cannot be written as JSON: {error}") from error
    if b"null" in text and not isinstance(value, Json):
        _refuse_nan(msgspec.to_builtins(value))
    return check_value(text, limits)


def _refuse_nan(value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueInvalid("value_invalid", f"the value has the number {value}, which JSON does not have")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_nan(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _refuse_nan(item)
