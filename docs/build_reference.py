"""Writes the pages of the reference that are made from tables in the code; `make docs` runs it.

`tests/test_docs.py` fails when a page differs from what this makes, so the pages cannot fall behind.
"""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from syncline_protocol.errors import CLOSE_CODES, ERROR_CODES
from syncline_protocol.limits import DEFAULT_LIMITS, HEARTBEAT_S, HELLO_TIMEOUT_S, SILENCE_MAX_S, VALUE_DEPTH_MAX
from syncline_server.metrics import SERIES
from syncline_server.settings import Settings, env_name, flag_name

FOLDER = Path(__file__).parent / "reference"
BEHAVIOUR = Path(__file__).parents[1] / "protocol" / "behaviour"


def settings_page() -> str:
    """Return `settings.md`."""
    rows = "\n".join(
        f"| `{s.name}` | `{flag_name(s.name)}` | `{env_name(s.name)}` | {_default_text(s.default)} "
        f"| {s.metadata['help']} |"
        for s in fields(Settings)
    )
    return f"""# Settings of the server

Each setting can be given as a flag of `syncline serve`, as an environment variable, or as a top-level key of a TOML
file that `--config` or `SYNCLINE_CONFIG` names. A flag wins over a variable, a variable over the file, the file over
the default. A name that is no setting stops the start, in the file and among the `SYNCLINE_*` variables alike
(`SYNCLINE_URL` and `SYNCLINE_TOKEN`, which belong to the client, are left alone).

| setting | flag | variable | default | meaning |
|---|---|---|---|---|
{rows}

Switches have a form that turns them off, as in `--no-demo`; as a variable they are `true` or `false`.
"""


def _default_text(default: object) -> str:
    if default == "":
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def errors_page() -> str:
    """Return `errors.md`."""
    errors = "\n".join(
        f"| `{code}` | {rule.http_status} | {'yes' if rule.retry else 'no'} | {rule.meaning} |"
        for code, rule in ERROR_CODES.items()
    )
    closes = "\n".join(
        f"| {int(code)} | `{rule.name}` | {'yes' if rule.reconnect else 'no'} | {rule.meaning} |"
        for code, rule in sorted(CLOSE_CODES.items())
    )
    return f"""# Errors and close codes

An ERROR message and a problem document (`application/problem+json`) carry a `code` from this table, a sentence about
what happened to what, and often what to do. *Retry* says whether the same request may succeed later.

| code | HTTP status | retry | meaning |
|---|---|---|---|
{errors}

A WebSocket is closed with one of these. A client that meets a code which is not here reconnects, unless it is in
4500-4999.

| code | name | reconnect | meaning |
|---|---|---|---|
{closes}
"""


def limits_page() -> str:
    """Return `limits.md`."""
    announced = "\n".join(
        f"| `{name}` | {getattr(DEFAULT_LIMITS, name):,} |" for name in DEFAULT_LIMITS.__struct_fields__
    )
    return f"""# Limits

WELCOME announces these; sizes are bytes of UTF-8. They are constants of the protocol's version, because a transaction
that was accepted once has to fit into a frame for ever.

| limit | value |
|---|---|
{announced}

Besides: a value is nested at most {VALUE_DEPTH_MAX} deep; HELLO comes within {HELLO_TIMEOUT_S:g} s; both sides send a
heartbeat every {HEARTBEAT_S:g} s; a server takes a client that it has not heard for {SILENCE_MAX_S:g} s for gone, a
client a server after three missing heartbeats.
"""


def metrics_page() -> str:
    """Return `metrics.md`."""
    rows = "\n".join(
        f"| `syncline_{s.name}{'_total' if s.kind == 'counter' else ''}` | {s.kind} | {s.label or 'none'} | {s.help} |"
        for s in SERIES
    )
    return f"""# Metrics

`GET /metrics` answers in the Prometheus text format.

| series | kind | label | meaning |
|---|---|---|---|
{rows}
"""


def behaviour_page() -> str:
    """Return `client-behaviour.md`."""
    feed, outbox = (yaml.safe_load((BEHAVIOUR / f"{name}.yaml").read_text()) for name in ("feed", "outbox"))
    page = (FOLDER / "client-behaviour.template").read_text()
    texts = {
        "feed-states": _meanings({name: state["means"] for name, state in feed["states"].items()}, "state"),
        "feed-results": _meanings(feed["results"], "result"),
        "feed-saves": _meanings(feed["saves"], "saved"),
        "feed-table": _behaviour(feed, _feed_cell),
        "outbox-states": _meanings({name: state["means"] for name, state in outbox["states"].items()}, "state"),
        "outbox-table": _behaviour(outbox, _outbox_cell),
    }
    for name, text in texts.items():
        page = page.replace(f"{{{{{name}}}}}", text)
    return page


def _meanings(meanings: dict[str, str], heading: str) -> str:
    rows = [f"| `{name}` | {meaning} |" for name, meaning in meanings.items()]
    return "\n".join([f"| {heading} | meaning |", "|---|---|", *rows])


def _behaviour(table: dict[str, Any], cell: Callable[[str, Any], str]) -> str:
    states = list(table["states"])
    head = ["| event | " + " | ".join(f"`{state}`" for state in states) + " |", "|---" * (len(states) + 1) + "|"]
    return "\n".join(head + [_row(event, states, cell) for event in table["events"].values()])


def _row(event: dict[str, Any], states: list[str], cell: Callable[[str, Any], str]) -> str:
    cells = {state: wanted for names, wanted in event["cells"].items() for state in names.split()}
    return f"| {event['means']} | " + " | ".join(cell(state, cells[state]) for state in states) + " |"


def _feed_cell(state: str, cell: Any) -> str:
    if cell == "illegal" or "never" in cell:
        return "-"
    saved = f"; saves {', '.join(cell['saves'])}" if cell.get("saves") else ""
    following = f" → `{cell['to']}`" if cell.get("to", state) != state else ""
    return f"{cell.get('result', '')}{saved}{following}".strip() or "stays"


def _outbox_cell(state: str, cell: Any) -> str:
    if cell == "illegal" or (isinstance(cell, dict) and "never" in cell):
        return "-"
    return "" if cell in ("same", state) else f"`{cell}`"


PAGES = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "limits.md": limits_page,
    "metrics.md": metrics_page,
    "client-behaviour.md": behaviour_page,
}


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())


if __name__ == "__main__":
    main()
