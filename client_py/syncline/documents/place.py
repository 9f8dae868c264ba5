"""Places in an order that people make by hand: texts between any two of which there is room for another. Pure.

A place is an integer and a fraction, in digits that sort as their values do. The integer's first letter says how many
digits it has, `a` one, `b` two, …; below zero `Z` one, `Y` two, …; so appending counts up, and stays short. Fractions
never end in the lowest digit, or nothing would fit below them. All have some random digits, so two who insert at the
same place get different texts; and if they should not, documents of one place are ordered by their ids.
"""

import secrets
from collections.abc import Callable

from syncline.errors import Misuse

__all__ = ["between"]

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE = len(_DIGITS)
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}

#: A place is taken at random among at least so many: two who insert at the same place get the same text that seldom.
_CHOICES_MIN = 100_000

#: The letters of integers, from the lowest; the number of digits that follow is in `_digits_of`.
_HEADS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

#: Nothing can be put before it, so it is no place.
_LOWEST = "A" + "0" * 26

_RandBelow = Callable[[int], int]


def between(before: str | None, after: str | None) -> str:
    """Return a place for something that goes between two others, to be kept in an attribute and ordered by.

    Args:
        before: the place of what comes before it; None if nothing does.
        after: the place of what comes after it; None if nothing does.

    Raises:
        Misuse: one is no such place, or they are the same, or the wrong way round.
    """
    return _between(before, after, secrets.randbelow)


def _between(before: str | None, after: str | None, randbelow: _RandBelow) -> str:
    low = None if before is None else _split(before)
    high = None if after is None else _split(after)
    if low is None and high is None:
        return "a0" + _fraction("", None, randbelow)
    if low is None:
        assert high is not None
        whole = _neighbour(high[0], -1)
        if whole is not None:
            return whole + _fraction("", None, randbelow)
        return high[0] + _fraction("", high[1], randbelow)
    if high is not None and low >= high:
        raise Misuse(
            f"there is nothing between {before!r} and {after!r}",
            hint="give the lower one first; two with the same place need places of their own first",
        )
    if high is not None and low[0] == high[0]:
        return low[0] + _fraction(low[1], high[1], randbelow)
    whole = _neighbour(low[0], 1)
    if whole is None or (high is not None and whole == high[0]):
        return low[0] + _fraction(low[1], None, randbelow)
    return whole + _fraction("", None, randbelow)


# --- taking apart ---


def _split(place: str) -> tuple[str, str]:
    """Return the integer and the fraction of a place."""
    if isinstance(place, str) and place and all(digit in _VALUES for digit in place) and place[0] in _HEADS:
        at = 1 + _digits_of(place[0])
        whole, fraction = place[:at], place[at:]
        if len(whole) == at and not fraction.endswith(_DIGITS[0]) and place != _LOWEST:
            return whole, fraction
    raise Misuse(f"{place!r} is no place", hint="give what `between` returned, or None")


def _digits_of(head: str) -> int:
    """Return how many digits follow the letter of an integer."""
    return ord(head) - ord("a") + 1 if head.islower() else ord("Z") - ord(head) + 1


# --- integers ---


def _neighbour(whole: str, step: int) -> str | None:
    """Return the next integer, or the one before; None beyond the last."""
    head, digits = whole[0], whole[1:]
    value = _number(digits) + step
    if 0 <= value < _BASE ** len(digits):
        return head + _text(value, len(digits))
    at = _HEADS.index(head) + step
    if not 0 <= at < len(_HEADS):
        return None
    edge = _DIGITS[0] if step > 0 else _DIGITS[-1]
    return _HEADS[at] + edge * _digits_of(_HEADS[at])


# --- fractions ---


def _fraction(low: str, high: str | None, randbelow: _RandBelow) -> str:
    """Return a fraction between two others, or between one and the whole; from the middle, so both sides keep room.

    It is as short as a choice among `_CHOICES_MIN` allows.
    """
    length = 1
    while True:
        # The fractions are cut or filled up to so many digits; what is cut from the lower one counts as one more.
        least = _number(_cut(low, length)) + 1
        most = _BASE**length if high is None else _number(_cut(high, length))
        room = most - least
        if room // 2 >= _CHOICES_MIN:
            value = least + room // 4 + randbelow(room // 2)
            return _text(value if value % _BASE else value + 1, length)
        length += 1


def _cut(fraction: str, length: int) -> str:
    return fraction[:length].ljust(length, _DIGITS[0])


# --- digits ---


def _number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * _BASE + _VALUES[digit]
    return value


def _text(value: int, length: int) -> str:
    digits = []
    for _ in range(length):
        value, digit = divmod(value, _BASE)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
