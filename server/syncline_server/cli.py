"""The command `syncline serve`, made from `Settings`; the client's command line takes it up by entry point."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from .log import configure_logging
from .settings import Settings, SettingsError, env_name, flag_name, load_settings
from .storage.base import StorageError

__all__ = ["serve"]


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
    except OSError as error:
        click.echo(
            f"error: cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            "choose another --port, or stop what has it",
            err=True,
        )
        sys.exit(4)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    try:
        run(settings, listener, lambda: _greet(url, settings))
    except StorageError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(4)


def _greet(url: str, settings: Settings) -> None:
    store = "demo" if settings.demo else "notes"
    click.echo(f"Syncline is ready at {url}  (stores in {settings.store}; Ctrl-C stops it)")
    click.echo("Next:")
    if not settings.demo:
        click.echo(f"  syncline --url {url} stores create {store}")
    click.echo(f"  syncline --url {url} tail {store}")
    click.echo(f"""  syncline --url {url} add {store} '{{"hello": "world"}}'""")
    if settings.demo:
        click.echo(f"  open {url}/ in a browser")
    sys.stdout.flush()


serve = click.Command(
    "serve",
    params=_options(),
    callback=_serve,
    help="Run a server.\n\nSettings come from flags, SYNCLINE_* variables, a TOML file and defaults, in this order.",
)
