"""The vectors of `protocol/behaviour/documents.yaml`, which clients in other languages share."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from syncline import Ref
from syncline.documents.attribute import decode_attribute, encode_attribute
from syncline.documents.path import decode_part, encode_part, short_id, split_key
from syncline_protocol import DEFAULT_LIMITS

VECTORS = yaml.safe_load((Path(__file__).parents[3] / "protocol" / "behaviour" / "documents.yaml").read_text())


@pytest.mark.parametrize(("part", "spelled"), VECTORS["parts"])
def test_a_part_is_spelled_in_one_way(part: str, spelled: str) -> None:
    assert encode_part(part, "a part") == spelled
    assert decode_part(spelled) == part


@pytest.mark.parametrize(("uuid", "made"), VECTORS["ids"])
def test_an_id_is_the_bits_of_a_uuid(uuid: str, made: str) -> None:
    assert short_id(uuid) == made


@pytest.mark.parametrize(("key", "meaning"), VECTORS["keys"])
def test_a_key_says_whose_it_is(key: str, meaning: list[str] | None) -> None:
    parts = split_key(key)
    assert (None if parts is None else [parts.document.text, parts.attribute, parts.version]) == meaning
    if parts is not None:
        assert parts.document.key(parts.attribute, parts.version) == key


def given(value: Any) -> Any:
    """Return a value with references in the place of what stands for them."""
    if isinstance(value, dict):
        if set(value) == {"ref"}:
            return Ref(value["ref"])
        return {name: given(item) for name, item in value.items()}
    return [given(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("value", "text"), VECTORS["values"])
def test_a_value_is_written_and_read_alike(value: Any, text: str) -> None:
    assert encode_attribute(given(value), DEFAULT_LIMITS).decode() == text
    assert decode_attribute(text) == given(value)
