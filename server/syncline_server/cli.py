"""The commands of the server, which the client's command line takes up by entry point.

`syncline serve` is made from `Settings`. `syncline restore` works on the store file of a server that does not run.
"""

import errno
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from .demo import DEMO_STORE
from .log import configure_logging
from .settings import Settings, SettingsError, env_name, flag_name, load_settings
from .storage import file_of
from .storage.base import StorageError

__all__ = ["restore", "serve"]

#: Where the client looks for a server when nothing is said; commands need no --url then.
_CLIENT_DEFAULT = "http://127.0.0.1:7171"


def _options() -> list[click.Parameter]:
    options: list[click.Parameter] = [
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path, dir_okay=False),
            help="TOML file of settings. [env: SYNCLINE_CONFIG]",
        )
    ]
    for setting in fields(Settings):
        kind = type(setting.default)
        names = [flag_name(setting.name)]
        if kind is bool:
            names = [f"{names[0]}/--no-{names[0][2:]}"]
        options.append(
            click.Option(
                names,
                type=None if kind is bool else kind,
                default=None,
                help=f"{setting.metadata['help']}. [env: {env_name(setting.name)}; default: {setting.default}]",
            )
        )
    return options


def _serve(config: Path | None, **flags: Any) -> None:
    from .serve import listen, run  # uvicorn and its loop are only needed here

    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = load_settings(flags=given, file=config)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    configure_logging(settings.log_format, settings.log_level)  # type: ignore[arg-type]
    try:
        listener = listen(settings.host, settings.port)
    except (OSError, UnicodeError) as error:
        click.echo(f"error: {_why_not_listening(settings, error)}", err=True)
        sys.exit(4)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    try:
        run(settings, listener, lambda setup_code: _greet(url, settings, setup_code))
    except (StorageError, SettingsError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(4)


def _why_not_listening(settings: Settings, error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError | socket.gaierror):
        return f"cannot listen on {settings.host!r}: this host is not known; choose another --host"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {settings.host!r}: this machine does not have the address; choose another --host"
    place = f"{settings.host}:{settings.port}"
    return f"cannot listen on {place}: {error.strerror}; choose another --port, or stop what has it"


def _greet(url: str, settings: Settings, setup_code: str | None) -> None:
    store = DEMO_STORE if settings.demo else "notes"
    command = _command_line() + ("" if url == _CLIENT_DEFAULT else f" --url {url}")
    first = f"{command} tail {store}" if settings.demo else f"{command} stores create {store}"
    click.echo(f"Syncline is ready at {url}  (stores in {settings.store}; Ctrl-C stops it)")
    if setup_code is not None:
        nobody = "" if settings.rescue else "Nobody can log in yet. "
        click.echo(f"{nobody}Make {'another' if settings.rescue else 'the first'} administrator: open")
        click.echo(f"  {url}/#setup={setup_code}")
        click.echo("or run this in another terminal; the code is good once, until the server stops:")
        click.echo(f"  {command} setup {setup_code}")
        sys.stdout.flush()
        return
    if settings.auth == "accounts":
        click.echo(f"Open {url}/ in a browser and log in, or in another terminal:")
        click.echo(f"  {command} login")
    else:
        click.echo(f"Open {url}/ in a browser, or in another terminal:")
    click.echo(f"  {first}")
    click.echo(f"""  {command} add {store} '{{"hello": "world"}}'""")
    click.echo(f"  {command} doctor" if settings.demo else f"  {command} tail {store}")
    sys.stdout.flush()


def _command_line() -> str:
    """Return how the command line of this very installation is called from here."""
    beside = Path(sys.executable).with_name("syncline")
    if shutil.which("syncline") == str(beside) or not beside.exists():
        return "syncline"
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)


serve = click.Command(
    "serve",
    params=_options(),
    callback=_serve,
    help="Run a server.\n\nSettings come from flags, SYNCLINE_* variables, a TOML file and defaults, in this order.",
)


@click.command()
@click.argument("backup", type=click.Path(dir_okay=False))
@click.option("--store", help=f"The store file to restore, as for `serve`. [env: {env_name('store')}]")
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file of settings. [env: SYNCLINE_CONFIG]"
)
def restore(backup: str, store: str | None, config: Path | None) -> None:
    """Put a backup in the place of the store file. The server must not run.

    BACKUP is checked completely first. The file that was there is kept beside it. Clients that had seen more than the
    backup has notice when they come back, and replicas put back what they still have.
    """
    from .restore import restore as restore_file

    try:
        settings = load_settings(flags={} if store is None else {"store": store}, file=config)
        path = file_of(settings.store)
        if path is None:
            raise SettingsError(f"{settings.store} is no file; name one with --store")
        restored = restore_file(backup, path, time.time_ns() // 1_000_000, _progress_on_terminal())
    except (SettingsError, StorageError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    for info in restored.stores:
        if not info.is_system:
            click.echo(f"{info.name}  {info.head.count} records  {info.head.cursor}")
    if restored.aside is not None:
        click.echo(f"the file that was there is {restored.aside}", err=True)
    click.echo(f"restored {path}; start the server. Accounts, tokens and grants are those of the backup too", err=True)


def _progress_on_terminal() -> Callable[[str, int, int], None]:
    shown_at = 0.0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal shown_at
        if sys.stderr.isatty() and time.monotonic() - shown_at > 0.1:
            shown_at = time.monotonic()
            click.echo(f"\r\x1b[K{what}" + (f" {100 * done // total} %" if total else ""), err=True, nl=False)
            click.echo("\r\x1b[K" if total and done >= total else "", err=True, nl=False)

    return progress
