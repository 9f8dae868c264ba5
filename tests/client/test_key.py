"""Keys that the client makes."""

from uuid import UUID

from syncline.key import KeyMaker
from tests.client.fake_clock import FakeClock


def test_a_key_is_a_uuid_of_version_7_with_the_time_in_front(clock: FakeClock) -> None:
    key = UUID(KeyMaker(clock)())
    assert key.version == 7
    assert key.variant == "specified in RFC 4122"
    assert key.int >> 80 == int(clock.time() * 1000)


def test_keys_of_one_millisecond_differ_and_sort_by_the_order_in_which_they_were_made(clock: FakeClock) -> None:
    make = KeyMaker(clock)
    keys = [make() for _ in range(20_000)]
    assert keys == sorted(set(keys))


def test_keys_go_on_in_order_when_the_clock_is_set_back(clock: FakeClock) -> None:
    make = KeyMaker(clock)
    before = make()
    clock.epoch -= 3600
    assert make() > before


def test_two_makers_do_not_make_the_same_key(clock: FakeClock) -> None:
    assert KeyMaker(clock)() != KeyMaker(clock)()
