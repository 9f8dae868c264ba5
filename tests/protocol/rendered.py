"""The parts of PROTOCOL.md that are drawn from the code's tables.

Run as a module it writes them between their marks; `test_specification` checks that they are there. The tables
are the truth, so that a code, a limit or a transition cannot be documented wrongly.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term, digest_text
from syncline_protocol.errors import CLOSE_CODES, ERROR_CODES
from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_protocol.states import SERVER_RECEIVES, SERVER_SENDS, SessionState

__all__ = ["BLOCKS", "DIGEST_VECTORS", "PROTOCOL_MD", "block_of", "render_states"]

PROTOCOL_MD = Path(__file__).parents[2] / "protocol" / "PROTOCOL.md"

#: Records whose terms the specification lists.
DIGEST_VECTORS: tuple[tuple[str, int], ...] = (
    ("a", 1),
    ("k1", 1211),
    ("0197a1c2-5d1e-7000-8000-000000000001", 1000000),
    ("ключ", 42),
    ("🙂", 4294967296),
    ("z", 9007199254740991),
)

#: State, message, following state.
Transition = tuple[tuple[SessionState, type[Any]], SessionState]


def render_states(transitions: Iterable[Transition]) -> str:
    """Draw a table of transitions as a mermaid diagram; messages that lead the same way share an arrow."""
    arrows: dict[tuple[SessionState, SessionState], list[str]] = {}
    for (state, message), following in transitions:
        arrows.setdefault((state, following), []).append(str(message.__struct_config__.tag))
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> opening"]
    lines += [f"    {a.value} --> {b.value}: {', '.join(sorted(names))}" for (a, b), names in arrows.items()]
    return "\n".join([*lines, "```"])


def _errors() -> str:
    rows = ["| code | meaning | retry | HTTP |", "|---|---|---|---|"]
    rows += [
        f"| `{code}` | {rule.meaning} | {'yes' if rule.retry else 'no'} | {rule.http_status} |"
        for code, rule in ERROR_CODES.items()
    ]
    return "\n".join(rows)


def _closes() -> str:
    rows = ["| code | name | reconnect | meaning |", "|---|---|---|---|"]
    rows += [
        f"| {int(code)} | `{rule.name}` | {'yes' if rule.reconnect else 'no'} | {rule.meaning} |"
        for code, rule in CLOSE_CODES.items()
    ]
    return "\n".join(rows)


def _limits() -> str:
    rows = ["| limit | value |", "|---|---|"]
    rows += [f"| `{name}` | {value} |" for name, value in msgspec.structs.asdict(DEFAULT_LIMITS).items()]
    return "\n".join(rows)


def _digest() -> str:
    rows = ["| key | seq | term |", "|---|---|---|"]
    terms = [digest_term(Seq(seq), key) for key, seq in DIGEST_VECTORS]
    rows += [f"| `{key}` | {seq} | `{term:08x}` |" for (key, seq), term in zip(DIGEST_VECTORS, terms, strict=True)]
    return "\n".join([*rows, f"| all of them | | `{digest_text(sum(terms))}` |"])


#: Name of each generated block and what fills it.
BLOCKS: dict[str, Callable[[], str]] = {
    "client-states": lambda: render_states(SERVER_RECEIVES.items()),
    "server-states": lambda: render_states(SERVER_SENDS.items()),
    "digest": _digest,
    "limits": _limits,
    "errors": _errors,
    "closes": _closes,
}


def _marks(text: str, name: str) -> tuple[int, int]:
    start = text.index(begin := f"<!-- generated: {name} -->\n") + len(begin)
    return start, text.index("<!-- end -->", start)


def block_of(text: str, name: str) -> str:
    """Return what stands between the marks of a block."""
    start, end = _marks(text, name)
    return text[start:end].strip("\n")


def _write() -> None:
    text = PROTOCOL_MD.read_text()
    for name, render in BLOCKS.items():
        start, end = _marks(text, name)
        text = f"{text[:start]}\n{render()}\n\n{text[end:]}"
    PROTOCOL_MD.write_text(text)


if __name__ == "__main__":
    _write()
