"""Changes of the accounts one by one: what they do, what ends with them, what is refused."""

import pytest

from syncline_protocol.transaction import Transaction
from syncline_server.access.principal import ANONYMOUS, OPEN, Principal
from syncline_server.accounts import plan
from syncline_server.accounts.entry import ACCOUNTS
from syncline_server.accounts.plans import users
from syncline_server.accounts.plans.tokens import PERSONAL_MAX, SESSIONS_MAX
from syncline_server.accounts.plans.users import UserChange
from syncline_server.storage.base import StorageUnavailable

from .office import DAY_MS, Office, Process, refusal

# --- users ---


async def test_the_first_administrator_is_made_once(process: Process) -> None:
    directory = process.directory
    assert not directory.registry.has_admin
    user = await directory.add_first_admin("ada", "hash")
    assert user.is_admin
    assert directory.registry.has_admin
    assert await refusal(directory.add_first_admin("eve", "hash")) == "forbidden"
    assert "eve" not in directory.registry.users


@pytest.mark.parametrize("name", ["", "Ada", "a b", "-a", "a/b", "ä", "a" * 65, "a\n", "jwt:a", "_a"])
async def test_names_that_are_none_are_refused(process: Process, name: str) -> None:
    assert await refusal(process.directory.add_user(name)) == "account_invalid"
    assert await refusal(process.directory.put_group(name)) == "account_invalid"
    assert process.writes == 0


@pytest.mark.parametrize("title", ["x" * 129, "a\nb", "a\x1b[31m", "a\u2028b", "\ud800"])
async def test_titles_are_one_short_line(process: Process, title: str) -> None:
    await process.directory.add_user("ada")
    assert await refusal(process.directory.add_user("eve", title=title)) == "account_invalid"
    assert await refusal(process.directory.change_user("ada", UserChange(title=title))) == "account_invalid"
    assert await refusal(process.directory.add_token("ada", title)) == "account_invalid"


async def test_a_title_may_be_of_any_language(process: Process) -> None:
    assert (await process.directory.add_user("ada", title="Ада 👩‍💻")).title == "Ада 👩‍💻"


async def test_a_name_is_taken_once_and_for_ever(process: Process) -> None:
    await process.directory.add_user("ada")
    assert await refusal(process.directory.add_user("ada")) == "name_taken"
    await process.directory.change_user("ada", UserChange(title="x"))
    await process.directory.delete_user("ada")
    assert await refusal(process.directory.add_user("ada")) == "name_taken"
    await process.directory.put_group("staff")
    await process.directory.delete_group("staff")
    assert await refusal(process.directory.put_group("staff")) == "name_taken"


async def test_what_is_not_there_is_unknown(process: Process) -> None:
    directory = process.directory
    await directory.put_group("staff")
    for change in (
        directory.change_user("ada", UserChange(title="x")),
        directory.delete_user("ada"),
        directory.put_group("staff", ["ada"]),
        directory.add_member("staff", "ada"),
        directory.add_member("gone", "ada"),
        directory.remove_member("gone", "ada"),
        directory.delete_group("gone"),
        directory.add_token("ada", "x"),
        directory.revoke_token("t_1"),
        directory.add_grant("user:ada", "notes", "reader", by=None),
        directory.add_grant("group:gone", "notes", "reader", by=None),
        directory.remove_grant("g_1"),
        directory.remove_invitation("i_1"),
    ):
        assert await refusal(change) == "account_unknown"
    assert await directory.revoke_sessions("ada") == 0


async def test_the_last_administrator_stays(process: Process) -> None:
    directory = process.directory
    await directory.add_first_admin("ada", "hash")
    await directory.add_user("bob", is_admin=True)
    await directory.change_user("bob", UserChange(is_disabled=True))
    for change in (
        directory.delete_user("ada"),
        directory.change_user("ada", UserChange(is_disabled=True)),
        directory.change_user("ada", UserChange(is_admin=False)),
    ):
        assert await refusal(change) == "forbidden"
    await directory.change_user("bob", UserChange(is_disabled=False))
    await directory.delete_user("ada")
    assert await refusal(directory.delete_user("bob")) == "forbidden"


async def test_a_user_is_changed_in_what_is_named_only(process: Process) -> None:
    user = await process.directory.add_user("ada", title="Ada", password_hash="h", kind="service", oidc=("iss", "sub"))
    changed = await process.directory.change_user("ada", UserChange(title="Countess"))
    assert (changed.password_hash, changed.kind, changed.oidc, changed.title) == ("h", "service", user.oidc, "Countess")
    writes = process.writes
    assert await process.directory.change_user("ada", UserChange(title="Countess")) == changed
    assert process.writes == writes, "what is so already is not written again"


async def test_an_identity_belongs_to_one_user(process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada", oidc=("https://issuer", "1"))
    assert await refusal(directory.add_user("bob", oidc=("https://issuer", "1"))) == "name_taken"
    await directory.add_user("bob")
    assert await refusal(directory.change_user("bob", UserChange(oidc=("https://issuer", "1")))) == "name_taken"
    await directory.change_user("ada", UserChange(oidc=None))
    await directory.change_user("bob", UserChange(oidc=("https://issuer", "1")))
    found = directory.registry.user_by_oidc("https://issuer", "1")
    assert found is not None
    assert found.name == "bob"


# --- sessions and tokens ---


async def test_a_token_is_its_user_within_its_bounds(office: Office, process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada", is_admin=True)
    await directory.put_group("staff", ["ada"])
    token, secret = await directory.add_token(
        "ada", "script", scopes=["read"], stores=["notes", "team.*"], expires_ms=office.now_ms + 1000
    )
    assert process.principal(secret) == Principal(
        "ada",
        "user",
        frozenset({"staff"}),
        False,
        frozenset({"read"}),
        ("notes", "team.*"),
        office.now_ms + 1000,
        token.id,
    )
    assert secret.startswith("syncline_p_")
    assert secret not in repr(token)
    _, full = await directory.add_token("ada", "all")
    assert process.principal(full).is_admin


async def test_a_token_ends_by_time_by_revocation_and_with_its_user(office: Office, process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada")
    first = await process.login("ada", expires_ms=office.now_ms + 1000)
    token, second = await directory.add_token("ada", "x")
    assert (process.who(first), process.who(second), process.who("syncline_p_x")) == ("ada", "ada", "UNKNOWN")
    office.now_ms += 1000
    assert process.who(first) == "EXPIRED"
    await directory.revoke_token(token.id)
    assert process.who(second) == "UNKNOWN"
    assert await refusal(directory.revoke_token(token.id)) == "account_unknown"
    await directory.delete_user("ada")
    assert process.who(first) == "UNKNOWN"


async def test_a_login_begins_a_session_and_is_noted(office: Office, process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada", password_hash="h", oidc=("iss", "sub"))
    writes = process.writes
    for proof in ("h", ("iss", "sub")):
        office.now_ms += 1
        token, secret = await directory.login("ada", proof, "Firefox", office.now_ms + 1000)
        assert (process.who(secret), token.title, token.kind) == ("ada", "Firefox", "session")
        assert directory.registry.users["ada"].login_ms == office.now_ms
    assert process.writes == writes + 2


async def test_a_login_with_what_holds_no_more_fails(process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada", password_hash="new")
    await directory.add_user("bob")
    assert await refusal(directory.login("ada", "old", "", None)) == "login_failed"
    assert await refusal(directory.login("ada", ("iss", "sub"), "", None)) == "login_failed"
    assert await refusal(directory.login("bob", "", "", None)) == "login_failed"
    assert await refusal(directory.login("eve", "new", "", None)) == "login_failed"
    assert await refusal(directory.change_password("ada", "old", "mine", keep_session=None)) == "login_failed"
    await directory.change_user("ada", UserChange(is_disabled=True))
    assert await refusal(directory.login("ada", "new", "", None)) == "login_failed"


async def test_the_same_password_in_another_form_ends_nothing(process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada", password_hash="old")
    secret = await process.login("ada")
    assert (await directory.rehash("ada", "old", "new")).password_hash == "new"
    assert (await directory.rehash("ada", "old", "newer")).password_hash == "new", "it was changed meanwhile"
    assert process.who(secret) == "ada"


async def test_a_new_password_ends_all_other_sessions(process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada", password_hash="old")
    here, there = await process.login("ada"), await process.login("ada")
    _, personal = await directory.add_token("ada", "script")
    await directory.change_user("ada", UserChange(password_hash="new"), keep_session=process.principal(here).token)
    assert (process.who(here), process.who(there), process.who(personal)) == ("ada", "UNKNOWN", "ada")
    await directory.change_user("ada", UserChange(password_hash="newer"))
    assert process.who(here) == "UNKNOWN"


async def test_who_is_disabled_has_nothing_and_logs_in_anew_afterwards(process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada")
    await directory.put_group("staff", ["ada"])
    session, (_, personal) = await process.login("ada"), await directory.add_token("ada", "x")
    principal = process.principal(personal)
    await directory.change_user("ada", UserChange(is_disabled=True))
    assert (process.who(session), process.who(personal)) == ("UNKNOWN", "UNKNOWN")
    assert directory.current(principal) is None
    assert directory.registry.groups_of("ada") == frozenset()
    assert await refusal(directory.add_token("ada", "y")) == "account_unknown"
    await directory.change_user("ada", UserChange(is_disabled=False))
    assert (process.who(session), process.who(personal)) == ("UNKNOWN", "ada")


async def test_sessions_end_all_but_one(process: Process) -> None:
    await process.directory.add_user("ada")
    secrets = [await process.login("ada") for _ in range(4)]
    assert await process.directory.revoke_sessions("ada", process.principal(secrets[2]).token) == 3
    assert [process.who(secret) for secret in secrets] == ["UNKNOWN", "UNKNOWN", "ada", "UNKNOWN"]


async def test_the_oldest_session_makes_room_and_a_personal_token_does_not(office: Office, process: Process) -> None:
    await process.directory.add_user("ada")
    secrets = []
    for _ in range(SESSIONS_MAX + 2):
        office.now_ms += 1
        secrets.append(await process.login("ada"))
    assert [process.who(secret) for secret in secrets[:3]] == ["UNKNOWN", "UNKNOWN", "ada"]
    for _ in range(PERSONAL_MAX):
        await process.directory.add_token("ada", "x")
    assert await refusal(process.directory.add_token("ada", "x")) == "account_invalid"
    assert process.who(secrets[2]) == "ada"


async def test_a_token_that_cannot_be_of_use_is_not_made(office: Office, process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada")
    assert await refusal(directory.add_token("ada", "x", expires_ms=office.now_ms)) == "account_invalid"
    assert await refusal(directory.add_token("ada", "x", stores=["a/b"])) == "account_invalid"
    assert await refusal(directory.add_token("ada", "x", stores=["a"] * 101)) == "account_invalid"


async def test_the_last_use_is_written_together_and_at_most_once_an_hour(office: Office, process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada")
    ids = [(await directory.add_token("ada", "x"))[0].id for _ in range(3)]
    writes, told, first_ms = process.writes, process.told, office.now_ms
    for token_id in [*ids, ids[0], "t_gone"]:
        directory.note_use(token_id)
    await directory.revoke_token(ids[2])
    await directory.write_uses()
    await directory.write_uses()
    assert process.writes == writes + 2
    assert process.told == told + 1, "the revocation, not the use"
    assert directory.registry.tokens[ids[0]].used_ms == first_ms
    office.now_ms += 3599 * 1000
    directory.note_use(ids[0])
    await directory.write_uses()
    assert process.writes == writes + 2
    office.now_ms += 1000
    directory.note_use(ids[0])
    await directory.write_uses()
    assert directory.registry.tokens[ids[0]].used_ms == office.now_ms


# --- principals ---


async def test_what_a_principal_is_follows_his_account(office: Office, process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada", is_admin=True)
    await directory.add_user("bob", is_admin=True)
    secret = await process.login("ada", expires_ms=office.now_ms + 1000)
    old = process.principal(secret)
    await directory.put_group("staff", ["ada"])
    await directory.change_user("ada", UserChange(is_admin=False, kind="service"))
    now = directory.current(old)
    assert now == process.principal(secret)
    assert now is not None
    assert (now.groups, now.is_admin, now.kind) == (frozenset({"staff"}), False, "service")
    office.now_ms += 1000
    assert directory.current(old) is None


async def test_a_principal_without_a_token_follows_his_account_too(process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada")
    await directory.put_group("staff", ["ada"])
    assert directory.current(Principal("ada", "user")) == Principal("ada", "user", frozenset({"staff"}))
    await directory.change_user("ada", UserChange(is_admin=True))
    bounded = directory.current(Principal("ada", "user", scopes=frozenset({"read"})))
    assert bounded is not None
    assert not bounded.is_admin
    await directory.add_user("bob", is_admin=True)
    await directory.delete_user("ada")
    assert directory.current(Principal("ada", "user")) is None


async def test_who_has_no_account_stays_until_his_credentials_end(office: Office, process: Process) -> None:
    external = Principal("jwt:sub", "external", frozenset({"staff"}), expires_ms=office.now_ms + 1)
    for principal in (ANONYMOUS, OPEN, external):
        assert process.directory.current(principal) is principal
    office.now_ms += 1
    assert process.directory.current(external) is None


# --- groups ---


async def test_members_come_and_go(process: Process) -> None:
    directory = process.directory
    for name in ("ada", "bob"):
        await directory.add_user(name)
    group, is_new = await directory.put_group("staff", ["bob", "ada", "bob"])
    assert (group.members, is_new) == (("ada", "bob"), True)
    assert await directory.put_group("staff") == (group, False)
    assert (await directory.remove_member("staff", "ada")).members == ("bob",)
    assert (await directory.remove_member("staff", "ada")).members == ("bob",)
    assert (await directory.add_member("staff", "ada")).members == ("ada", "bob")
    await directory.add_grant("group:staff", "notes", "writer", by=None)
    assert (await directory.delete_group("staff")).members == ("ada", "bob")
    assert directory.registry.groups_of("ada") == frozenset()
    assert not directory.registry.grants


# --- what is noted ---


async def test_a_change_is_noted_once_before_it_is_written_and_a_refused_one_never(process: Process) -> None:
    noted: list[object] = []

    async def note(result: object) -> None:
        assert result not in process.directory.registry.users.values()
        noted.append(result)

    directory = process.directory
    user = await directory.noting(note).add_user("ada")
    assert noted == [user]
    assert await refusal(directory.noting(note).add_user("ada")) == "name_taken"
    await directory.noting(note).change_user("ada", UserChange(title=""))
    assert noted == [user], "that it is so already is nothing new"


async def test_what_cannot_be_noted_is_not_changed(process: Process) -> None:
    async def fail(result: object) -> None:
        raise StorageUnavailable("the audit log is away")

    with pytest.raises(StorageUnavailable):
        await process.directory.noting(fail).add_user("ada")
    assert not process.directory.registry.users


async def test_what_was_taken_away_while_it_was_noted_is_refused(process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada")

    async def note(result: object) -> None:
        await process.write(_deletion(process))

    assert await refusal(directory.noting(note).add_token("ada", "x")) == "account_unknown"


def _deletion(process: Process) -> Transaction:
    registry = process.directory.registry
    return Transaction(ACCOUNTS, tuple(plan.ops_of(registry, users.delete_user(registry, "ada").edits)))


# --- clearing away ---


async def test_what_is_past_is_cleared_away(office: Office, process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada")
    end_ms = office.now_ms + 1000
    secret = await process.login("ada", expires_ms=end_ms)
    await process.login("ada")
    await directory.add_grant("user:ada", "notes", "reader", by=None, expires_ms=end_ms)
    await directory.add_grant("user:ada", "other", "reader", by=None)
    await directory.add_invitation("notes", "reader", by=None, expires_ms=end_ms)
    _, code = await directory.add_invitation("notes", "reader", by=None, uses_max=1)
    await directory.add_invitation("notes", "reader", by=None)
    await directory.accept_invitation(code, "ada")
    office.now_ms = end_ms
    assert await directory.remove_expired() == 3
    assert process.who(secret) == "EXPIRED", "who comes with it is told what has happened"
    office.now_ms += 7 * DAY_MS
    assert await directory.remove_expired() == 1
    assert process.who(secret) == "UNKNOWN"
    registry = directory.registry
    assert (len(registry.tokens), len(registry.grants), len(registry.invitations)) == (1, 2, 1)
    assert await directory.remove_expired() == 0


async def test_a_user_leaves_with_everything_that_names_him(process: Process) -> None:
    directory = process.directory
    for name in ("ada", "bob"):
        await directory.add_user(name)
        await directory.add_grant(f"user:{name}", "notes", "owner", by=None)
        await directory.add_invitation("notes", "reader", by=name)
        await process.login(name)
    await directory.put_group("staff", ["ada", "bob"])
    writes = process.writes
    await directory.delete_user("ada")
    assert process.writes == writes + 1
    assert "ada" not in "".join(map(repr, directory.registry._entries.values()))
    assert len(directory.registry.grants) == len(directory.registry.tokens) == len(directory.registry.invitations) == 1


async def test_a_user_with_more_than_fits_into_one_transaction_is_disabled_first(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_OPS_MAX", 6)
    directory = process.directory
    await directory.add_user("ada", is_admin=True)
    await directory.add_user("bob", is_admin=True)
    secret = await process.login("ada")
    for group in range(20):
        await directory.put_group(f"g{group}", ["ada", "bob"])
    seen: list[tuple[bool, str | None]] = []
    directory.listeners.append(lambda: seen.append(("ada" in directory.registry.users, process.who(secret))))
    deleted = await directory.delete_user("ada")
    assert not deleted.is_disabled
    assert len(seen) > 5, "it took several transactions"
    assert {who for _, who in seen} == {"UNKNOWN"}, "from the first on he has nothing"
    assert [there for there, _ in seen] == [True] * (len(seen) - 1) + [False]
    assert all("ada" not in group.members for group in directory.registry.groups.values())
    assert directory.registry._admins == {"bob"}


async def test_many_grants_go_in_several_transactions_and_the_owner_last(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_BYTES_MAX", 500)
    directory = process.directory
    await directory.add_user("ada")
    await directory.put_group("staff")
    await directory.add_grant("user:ada", "notes", "owner", by=None)
    for number in range(20):
        await directory.add_grant(f"user:jwt:{number}", "notes", "writer", by=None)
        await directory.add_grant("group:staff", f"s{number}", "writer", by=None)
    seen: list[bool] = []
    directory.listeners.append(lambda: seen.append(bool(directory.grants_for(Principal("ada", "user"), "notes"))))
    assert await directory.remove_store_grants("notes") == 21
    assert seen == [True] * (len(seen) - 1) + [False]
    assert len(seen) > 5, "it took several transactions"
    await directory.delete_group("staff")
    assert not directory.registry.grants
