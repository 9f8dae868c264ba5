"""How long the client waits between attempts."""

from syncline.backoff import Backoff


def test_the_first_wait_is_anywhere_up_to_one_second() -> None:
    assert Backoff(lambda: 0.0).next_wait_s() == 0.0
    assert Backoff(lambda: 0.999).next_wait_s() == 0.999


def test_the_bound_doubles_up_to_thirty_seconds_and_stays_there() -> None:
    backoff = Backoff(lambda: 1.0)
    assert [backoff.next_wait_s() for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_very_long_outage_does_not_overflow() -> None:
    backoff = Backoff(lambda: 1.0)
    assert [backoff.next_wait_s() for _ in range(5000)][-1] == 30


def test_the_bound_goes_back_only_after_progress() -> None:
    backoff = Backoff(lambda: 1.0)
    for _ in range(4):
        backoff.next_wait_s()
    assert backoff.attempts == 4
    backoff.progressed()
    assert backoff.attempts == 0
    assert backoff.next_wait_s() == 1


def test_what_bye_asks_for_is_a_lower_bound_of_the_next_wait_and_only_of_that() -> None:
    chances = iter([0.5, 0.9, 0.9])
    backoff = Backoff(lambda: next(chances))
    backoff.asked_to_wait(2000, 8000)
    assert backoff.next_wait_s() == 6.0
    assert backoff.next_wait_s() == 0.9 * 2


def test_bye_does_not_shorten_the_wait_of_a_client_that_made_no_progress() -> None:
    backoff = Backoff(lambda: 1.0)
    for _ in range(5):
        backoff.next_wait_s()
    backoff.asked_to_wait(100, 0)
    assert backoff.next_wait_s() == 30
