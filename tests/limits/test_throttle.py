"""Token buckets against models that are slow and obvious. Times and rates are such that floats are exact."""

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncline_server.limits.throttle import Throttle, TokenBucket

#: Multiples of an eighth of a second; most are short, so that buckets are not always full.
STEPS = st.integers(0, 80).map(lambda eighths: eighths / 8)


class NaiveBucket:
    """The level in exact arithmetic, brought up to date at every look."""

    def __init__(self, rate: int, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self.level, self.at = Fraction(burst), Fraction(0)

    def take(self, n: int, now: float) -> Fraction:
        """Take, or return how long until it could."""
        self.level = min(Fraction(self.burst), self.level + (Fraction(now) - self.at) * self.rate)
        self.at = Fraction(now)
        needed = Fraction(min(n, self.burst))
        if self.level >= needed:
            self.level -= n
            return Fraction(0)
        return (needed - self.level) / self.rate


@given(
    st.sampled_from([1, 2, 4]),
    st.integers(1, 8),
    st.lists(st.tuples(STEPS, st.integers(0, 12)), min_size=1, max_size=40),
)
@example(1, 1, [(0.0, 12), (0.125, 1), (80.0, 12), (0.0, 0)])
def test_a_bucket_does_what_exact_arithmetic_says(rate: int, burst: int, takes: list[tuple[float, int]]) -> None:
    bucket, model, now = TokenBucket(rate, burst), NaiveBucket(rate, burst), 0.0
    for step, n in takes:
        now += step
        assert bucket.wait_s(n, now) == bucket.wait_s(n, now)
        assert bucket.take(n, now) == model.take(n, now)


@given(
    st.floats(0.001, 1e6),
    st.floats(0.001, 1e6),
    st.floats(0, 1e9),
    st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e6)), max_size=20),
)
def test_whoever_waits_as_long_as_he_was_told_gets_what_he_wanted(
    rate: float, burst: float, now: float, takes: list[tuple[float, float]]
) -> None:
    bucket = TokenBucket(rate, burst)
    for step, n in takes:
        now += step
        wait = bucket.take(n, now)
        if wait:
            # A clock of 1e9 s has a resolution of a tenth of a microsecond.
            assert not bucket.take(n, now + wait)
            now += wait


@given(st.lists(st.tuples(STEPS, st.integers(0, 4)), max_size=60))
def test_in_the_long_run_no_more_than_the_rate_is_taken(takes: list[tuple[float, int]]) -> None:
    bucket, now, taken = TokenBucket(2, 4), 0.0, 0
    for step, n in takes:
        now += step
        if not bucket.take(n, now):
            taken += n
        assert taken <= 4 + 2 * now


def test_more_than_a_bucket_holds_is_taken_when_it_is_full_and_paid_off_after() -> None:
    bucket = TokenBucket(1, 4)
    assert bucket.take(10, 0.0) == 0
    assert bucket.full_at() == 10.0
    assert bucket.take(1, 0.0) == 7
    assert bucket.take(10, 9.0) == 1
    assert bucket.take(10, 10.0) == 0


def test_a_clock_that_is_set_back_gives_nothing_and_takes_nothing() -> None:
    bucket = TokenBucket(1, 2)
    assert not bucket.take(2, 100.0)
    assert bucket.take(1, 50.0) == 1
    assert not bucket.take(1, 101.0)


def test_what_is_given_back_can_be_taken_again_and_never_overfills() -> None:
    bucket = TokenBucket(1, 2)
    assert not bucket.take(2, 0.0)
    bucket.give_back(5)
    assert not bucket.take(2, 0.0)
    assert bucket.take(1, 0.0) == 1


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0), (-1, 1), (float("nan"), 1)])
def test_a_bucket_that_would_never_give_anything_is_a_mistake(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        TokenBucket(rate, burst)


# --- buckets by key ---

KEYS_MAX = 3
RATE, BURST = 1, 2

Takes = list[tuple[float, int, int]]
TAKES = st.lists(st.tuples(STEPS, st.integers(0, 5), st.integers(0, 4)), max_size=60)


class NaiveThrottle:
    """Looks at every bucket every time: forgets those that are full, and has a bucket for the rest."""

    def __init__(self) -> None:
        self.buckets: dict[int, NaiveBucket] = {}
        self.rest = NaiveBucket(RATE, BURST)

    def take(self, key: int, n: int, now: float) -> Fraction:
        """Take, or return how long until it could."""
        if key not in self.buckets:
            for other, bucket in list(self.buckets.items()):
                if bucket.level + (Fraction(now) - bucket.at) * RATE >= BURST:
                    del self.buckets[other]
            if len(self.buckets) == KEYS_MAX:
                return self.rest.take(n, now)
            self.buckets[key] = NaiveBucket(RATE, BURST)
            self.buckets[key].at = Fraction(now)
        return self.buckets[key].take(n, now)


@given(TAKES)
def test_a_throttle_does_what_one_does_that_looks_at_every_bucket_every_time(takes: Takes) -> None:
    throttle, model, now = Throttle[int](RATE, BURST, KEYS_MAX), NaiveThrottle(), 0.0
    for step, key, n in takes:
        now += step
        wait = throttle.wait_s(key, n, now)
        assert throttle.take(key, n, now) == wait == model.take(key, n, now)
        assert len(throttle) == len(model.buckets) <= KEYS_MAX


@given(TAKES)
def test_while_there_is_room_nobody_can_tell_that_full_buckets_are_forgotten(takes: Takes) -> None:
    throttle, now = Throttle[int](RATE, BURST, 6), 0.0
    buckets = {key: NaiveBucket(RATE, BURST) for key in range(6)}
    for step, key, n in takes:
        now += step
        assert throttle.take(key, n, now) == buckets[key].take(n, now)


@given(st.lists(st.tuples(STEPS, st.integers(0, 99), st.integers(0, 2)), max_size=100))
def test_all_keys_together_get_no_more_than_the_buckets_that_there_are(takes: Takes) -> None:
    throttle, now, taken = Throttle[int](RATE, BURST, KEYS_MAX), 0.0, 0
    for step, key, n in takes:
        now += step
        if not throttle.take(key, n, now):
            taken += n
        assert taken <= (KEYS_MAX + 1) * (BURST + RATE * now)


def test_many_keys_neither_wash_off_a_debt_nor_touch_those_who_were_there() -> None:
    throttle = Throttle[str](1, 10, 100)
    assert not throttle.take("debtor", 10, 0.0)
    assert not throttle.take("quiet", 1, 0.0)
    refused = sum(throttle.take(f"attacker {n}", 5, 0.0) > 0 for n in range(10_000))
    assert refused == 10_000 - 98 - 2
    assert throttle.take("debtor", 1, 0.0) == 1
    assert not throttle.take("quiet", 9, 0.0)
    assert throttle.take("newcomer", 1, 0.0) > 0
    assert len(throttle) == 100
    assert not throttle.take("newcomer", 10, 10.0)
    assert len(throttle) == 1


def test_memory_stays_bounded_however_long_the_buckets_are_used() -> None:
    throttle = Throttle[int](1, 2, 10)
    for n in range(10_000):
        throttle.take(n % 37, 1, n / 8)
    assert len(throttle._buckets) == len(throttle._full_at) <= 10


def test_tokens_are_given_back_to_a_key_that_is_known() -> None:
    throttle = Throttle[str](1, 2, 1)
    throttle.give_back("nobody", 1)
    assert not throttle.take("a", 2, 0.0)
    throttle.give_back("a", 2)
    assert not throttle.take("a", 2, 0.0)
    assert throttle.take("a", 1, 0.0) == 1


def test_a_throttle_without_room_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="room for one"):
        Throttle[str](1, 1, 0)
