"""Whom a change is about: never too few, whoever the grantee and whatever the change."""

from syncline_server.access.concern import EVERYTHING, NOTHING, Concern
from syncline_server.access.principal import ANONYMOUS, Principal

ADA = Principal("ada", "user", frozenset({"poets"}))
BOB = Principal("bob", "user")
GUEST = Principal("ada", "external", frozenset({"jwt:poets"}))


def concerned(concern: Concern) -> list[Principal]:
    return [principal for principal in (ADA, BOB, GUEST, ANONYMOUS) if concern.is_about(principal)]


def test_a_grant_is_about_its_grantee_whatever_kind_he_is_of() -> None:
    assert concerned(Concern.of_grant("user:ada", "notes")) == [ADA, GUEST]
    assert concerned(Concern.of_grant("group:poets", "notes")) == [ADA]
    assert concerned(Concern.of_grant("group:jwt:poets", "notes")) == [GUEST]
    assert concerned(Concern.of_grant("everyone", "notes")) == [ADA, BOB, GUEST, ANONYMOUS]


def test_a_grant_is_about_the_stores_that_it_covers() -> None:
    assert Concern.of_grant("everyone", "notes").is_in("notes")
    assert not Concern.of_grant("everyone", "notes").is_in("notes-2")
    assert Concern.of_grant("everyone", "notes*").is_in("notes-2")


def test_a_change_of_a_user_is_about_every_store_and_who_he_is() -> None:
    concern = Concern.of_users(["bob"])
    assert concerned(concern) == [BOB]
    assert concern.is_in("notes")
    assert concern.changes_identity(BOB)
    assert not Concern.of_grant("user:bob", "notes").changes_identity(BOB)


def test_a_grant_to_everyone_may_be_the_end_of_who_has_not_logged_in() -> None:
    assert Concern.of_grant("everyone", "notes").changes_identity(ANONYMOUS)


def test_a_union_is_about_everybody_of_both_everywhere() -> None:
    both = Concern.of_grant("group:poets", "notes") | Concern.of_users(["bob"])
    assert concerned(both) == [ADA, BOB]
    assert both.is_in("anything")
    stores = Concern.of_grant("group:poets", "notes") | Concern.of_grant("user:bob", "letters")
    assert [store for store in ("notes", "letters", "other") if stores.is_in(store)] == ["notes", "letters"]
    assert concerned(stores | EVERYTHING) == [ADA, BOB, GUEST, ANONYMOUS]


def test_nothing_is_about_nobody() -> None:
    assert NOTHING.is_nobody
    assert concerned(NOTHING) == []
    assert not any(one.is_nobody for one in (EVERYTHING, Concern.of_users(["a"]), Concern.of_grant("everyone", "n")))
