"""A change of the accounts before it is written: which entities are put or dropped, and what the caller gets. Pure.

The functions of `plans` look at a registry and return a `Plan`, or raise AccountError. A plan is one transaction. One
that is too large for it is made of several: each does what fits, leaves a sound state, and is not `done`; the same
function, asked again, goes on from there. What counts as the result is that of the first.
"""

from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_protocol.transaction import Op, make_op

from .entry import Entry, Guard, encode_entry, key_of
from .registry import Registry

__all__ = ["ADMINS", "Edit", "Plan", "drop", "fitting", "ops_of", "put"]

T_co = TypeVar("T_co", covariant=True)

#: A transaction fits into one frame: so many bytes of keys and values beside 128 for each op are below that.
_BYTES_MAX = 1024 * 1024
_OPS_MAX = DEFAULT_LIMITS.ops_max
_OP_BYTES = 128

#: Changes that could leave nobody as administrator collide here.
ADMINS = Guard("admins")


class Edit(NamedTuple):
    """An entity as it shall be, or that shall be no more."""

    entry: Entry
    lives: bool


class Plan(msgspec.Struct, Generic[T_co], frozen=True):
    """What to write, and what the caller gets once it is written. `done`: nothing of the change is left."""

    edits: tuple[Edit, ...]
    result: T_co
    done: bool = True


def put(entry: Entry) -> Edit:
    """An entity that is made or changed."""
    return Edit(entry, True)


def drop(entry: Entry) -> Edit:
    """An entity that ends."""
    return Edit(entry, False)


def ops_of(registry: Registry, edits: Iterable[Edit]) -> list[Op]:
    """Return the ops that carry out these edits on what the registry knows."""
    ops: list[Op] = []
    for edit in edits:
        version = registry.version_of(edit.entry)
        if version is not None:
            ops.append(make_op(key_of(edit.entry, version), None, DEFAULT_LIMITS))
        if edit.lives:
            key = key_of(edit.entry, 0 if version is None else version + 1)
            ops.append(make_op(key, encode_entry(edit.entry), DEFAULT_LIMITS))
    return ops


def fitting(registry: Registry, edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """Return as many of these edits, from the first on, as one transaction takes; at least one."""
    count = size = 0
    for index, edit in enumerate(edits):
        ops = ops_of(registry, [edit])
        count += len(ops)
        size += sum(_OP_BYTES + len(op.key) + len(op.value or b"") for op in ops)
        if index and (count > _OPS_MAX or size > _BYTES_MAX):
            return tuple(edits[:index])
    return tuple(edits)
