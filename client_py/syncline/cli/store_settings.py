"""`syncline stores show` and `set`: how a store is kept, and what it is made of.

`set` changes what its options name and leaves the rest; `none` takes a setting back, so that the server's holds again.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from syncline.stores import Stores
from syncline.upkeep import CleanUp, StoreSettings, StoreStats

from .duration import parse_age
from .frame import notice, run
from .server import Server, server_options
from .table import plain, time_of

__all__ = ["set_command", "show_command"]

T = TypeVar("T")

_NONE = "none"


@click.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the settings and the statistics.")
@server_options
def show_command(server: Server, name: str, as_json: bool) -> None:
    """Show what a store is made of, how it is kept, and what clean-up did."""
    run(_show(server, name, as_json))


def _age(text: str) -> float:
    age = parse_age(text)
    if age is None:
        raise ValueError("say 30m, 12h, 7d or 4w")
    return age.total_seconds()


def _amount(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("it is 0 or more")
    return value


def _or_none(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Return what reads an option that may be `none`; what was not given becomes UNSET."""

    def read(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
        if text is None:
            return msgspec.UNSET
        if text == _NONE:
            return None
        try:
            return parse(text)
        except ValueError as error:
            raise click.BadParameter(f"{text!r}: {error}; or {_NONE}") from error

    return read


def _option(name: str, parse: Callable[[str], T], metavar: str, help_text: str) -> Callable[[Any], Any]:
    return click.option(name, callback=_or_none(parse), metavar=metavar, help=help_text)


@click.command("set")
@click.argument("name")
@click.option("--description", help="What people should know of it.")
@_option("--records-max", _amount, "N", "No more live records than this.")
@_option("--bytes-max", _amount, "N", "Their texts are no longer together.")
@_option("--retention", _age, "AGE", "Delete what is older: 30m, 12h, 7d, 4w.")
@_option("--history", _age, "AGE", "Keep what deleted records held for so long.")
@_option("--tombstones", _age, "AGE", "Keep the deletions themselves for so long.")
@_option("--compact-ratio", float, "PART", "Clean up once this part of all values is dead, 0 to 1 ...")
@_option("--compact-bytes", _amount, "N", "... or once these have so many bytes.")
@server_options
def set_command(
    server: Server,
    name: str,
    description: str | None,
    records_max: Any,
    bytes_max: Any,
    retention: Any,
    history: Any,
    tombstones: Any,
    compact_ratio: Any,
    compact_bytes: Any,
) -> None:
    """Say how a store is kept. What is not named stays; `none` takes a setting back."""
    asked = {
        "description": msgspec.UNSET if description is None else description,
        "records_max": records_max,
        "bytes_max": bytes_max,
        "retention_s": retention,
        "history_s": history,
        "tombstones_s": tombstones,
        "compact_ratio": compact_ratio,
        "compact_bytes": compact_bytes,
    }
    changes = {setting: value for setting, value in asked.items() if value is not msgspec.UNSET}
    if not changes:
        raise click.UsageError("name what is to be set; `syncline stores show` tells what is")
    run(_set(server, name, changes))


async def _set(server: Server, name: str, changes: dict[str, Any]) -> None:
    async with server.http() as http:
        stores = Stores(http)
        await stores.configure(name, msgspec.structs.replace(await stores.settings(name), **changes))
    notice(f"set {', '.join(changes)} of {name}")


async def _show(server: Server, name: str, as_json: bool) -> None:
    async with server.http() as http:
        stores = Stores(http)
        settings, stats = await stores.settings(name), await stores.stats(name)
    if as_json:
        click.echo(msgspec.json.encode({"settings": settings, "stats": stats}))
        return
    for label, text in (*_parts_of(stats), *_rules_of(settings, stats), *_upkeep_of(stats)):
        click.echo(f"{label:<12} {text}")


def _parts_of(stats: StoreStats) -> list[tuple[str, str]]:
    sizes = stats.sizes
    return [
        ("name", stats.name),
        ("created", time_of(stats.created)),
        ("records", f"{stats.records}, {sizes.live_bytes} bytes"),
        ("dead values", f"{sizes.dead_values}, {sizes.dead_bytes} bytes"),
        ("tombstones", str(sizes.tombstones)),
        ("seq", str(stats.seq)),
        ("history", f"from seq {stats.floors.history} on; deletions from {stats.floors.tombstones} on"),
        ("oldest", time_of(stats.oldest)),
        ("newest", time_of(stats.newest)),
        *[("index", f"{index.name} on {plain(index.path)!r}, {index.kind}, {index.state}") for index in stats.indexes],
    ]


def _rules_of(settings: StoreSettings, stats: StoreStats) -> list[tuple[str, str]]:
    policy = stats.policy
    rules = [
        ("says", plain(settings.description)),
        ("records max", "" if settings.records_max is None else str(settings.records_max)),
        ("bytes max", "" if settings.bytes_max is None else str(settings.bytes_max)),
        ("retention", "" if policy.retention_s is None else _age_text(policy.retention_s)),
        ("kept", f"values {_age_text(policy.history_s)}, deletions {_age_text(policy.tombstones_s)}"),
        ("cleaned up", f"at {policy.compact_ratio:.0%} dead values, or {policy.compact_bytes} bytes of them"),
    ]
    return [(label, text) for label, text in rules if text]


def _upkeep_of(stats: StoreStats) -> list[tuple[str, str]]:
    upkeep = stats.upkeep
    parts = [("upkeep", upkeep.state), ("next look", time_of(upkeep.next))]
    if upkeep.last is not None:
        parts.append(("last run", _run_text(upkeep.last)))
    return parts


def _run_text(run_: CleanUp) -> str:
    if run_.error:
        return f"{time_of(run_.began)}, failed: {run_.error}"
    done = f"{run_.expired} expired, {run_.values} values, {run_.tombstones} tombstones, {run_.bytes} bytes"
    return f"{time_of(run_.began)}, {done}"


def _age_text(seconds: float) -> str:
    for unit, size in (("d", 24 * 3600), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"
