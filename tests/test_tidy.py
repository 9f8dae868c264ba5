"""The house rules that a machine can check: layering, sizes, openings, public names, what may not be left behind."""

import ast
import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "syncline_protocol": ROOT / "protocol",
    "syncline_server": ROOT / "server",
    "syncline": ROOT / "client_py",
    "pytest_syncline": ROOT / "client_py",
}
MAY_IMPORT = {
    "syncline_protocol": set[str](),
    "syncline_server": {"syncline_protocol"},
    "syncline": {"syncline_protocol"},
    "pytest_syncline": {"syncline"},
}
#: What a pure module cannot need: sockets, files, clocks, randomness.
IMPURE = {"asyncio", "socket", "time", "random", "secrets", "os", "pathlib", "threading", "sqlite3", "uuid", "logging"}
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60


def tracked(*suffixes: str) -> list[Path]:
    """Return the files that git tracks or would track, by ending."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / line for line in listing.stdout.splitlines()]
    return [path for path in paths if path.suffix in suffixes and path.is_file()]


def modules() -> list[Path]:
    """Return every module of the packages."""
    return [path for package, folder in PACKAGES.items() for path in sorted((folder / package).rglob("*.py"))]


def name_of(path: Path) -> str:
    """Return a path as it stands in the repository."""
    return path.relative_to(ROOT).as_posix()


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Yield the top-level names of what is imported absolutely."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_only_imports_what_its_layer_may(path: Path) -> None:
    package = path.relative_to(ROOT).parts[1]
    imported = set(imports_of(ast.parse(path.read_text())))
    others = imported & set(PACKAGES) - {package}
    assert others <= MAY_IMPORT[package]
    if package == "syncline_protocol":
        assert not imported & IMPURE


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_says_in_its_first_lines_what_it_owns(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", tracked(".py"), ids=name_of)
def test_modules_and_functions_keep_a_readable_size(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MODULE_LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node, clean=False)
            length = (node.end_lineno or 0) - node.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"


@pytest.mark.parametrize("folder", sorted(set(PACKAGES.values())), ids=name_of)
def test_no_module_lies_loose_where_an_editable_install_would_export_it(folder: Path) -> None:
    assert not list(folder.glob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist_and_are_sorted_into_all(package: str) -> None:
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name), name


@pytest.mark.parametrize("path", tracked(".py", ".js", ".md", ".css", ".html", ".toml", ".yaml", ".sh"), ids=name_of)
def test_nothing_is_left_for_later_or_tied_to_one_machine(path: Path) -> None:
    if path == Path(__file__):
        return
    text = path.read_text()
    for pattern in (r"\b(TODO|FIXME|XXX|HACK)\b", r"(?<![A-Za-z.:/])/(work|root|home)/"):
        found = re.search(pattern, text)
        assert found is None, f"{found!r}"
