"""How many connections may be open at once, and by which limit one more is refused."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline_server.limits.admission import Admission, AdmissionLimits, Refusal, Seat, network_of

LIMITS = AdmissionLimits(connections=6, address=4, user=3, pending=3, pending_address=2)


def seated(result: Seat | Refusal) -> Seat:
    """Return the seat of a connection that was let in."""
    assert isinstance(result, Seat)
    return result


def refused(result: Seat | Refusal | None) -> tuple[str, int]:
    """Return which limit refused, and its value."""
    assert isinstance(result, Refusal)
    return result.which, result.maximum


def test_each_limit_refuses_by_its_name() -> None:
    admission = Admission(LIMITS)
    for _ in range(2):
        seated(admission.enter("192.0.2.1"))
    assert refused(admission.enter("192.0.2.1")) == ("pending_address", 2)
    seated(admission.enter("192.0.2.2"))
    assert refused(admission.enter("192.0.2.3")) == ("pending", 3)
    seated(admission.enter_as("192.0.2.1", "alice"))
    seated(admission.enter_as("192.0.2.1", "alice"))
    assert refused(admission.enter_as("192.0.2.1", "bob")) == ("address", 4)
    seated(admission.enter_as("192.0.2.2", "alice"))
    assert refused(admission.enter_as("192.0.2.2", "bob")) == ("connections", 6)
    assert (admission.open, admission.pending) == (6, 3)


def test_a_user_has_a_limit_of_his_own_however_he_comes() -> None:
    admission = Admission(LIMITS)
    for n in range(3):
        seated(admission.enter_as(f"192.0.2.{n}", "alice"))
    assert refused(admission.enter_as("192.0.2.9", "alice")) == ("user", 3)
    seat = seated(admission.enter("192.0.2.9"))
    assert refused(seat.settle("alice")) == ("user", 3)
    assert admission.pending == 1
    assert seat.settle("bob") is None
    assert admission.pending == 0
    seated(admission.enter_as("192.0.2.9", None))


def test_who_brings_credentials_along_is_not_refused_for_those_who_wait() -> None:
    admission = Admission(LIMITS)
    for n in range(3):
        seated(admission.enter(f"192.0.2.{n}"))
    assert refused(admission.enter("192.0.2.9")) == ("pending", 3)
    seated(admission.enter_as("192.0.2.9", "alice"))


def test_logging_in_anew_as_the_same_user_needs_no_second_place() -> None:
    admission = Admission(LIMITS)
    seats = [seated(admission.enter_as("192.0.2.1", "alice")) for _ in range(3)]
    assert seats[0].settle("alice") is None
    assert seats[0].settle(None) is None
    seated(admission.enter_as("192.0.2.1", "alice"))
    assert refused(seats[0].settle("alice")) == ("user", 3)


def test_leaving_twice_gives_one_place_back_and_what_left_is_not_settled() -> None:
    admission = Admission(replace(LIMITS, connections=1))
    seat = seated(admission.enter("192.0.2.1"))
    for _ in range(2):
        seat.leave()
    assert seat.settle("alice") is None
    assert admission.open == 0
    seated(admission.enter("192.0.2.1"))
    assert refused(admission.enter("192.0.2.1")) == ("connections", 1)


def test_a_refusal_says_what_is_full() -> None:
    for which in ("connections", "address", "user", "pending", "pending_address"):
        assert "7" in str(Refusal(which, 7))


def test_by_default_those_who_wait_have_a_tenth_of_the_places_and_one_address_few() -> None:
    limits = AdmissionLimits()
    assert limits.pending <= limits.connections / 10
    assert limits.pending_address <= 20


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:0db8:0001:0002::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("/run/syncline.sock", "/run/syncline.sock"),
    ],
)
def test_a_host_counts_as_its_network(address: str, network: str) -> None:
    assert network_of(address) == network


# --- against a list of what is open ---


@dataclass
class Place:
    """One open connection of the model."""

    seat: Seat
    address: str
    user: str | None
    is_pending: bool


def expected(places: list[Place], address: str, user: str | None, is_pending: bool) -> str | None:
    """Count what is open, and say which limit one more would break."""
    pending = [place for place in places if place.is_pending]
    if len(places) >= LIMITS.connections:
        return "connections"
    if sum(place.address == address for place in places) >= LIMITS.address:
        return "address"
    if is_pending and sum(place.address == address for place in pending) >= LIMITS.pending_address:
        return "pending_address"
    if is_pending and len(pending) >= LIMITS.pending:
        return "pending"
    if user and sum(place.user == user for place in places) >= LIMITS.user:
        return "user"
    return None


ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3"])
USERS = st.sampled_from(["alice", "bob", None])
STEPS = st.one_of(
    st.tuples(st.just("enter"), ADDRESSES, st.none(), st.integers(0, 5)),
    st.tuples(st.just("enter_as"), ADDRESSES, USERS, st.integers(0, 5)),
    st.tuples(st.just("settle"), ADDRESSES, USERS, st.integers(0, 5)),
    st.tuples(st.just("leave"), ADDRESSES, USERS, st.integers(0, 5)),
)


@given(st.lists(STEPS, max_size=60))
def test_it_agrees_with_a_list_of_what_is_open_and_forgets_all_in_the_end(
    steps: list[tuple[str, str, str | None, int]],
) -> None:
    admission, places = Admission(LIMITS), list[Place]()
    for what, address, user, at in steps:
        if what in ("enter", "enter_as"):
            is_pending = what == "enter"
            result = admission.enter(address) if is_pending else admission.enter_as(address, user)
            assert (result.which if isinstance(result, Refusal) else None) == expected(
                places, address, user, is_pending
            )
            if isinstance(result, Seat):
                places.append(Place(result, address, user, is_pending))
        elif at < len(places):
            place = places[at]
            if what == "leave":
                places.pop(at).seat.leave()
                continue
            is_full = user not in (None, place.user) and sum(p.user == user for p in places) >= LIMITS.user
            assert (place.seat.settle(user) is not None) == is_full
            if not is_full:
                place.user, place.is_pending = user, False
        assert admission.open == len(places)
        assert admission.pending == sum(place.is_pending for place in places)
    for place in places:
        place.seat.leave()
    assert not any((admission.open, admission.pending, admission._by_address, admission._by_user))
    assert not admission._pending_by_address
