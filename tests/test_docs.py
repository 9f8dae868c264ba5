"""The documents against the code: what is there is described, and what is described is there."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

import syncline
from syncline.cli import main as command_line
from syncline_server.http.operation import Operation
from syncline_server.routes import OPERATIONS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def build_reference() -> ModuleType:
    """Import the script that makes the reference; it is no part of a package."""
    spec = importlib.util.spec_from_file_location("build_reference", DOCS / "build_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", build_reference().PAGES)
def test_pages_made_from_tables_are_up_to_date(page: str) -> None:
    assert (DOCS / "reference" / page).read_text() == build_reference().PAGES[page](), "run `make docs`"


def commands_of(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{prefix} {name}", command
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{prefix} {name}")


def test_every_command_and_flag_is_in_the_reference_of_the_command_line() -> None:
    text = (DOCS / "reference" / "cli.md").read_text()
    assert isinstance(command_line, click.Group)
    for words, command in commands_of(command_line, "syncline"):
        assert words in text, words
        if words == "syncline serve":  # its flags are the settings
            continue
        for parameter in command.params:
            for flag in parameter.opts:
                if flag.startswith("--") and flag != "--help":
                    assert flag in text, f"{words} {flag}"


def test_every_public_name_is_in_the_reference_of_the_client() -> None:
    text = "".join([(DOCS / "reference" / page).read_text() for page in ("python.md", "replica.md", "accounts.md")])
    for name in syncline.__all__:
        assert re.search(rf"`{name}[`(]", text), name


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_route_is_in_the_reference_of_http_with_all_that_it_takes_and_refuses(operation: Operation) -> None:
    text = "".join([(DOCS / "reference" / page).read_text() for page in ("http.md", "http-accounts.md")])
    _, heading, rest = text.partition(f"### `{operation.method} {operation.path}`\n")
    assert heading
    section = rest.partition("\n### ")[0].partition("\n## ")[0]
    names = [parameter.name for parameter in operation.parameters] + [header.name for header in operation.headers]
    for name in names:
        assert f"`{name}`" in section, name
    for code in operation.refusals:
        assert f"`{code}`" in section, code
    for answer in operation.answers:
        assert re.search(rf"\b{answer.status}\b", section), answer.status


@pytest.mark.parametrize("path", sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")]), ids=lambda p: p.name)
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target
