"""Everything that is logged while a test runs, searched for tokens when it is over: none may ever stand in a log."""

import re
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

__all__ = ["logs"]

_OURS = re.compile(r"syncline_[a-z]_[A-Za-z0-9_-]{20}|operator-token|header\.payload\.")


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    """Everything that is logged; no token is in it."""
    with capture_logs() as entries:
        yield entries
    for entry in entries:
        error = entry.get("exc_info")
        text = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
        assert not _OURS.search(repr(entry) + text), entry
