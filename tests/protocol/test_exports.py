"""What a module offers is what it says it offers."""

import importlib
import pkgutil
from types import ModuleType

import pytest

import syncline_protocol

_MODULES = [
    "syncline_protocol",
    *(f"syncline_protocol.{m.name}" for m in pkgutil.iter_modules(syncline_protocol.__path__)),
]


def _public_names(module: ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", module.__name__) == module.__name__
    }


@pytest.mark.parametrize("name", _MODULES)
def test_all_lists_names_that_are_there_and_each_once(name: str) -> None:
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert hasattr(module, public), public


@pytest.mark.parametrize("name", _MODULES[1:])
def test_all_lists_every_public_class_and_function_of_a_module(name: str) -> None:
    module = importlib.import_module(name)
    defined = {
        n for n in _public_names(module) if callable(getattr(module, n)) and hasattr(getattr(module, n), "__module__")
    }
    own = {n for n in defined if getattr(module, n).__module__ == name}
    assert own <= set(module.__all__)


@pytest.mark.parametrize("name", _MODULES[1:])
def test_all_lists_every_public_constant_of_a_module(name: str) -> None:
    module = importlib.import_module(name)
    source = importlib.util.find_spec(name)
    assert source is not None
    assert source.origin is not None
    with open(source.origin) as file:
        lines = file.read().splitlines()
    constants = {line.split(":")[0].split(" =")[0] for line in lines if line[:1].isupper() and " = " in line}
    assert {constant for constant in constants if constant.isidentifier()} - {"M"} <= set(module.__all__)


@pytest.mark.parametrize("name", _MODULES)
def test_every_module_says_what_it_is_for(name: str) -> None:
    assert importlib.import_module(name).__doc__
