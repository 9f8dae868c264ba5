"""Guessing passwords: slow from one address, slow from many, and the owner gets in while others guess."""

import itertools
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline_server.accounts.login_guard import LoginGuard, LoginLimits

HOME, EVIL = "192.0.2.1", "203.0.113.9"


def guesses(guard: LoginGuard, address: str, account: str, seconds: float, start: float = 0.0) -> list[float]:
    """Guess as fast as one is allowed to; return when."""
    times, now = list[float](), start
    while now < start + seconds:
        wait = guard.attempt(address, account, now)
        if not wait:
            times.append(now)
        now += wait
    return times


def test_after_five_failures_an_address_waits_longer_and_longer_up_to_a_minute() -> None:
    times = guesses(LoginGuard(), EVIL, "alice", 300)
    assert times[:5] == [0.0] * 5
    waits = [after - before for before, after in itertools.pairwise(times[4:])]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_asking_too_early_does_not_make_the_wait_longer() -> None:
    guard = LoginGuard()
    guesses(guard, EVIL, "alice", 1)
    for _ in range(100):
        assert guard.attempt(EVIL, "alice", 0.5) == 0.5
    assert guard.attempt(EVIL, "alice", 1.0) == 0


def test_attempts_count_when_they_begin_so_many_at_once_gain_nothing() -> None:
    guard = LoginGuard()
    assert [guard.attempt(EVIL, "alice", 0.0) == 0 for _ in range(20)] == [True] * 5 + [False] * 15


def test_a_success_forgives_the_failures_before_it() -> None:
    guard = LoginGuard()
    for _ in range(10):
        for _ in range(4):
            assert guard.attempt(HOME, "alice", 0.0) == 0
        guard.succeeded(HOME, "alice")


def test_failures_are_forgotten_after_a_while_and_to_rest_is_never_faster_than_to_go_on() -> None:
    limits = LoginLimits()
    steady = len(guesses(LoginGuard(), EVIL, "alice", 86_400))
    guard, rested, now = LoginGuard(), 0, 0.0
    while now < 86_400:
        rested += len(guesses(guard, EVIL, "alice", 0.5, now))
        now += limits.forget_s
    assert rested == 5 * 96
    assert rested < steady <= 86_400 / 60 + 12


def test_one_address_cannot_try_a_password_on_every_account() -> None:
    guard, limits = LoginGuard(), LoginLimits()
    tried = sum(guard.attempt(EVIL, f"user{n}", second) == 0 for second in range(600) for n in range(20))
    assert tried <= limits.address_burst + 600 * limits.address_per_s


def test_all_hosts_of_an_ipv6_network_are_one_address() -> None:
    guard = LoginGuard()
    allowed = [guard.attempt(f"2001:db8::{n:x}", "alice", 0.0) == 0 for n in range(10)]
    assert allowed == [True] * 5 + [False] * 5


def test_many_people_behind_one_address_who_know_their_passwords_do_not_wait() -> None:
    guard = LoginGuard()
    for n in range(500):
        assert guard.attempt(HOME, f"user{n}", 0.0) == 0
        guard.succeeded(HOME, f"user{n}")


def test_many_addresses_together_guess_at_one_account_no_faster_than_the_bound() -> None:
    guard, limits = LoginGuard(), LoginLimits()
    tried = sum(
        guard.attempt(f"203.0.{n // 250}.{n % 250}", "alice", second) == 0 for second in range(100) for n in range(500)
    )
    assert tried <= limits.account_burst + 100 * limits.account_per_s


def test_one_address_cannot_keep_anybody_else_out_of_an_account() -> None:
    guard = LoginGuard()
    for second in range(3600):
        for _ in range(3):
            guard.attempt(EVIL, "alice", second)
        if second % 600 == 0:
            assert guard.attempt(f"198.51.100.{second // 600}", "alice", second) == 0


def test_the_owner_gets_in_from_where_he_was_before_whoever_guesses_meanwhile() -> None:
    guard = LoginGuard()
    assert guard.attempt(HOME, "alice", 0.0) == 0
    guard.succeeded(HOME, "alice")
    for second in range(60):
        for n in range(500):
            guard.attempt(f"203.0.{n // 250}.{n % 250}", "alice", second)
        assert guard.attempt("198.51.100.1", "alice", second) > 0
        assert guard.attempt(HOME, "alice", second) == 0
        guard.succeeded(HOME, "alice")


def test_an_address_that_is_known_is_still_bound_by_its_own_failures() -> None:
    guard = LoginGuard()
    assert guard.attempt(HOME, "alice", 0.0) == 0
    guard.succeeded(HOME, "alice")
    assert len(guesses(guard, HOME, "alice", 300)) == 14


def test_after_a_change_of_the_password_no_address_is_known() -> None:
    guard = LoginGuard()
    guard.attempt(HOME, "alice", 0.0)
    guard.succeeded(HOME, "alice")
    guard.forget("alice")
    guard.forget("nobody")
    for n in range(100):
        guard.attempt(f"203.0.113.{n}", "alice", 0.0)
    assert guard.attempt(HOME, "alice", 0.0) > 0


def test_a_full_memory_keeps_the_bounds_of_those_who_are_in_it_and_of_addresses_and_accounts() -> None:
    limits = replace(LoginLimits(), keys_max=100)
    guard = LoginGuard(limits)
    guard.attempt(HOME, "alice", 0.0)
    guard.succeeded(HOME, "alice")
    guesses(guard, EVIL, "alice", 0.5)
    for n in range(10_000):
        guard.attempt(f"203.0.{n // 250}.{n % 250}", f"user{n}", 0.0)
    assert guard.attempt(EVIL, "alice", 0.5) == 0.5
    assert len(guard._pairs) == 100
    assert [guard.attempt(HOME, "alice", 0.5) == 0 for _ in range(10)] == [True] * 5 + [False] * 5
    assert len(guard._pairs) == 101


def test_what_is_known_is_bounded_too() -> None:
    guard = LoginGuard(replace(LoginLimits(), keys_max=5, known_max=3))
    for n in range(20):
        for account in range(7):
            guard.succeeded(f"192.0.2.{n}", f"user{account}")
    assert len(guard._known) == 5
    assert {len(known) for known in guard._known.values()} <= {1, 2, 3}


# --- the bound of a pair against its words ---


@dataclass
class Story:
    """All attempts of a pair that were allowed since it last succeeded."""

    times: list[float]

    def wait(self, now: float) -> float:
        """Return what the words say: after five failures waits of 1, 2, 4 … 60 s; after 900 s it begins anew."""
        if self.times and now - self.times[-1] >= 900:
            self.times.clear()
        if len(self.times) < 5:
            return 0
        pause = min(2.0 ** (len(self.times) - 5), 60.0)
        return max(0.0, self.times[-1] + pause - now)


@given(st.lists(st.tuples(st.sampled_from([0, 0, 0.5, 1, 3, 31, 59, 100, 899, 900]), st.booleans()), max_size=60))
def test_the_waits_of_a_pair_are_what_the_words_say(steps: list[tuple[float, bool]]) -> None:
    wide = replace(LoginLimits(), address_burst=1e9, account_burst=1e9)
    guard, story, now = LoginGuard(wide), Story([]), 0.0
    for step, is_right in steps:
        now += step
        wait = story.wait(now)
        assert guard.attempt(HOME, "alice", now) == pytest.approx(wait)
        if not wait:
            story.times.append(now)
            if is_right:
                guard.succeeded(HOME, "alice")
                story.times.clear()
