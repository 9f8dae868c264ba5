"""NDJSON as it comes over HTTP: one line after the other, of an answer that may be larger than memory.

Lines are split at line feeds only: values may hold other characters that Python's `splitlines` takes for line ends.
"""

from collections.abc import AsyncIterator

import httpx2

__all__ = ["NDJSON", "lines_of"]

NDJSON = "application/x-ndjson"


async def lines_of(response: httpx2.Response) -> AsyncIterator[bytes]:
    """Yield the lines of an answer that are not empty, as they come."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
    if rest:
        yield rest
