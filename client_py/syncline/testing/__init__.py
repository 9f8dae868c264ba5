"""For tests of programs that use this package: a real server in this process, and a clock that a test moves.

    with Server(stores=["notes"]) as server:
        async with syncline.connect(server.url, clock=VirtualClock()) as client:
            ...

`Server` breaks, stops, restarts and is set back as a test says. With pytest, the fixtures `syncline_server`,
`syncline_clock` and `syncline_client` are there wherever this is installed. The server itself is another package,
which an entry point names, and has to be installed.
"""

from .clock import VirtualClock
from .server import Backup, Server

__all__ = ["Backup", "Server", "VirtualClock"]
