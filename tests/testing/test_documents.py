"""What the documents say of `syncline.testing`: the how-to is carried out, and the reference has every name."""

import re
import subprocess
import sys
from pathlib import Path

import pytest_syncline
import pytest_syncline.client
import syncline.testing
from syncline.testing import Server, VirtualClock

_DOCS = Path(__file__).parents[2] / "docs"


def test_the_test_file_of_the_howto_passes(tmp_path: Path) -> None:
    page = (_DOCS / "howto" / "test-your-application.md").read_text()
    files = dict(re.findall(r"`([\w.]+)`[^`]*:\n\n```\w+\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
    assert sorted(files) == ["balance.py", "pyproject.toml", "test_balance.py"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert re.search(r"^test_balance\.py \.{5} +\[100%\]$", ran.stdout, re.MULTILINE), ran.stdout
    assert "test_balance.py .....   " in page


def test_every_name_is_in_the_reference() -> None:
    page = (_DOCS / "reference" / "testing.md").read_text()
    names = {*syncline.testing.__all__, *pytest_syncline.__all__, *pytest_syncline.client.__all__}
    for cls in (Server, VirtualClock):
        names.update(vars(cls), vars(cls()))
    for name in names - {"pytest_configure"}:
        if not name.startswith("_"):
            assert re.search(rf"`(await )?{name}[`(]", page), name
