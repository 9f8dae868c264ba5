"""The documents against the code: what is there is described, and what is described is there."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest

from syncline.cli import main as command_line

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


def test_every_command_and_flag_is_in_the_reference_of_the_command_line() -> None:
    text = (DOCS / "reference" / "cli.md").read_text()
    context = click.Context(command_line)
    assert isinstance(command_line, click.Group)
    for name in command_line.list_commands(context):
        assert f"syncline {name}" in text, name
        command = command_line.get_command(context, name)
        assert command is not None
        if name == "serve":  # its flags are the settings
            continue
        for parameter in command.params:
            for flag in parameter.opts:
                if flag.startswith("--") and flag != "--help":
                    assert flag in text, f"{name} {flag}"


@pytest.mark.parametrize("path", sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")]), ids=lambda p: p.name)
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target
