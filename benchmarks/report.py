"""What the benchmarks print: one line per figure, with its floor, its target and whether it was reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Histogram", "Line", "Target", "at_least", "at_most", "table"]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound for the figure itself or for its ratio to the floor."""

    of: Literal["figure", "ratio"]
    sense: Literal["min", "max"]
    bound: float

    def __str__(self) -> str:
        return f"{'≥' if self.sense == 'min' else '≤'} {_number(self.bound)}{' x' if self.of == 'ratio' else ''}"

    def reached(self, figure: float, ratio: float | None) -> bool | None:
        """Return None where there is no ratio: in a smoke run a floor can be below what the CPU clock resolves."""
        measured = figure if self.of == "figure" else ratio
        if measured is None:
            return None
        return measured >= self.bound if self.sense == "min" else measured <= self.bound


def at_least(*, figure: float | None = None, ratio: float | None = None) -> Target:
    """More is better. Give one of the two."""
    return _target("min", figure, ratio)


def at_most(*, figure: float | None = None, ratio: float | None = None) -> Target:
    """Less is better. Give one of the two."""
    return _target("max", figure, ratio)


def _target(sense: Literal["min", "max"], figure: float | None, ratio: float | None) -> Target:
    if figure is not None:
        return Target("figure", sense, figure)
    assert ratio is not None
    return Target("ratio", sense, ratio)


@dataclass(frozen=True, slots=True)
class Line:
    """One figure. `floor` is the same thing done by the least code that can do it; `note` is what else was seen."""

    name: str
    figure: float
    unit: str
    floor: float | None = None
    target: Target | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.figure / self.floor if self.floor else None

    @property
    def reached(self) -> bool | None:
        return None if self.target is None else self.target.reached(self.figure, self.ratio)

    def cells(self) -> list[str]:
        return [
            self.name,
            f"{_number(self.figure)} {self.unit}",
            "-" if self.floor is None else _number(self.floor),
            "-" if self.ratio is None else f"{self.ratio:.2f}",
            "-" if self.target is None else str(self.target),
            {None: "-", True: "yes", False: "NO"}[self.reached],
            self.note,
        ]


_HEADINGS = ["", "figure", "floor", "ratio", "target", "reached", "note"]


def table(lines: Sequence[Line]) -> str:
    """Return the lines as a table in plain text that is Markdown too."""
    rows = [_HEADINGS, *[line.cells() for line in lines]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


class Histogram:
    """Times in steps of 50 µs, so that recording one costs an index and an addition."""

    STEP_NS = 50_000
    _STEPS = 40_000

    def __init__(self) -> None:
        self._counts = [0] * (self._STEPS + 1)

    def add(self, time_ns: int) -> None:
        step = time_ns // self.STEP_NS
        self._counts[step if step < self._STEPS else self._STEPS] += 1

    @property
    def count(self) -> int:
        return sum(self._counts)

    def percentile_ms(self, percent: float) -> float:
        """Return the upper end of the step in which the percentile lies. 2,000 ms stands for that and more."""
        wanted = self.count * percent / 100
        seen = 0
        for step, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return (step + 1) * self.STEP_NS / 1e6
        return 0.0
