"""The plain API against the async one: the same names, the same arguments, and words of its own about each."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import syncline
import syncline.sync
from tests.client.api.adapter import TWINS

#: Methods that the async API says with other words, as it has to.
RENAMED = {"aclose": "close"}

#: What a method that waits takes here besides, as there is no `asyncio.timeout` for it.
ADDED = {"timeout"}

#: Public names of async classes that are for other parts of the package.
INTERNAL = {
    syncline.Collection: {
        "all_assembled",
        "assembled",
        "below",
        "collection_path",
        "delete",
        "set",
        "shape",
        "stored",
        "texts_of",
    },
    syncline.Document: {"document_path", "seen"},
    syncline.Replica: {
        "check_key",
        "attend",
        "fitting",
        "limits",
        "new_id",
        "next_records",
        "order",
        "put",
        "records",
        "writes_below",
        "written_order",
    },
    syncline.Watch: {"end", "touched"},
    syncline.Write: {"end", "moved"},
}

PAIRS = [(plain, twin) for plain, twin in TWINS.items() if plain is not syncline.sync.Statuses]


def names_of(kind: type[Any]) -> Iterator[str]:
    """Yield the public names of a class, as they are in the async API."""
    for name in dir(kind):
        if not name.startswith("_") and name not in INTERNAL.get(kind, set()):
            yield name


def parameters_of(function: Any) -> dict[str, tuple[Any, Any]]:
    """Return name, kind and default of each parameter."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: (each.kind, each.default) for each in parameters}


@pytest.mark.parametrize(("plain", "twin"), PAIRS, ids=lambda kind: kind.__name__)
def test_every_method_is_there_with_the_same_arguments(plain: type[Any], twin: type[Any]) -> None:
    for name in names_of(twin):
        there, here = getattr(twin, name), getattr(plain, RENAMED.get(name, name))
        assert isinstance(there, property) == isinstance(here, property), name
        if not isinstance(there, property):
            taken, expected = parameters_of(here), parameters_of(there)
            assert {each for each in taken if each in expected or each not in ADDED} == set(expected), name
            assert {each: taken[each] for each in expected} == expected, name


@pytest.mark.parametrize(("plain", "twin"), PAIRS, ids=lambda kind: kind.__name__)
def test_nothing_is_awaited_and_everything_is_explained(plain: type[Any], twin: type[Any]) -> None:
    for name in [each for each in dir(plain) if not each.startswith("_")]:
        here = inspect.getattr_static(plain, name)
        assert here.__doc__, name
        assert not inspect.iscoroutinefunction(here), name
    assert plain.__doc__


def test_a_client_is_opened_with_the_same_arguments() -> None:
    assert parameters_of(syncline.sync.connect) == parameters_of(syncline.connect)


def test_every_class_with_something_to_wait_for_has_a_twin() -> None:
    for name in syncline.__all__:
        kind = getattr(syncline, name)
        if inspect.isclass(kind) and any(
            inspect.iscoroutinefunction(each) for each in vars(kind).values() if kind is not syncline.Clock
        ):
            assert kind in TWINS.values(), name
    assert set(TWINS) <= {getattr(syncline.sync, name) for name in syncline.sync.__all__}
