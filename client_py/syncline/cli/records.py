"""`syncline add`, `get`, `delete`: one record at a time."""

import sys

import click
import msgspec

from syncline.value import Json
from syncline.write import Written

from .duration import at_option
from .frame import REFUSED, Stop, connected, notice, run
from .server import Server, server_options

__all__ = ["add", "delete", "get"]


@click.command()
@click.argument("store")
@click.argument("words", nargs=-1, required=True, metavar="[KEY] JSON")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@server_options
def add(server: Server, store: str, words: tuple[str, ...], as_json: bool) -> None:
    """Add a record and print its seq and key.

    JSON is the value, kept digit by digit; - reads it from stdin. Without KEY the client makes one that sorts by time.
    Adding the same value under the same key again changes nothing and says so.
    """
    if len(words) > 2:
        raise click.UsageError("add takes STORE [KEY] JSON; put the JSON in quotes")
    text = sys.stdin.read() if words[-1] == "-" else words[-1]
    _check_json(text)
    key = words[0] if len(words) == 2 else None
    written = run(_add(server, store, text, key))
    _show(written, as_json)
    if written.status == "dup":
        died = f" and was deleted at {written.deleted}" if written.deleted else ""
        notice(f"{written.key} is there already, since {written.seq}{died}")


@click.command()
@click.argument("store")
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@server_options
def delete(server: Server, store: str, key: str, as_json: bool) -> None:
    """Delete a record and print seq and key. One that is deleted already is left so, and that is no error."""
    written = run(_delete(server, store, key))
    _show(written, as_json)
    if written.status == "dup":
        notice(f"{key} was deleted already, at {written.seq}")


@click.command()
@click.argument("store")
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="Print key, value, seq and time as one JSON object.")
@at_option
@server_options
def get(server: Server, store: str, key: str, as_json: bool, at: str | None) -> None:
    """Print the value of a record, digit by digit as it was added."""
    run(_get(server, store, key, as_json, at))


def _check_json(text: str) -> None:
    """Tell a missing pair of quotes from a refusal: shells eat them all the time."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        hint = "put it in single quotes, and strings in double quotes inside of them: '\"text\"'"
        raise click.UsageError(f"{text[:60]!r} is not JSON ({error}); {hint}") from error


def _show(written: Written, as_json: bool) -> None:
    if as_json:
        members = {"status": written.status, "key": written.key, "seq": written.seq, "at": written.at}
        click.echo(msgspec.json.encode(members if written.deleted is None else {**members, "deleted": written.deleted}))
    else:
        click.echo(f"{written.seq} {written.key}")


async def _add(server: Server, store: str, text: str, key: str | None) -> Written:
    async with connected(server) as client:
        return await client.add(store, Json(text), key)


async def _delete(server: Server, store: str, key: str) -> Written:
    async with connected(server) as client:
        return await client.delete(store, key)


async def _get(server: Server, store: str, key: str, as_json: bool, at: str | None) -> None:
    async with server.http() as http:
        record = await http.get(store, key, at)
    if record is None and at is not None:
        raise Stop(REFUSED, f"{store} had no record {key!r} at {at}")
    if record is None:
        raise Stop(REFUSED, f"{store} has no live record {key!r}; `syncline tail {store}` shows what it has")
    click.echo(msgspec.json.encode(record) if as_json else record.text)
