"""The command line `syncline`.

One module per kind of command; `frame` has what all share: what errors become, and exit codes; `server` has the options
that say where and as whom. Commands of other packages come by the entry point group `syncline.commands` and are
imported only when they are invoked, so that `syncline add` does not pay for the server.
"""

import click

from .audit import audit
from .backup import backup
from .compact import compact
from .diff import diff
from .doctor import doctor
from .dump import dump
from .find import find, follow
from .frame import EXIT_CODES
from .group import CommandGroup
from .indexes import indexes
from .load import load
from .login import accept, login, logout, password, setup, whoami
from .outbox import outbox
from .records import add, delete, get
from .server import Server, server_options
from .sharing import grants, invite
from .stores import stores
from .tail import tail
from .tokens import tokens
from .users import groups, users

__all__ = ["main"]

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())


@click.group(cls=CommandGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="syncline")
@server_options
def main(server: Server) -> None:
    """Durable change logs that every subscriber follows without a gap.

    Run a server with `syncline serve`, then add records to a store, and follow it with `syncline tail`.
    """


_RECORDS = (add, compact, delete, diff, dump, find, follow, get, indexes, load, outbox, stores, tail)
_ACCOUNTS = (accept, audit, grants, groups, invite, login, logout, password, setup, tokens, users, whoami)

for _command in (*_RECORDS, *_ACCOUNTS, backup, doctor):
    main.add_command(_command)
