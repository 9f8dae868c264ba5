"""What the documents say of `syncline.sync`: the script of the how-to runs, and the reference has every name."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import syncline.sync
from syncline.testing import Server

_DOCS = Path(__file__).parents[3] / "docs"
_TIMEOUT_S = 60


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str, str, str], list[str]]:
    """Run the script of the how-to, and return the lines that it prints."""
    page = (_DOCS / "howto" / "scripts-and-notebooks.md").read_text()
    found = re.search(r"`readings\.py`:\n\n```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert found is not None
    (tmp_path / "readings.py").write_text(found[1])

    def run(url: str, sensor: str, celsius: str) -> list[str]:
        ran = subprocess.run(
            [sys.executable, "-W", "always", "readings.py", sensor, celsius],
            cwd=tmp_path,
            env=os.environ | {"SYNCLINE_URL": url, "PYTHONUTF8": "1"},
            capture_output=True,
            encoding="utf-8",
            timeout=_TIMEOUT_S,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        return ran.stdout.splitlines()

    return run


def test_the_script_of_the_howto_works_offline_and_catches_up(run: Callable[[str, str, str], list[str]]) -> None:
    with Server() as server:
        server.kill()
        waits, cellar = run(server.url, "cellar", "11.5")
        assert re.match(r"1 not sent yet: \w", waits)
        assert cellar == "cellar: 11.5 °C (pending)"
        server.start()
        lines = run(server.url, "attic", "24")
    # An answer may be faster than the feed.
    assert [line.replace("acked", "synced") for line in lines] == [
        "attic: 24.0 °C (synced)",
        "cellar: 11.5 °C (synced)",
    ]


def test_every_name_is_in_the_reference() -> None:
    text = (_DOCS / "reference" / "sync.md").read_text()
    for name in syncline.sync.__all__:
        assert re.search(rf"`{name}`", text), name
