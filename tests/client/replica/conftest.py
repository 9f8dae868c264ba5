"""Every test of a replica that asks for `path` runs with a file and in memory."""

from pathlib import Path

import pytest


@pytest.fixture(params=["memory", "file"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """Where the replica is."""
    return None if request.param == "memory" else str(tmp_path / "replica.db")
