"""Tickets: one use, thirty seconds, one user, one page."""

import pytest

from syncline_server.access.principal import OPEN, Principal
from syncline_server.accounts.error import AccountError
from syncline_server.accounts.secret import hash_secret, kind_of_secret, new_id, new_secret
from syncline_server.accounts.ticket import TICKET_LIFE_MS, TICKETS_MAX, TICKETS_PER_USER_MAX, TicketFault, Tickets

ADA = Principal("ada", "user")
PAGE = "https://notes.example"


class Desk:
    """Tickets and their clock."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.minted = 0
        self.tickets = Tickets(lambda: self.now_ms, self.mint)

    def mint(self, count: int) -> bytes:
        """Return bytes that never were."""
        self.minted += 1
        return self.minted.to_bytes(count, "big")


@pytest.fixture
def desk() -> Desk:
    """No ticket is out."""
    return Desk()


def test_a_ticket_is_its_user_once(desk: Desk) -> None:
    text, expires_ms = desk.tickets.issue(ADA, PAGE)
    assert kind_of_secret(text) == "ticket"
    assert expires_ms == desk.now_ms + TICKET_LIFE_MS
    assert desk.tickets.redeem(text, PAGE) is ADA
    assert desk.tickets.redeem(text, PAGE) is TicketFault.REPLAYED
    assert desk.tickets.redeem(text, "https://evil.example") is TicketFault.REPLAYED


def test_a_ticket_ends_after_thirty_seconds(desk: Desk) -> None:
    text, _ = desk.tickets.issue(ADA, PAGE)
    desk.now_ms += TICKET_LIFE_MS
    assert desk.tickets.redeem(text, PAGE) is TicketFault.EXPIRED


def test_a_ticket_ends_with_the_credentials_it_was_got_with(desk: Desk) -> None:
    text, expires_ms = desk.tickets.issue(Principal("ada", "user", expires_ms=desk.now_ms + 10), PAGE)
    assert expires_ms == desk.now_ms + 10
    desk.now_ms += 10
    assert desk.tickets.redeem(text, PAGE) is TicketFault.EXPIRED


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_ticket_that_another_page_comes_with_is_used_up(desk: Desk, origin: str) -> None:
    text, _ = desk.tickets.issue(ADA, PAGE)
    assert desk.tickets.redeem(text, origin) is TicketFault.ORIGIN
    assert desk.tickets.redeem(text, PAGE) is TicketFault.REPLAYED


def test_who_asked_without_a_page_comes_without_one(desk: Desk) -> None:
    text, _ = desk.tickets.issue(OPEN, None)
    assert desk.tickets.redeem(text, None) is OPEN


@pytest.mark.parametrize("text", ["", "syncline_t_" + "A" * 43, "\ud800"])
def test_a_text_that_is_no_ticket_is_unknown(desk: Desk, text: str) -> None:
    desk.tickets.issue(ADA, PAGE)
    assert desk.tickets.redeem(text, PAGE) is TicketFault.UNKNOWN


def refusal(desk: Desk, principal: Principal) -> str:
    """Return the code with which a ticket is refused."""
    with pytest.raises(AccountError) as caught:
        desk.tickets.issue(principal, PAGE)
    return caught.value.code


def test_a_user_has_so_many_at_a_time_used_or_not(desk: Desk) -> None:
    texts = [desk.tickets.issue(ADA, PAGE)[0] for _ in range(TICKETS_PER_USER_MAX)]
    desk.tickets.redeem(texts[0], PAGE)
    assert refusal(desk, ADA) == "rate_limited"
    desk.tickets.issue(Principal("bob", "user"), PAGE)
    desk.now_ms += TICKET_LIFE_MS
    desk.tickets.issue(ADA, PAGE)
    assert desk.tickets.redeem(texts[1], PAGE) is TicketFault.UNKNOWN, "what has ended is forgotten"


def test_all_together_have_so_many(desk: Desk) -> None:
    for number in range(TICKETS_MAX):
        desk.tickets.issue(Principal(f"u{number}", "user"), PAGE)
    assert refusal(desk, ADA) == "overloaded"
    desk.now_ms += TICKET_LIFE_MS
    desk.tickets.issue(ADA, PAGE)
    assert len(desk.tickets._tickets) == len(desk.tickets._of_user) == 1


def test_a_clock_that_is_set_back_keeps_no_ticket_for_ever(desk: Desk) -> None:
    text, _ = desk.tickets.issue(ADA, PAGE)
    desk.now_ms -= 3600 * 1000
    desk.tickets.issue(ADA, PAGE)
    assert desk.tickets.redeem(text, PAGE) is TicketFault.UNKNOWN


# --- the texts ---


def test_a_credential_says_what_it_is_and_its_hash_says_nothing(desk: Desk) -> None:
    kinds = ("personal", "session", "ticket", "invitation", "setup")
    texts = [new_secret(kind, desk.mint) for kind in kinds]  # type: ignore[arg-type]
    assert [text[:11] for text in texts] == [f"syncline_{letter}_" for letter in "pstic"]
    assert all(len(text) == 11 + 43 for text in texts)
    assert [kind_of_secret(text) for text in texts] == list(kinds)
    assert all(len(hash_secret(text)) == 64 and text[11:] not in hash_secret(text) for text in texts)
    assert new_id("t", desk.mint) == "t_0000000000000006"


@pytest.mark.parametrize(
    "text", ["", "syncline_x_" + "A" * 43, "syncline_p_" + "A" * 42, "syncline_p_" + "A" * 43 + "\n"]
)
def test_what_has_another_form_is_no_credential(text: str) -> None:
    assert kind_of_secret(text) is None
