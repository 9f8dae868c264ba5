"""The group of all commands: those of this package, and those that other packages offer.

An offered command is listed under its name without being imported, and imported when it is invoked. The server is
one, and may not be installed.
"""

from importlib.metadata import EntryPoint, entry_points

import click

from .frame import USAGE, fail

__all__ = ["CommandGroup"]

#: The entry point group in which packages offer commands.
_ENTRY_POINTS = "syncline.commands"

#: What the list says of a command that was not imported.
_HELP = {
    "restore": "Put a backup in the place of the store file. The server must not run.",
    "serve": "Run a server.",
}


class CommandGroup(click.Group):
    """A group that takes up commands by entry point."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_offered()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in _offered():
            return own
        return click.Command(cmd_name, help=_HELP.get(cmd_name, "Offered by another package."))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        offered = _offered().get(name or "")
        if offered is not None and name not in self.commands:
            command = _import(offered)
        return name, command, rest


def _offered() -> dict[str, EntryPoint]:
    return {offer.name: offer for offer in entry_points(group=_ENTRY_POINTS)}


def _import(offer: EntryPoint) -> click.Command:
    try:
        command = offer.load()
    except ModuleNotFoundError as error:
        # A missing module of the offering package itself is its bug, and needs its traceback.
        package = offer.module.partition(".")[0]
        if offer.name not in _HELP or (error.name or "").partition(".")[0] == package != error.name:
            raise
        fail(USAGE, f"the server is not installed, {error.name} is missing; install it: pip install 'syncline[server]'")
    assert isinstance(command, click.Command)
    return command
