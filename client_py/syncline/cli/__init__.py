"""The command line `syncline`.

One module per kind of command; `frame` has what all share: the option `--url`, what errors become, exit codes. Commands
of other packages come by the entry point group `syncline.commands` and are imported only when they are invoked, so
that `syncline add` does not pay for the server.
"""

import click

from .audit import audit
from .doctor import doctor
from .dump import dump
from .frame import EXIT_CODES, url_option
from .group import CommandGroup
from .load import load
from .outbox import outbox
from .records import add, delete, get
from .stores import stores
from .tail import tail

__all__ = ["main"]

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())


@click.group(cls=CommandGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="syncline")
@url_option
def main(url: str) -> None:
    """Durable change logs that every subscriber follows without a gap.

    Run a server with `syncline serve`, then add records to a store, and follow it with `syncline tail`.
    """


for _command in (add, audit, delete, doctor, dump, get, load, outbox, stores, tail):
    main.add_command(_command)
