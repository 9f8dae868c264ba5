"""Grants and invitations in the directory: what they give, what takes them away, what is refused."""

import pytest

from syncline_server.access.grant import Grant, GrantLimits
from syncline_server.access.principal import ANONYMOUS, Principal
from syncline_server.accounts.plans.users import UserChange

from .office import Office, Process, refusal

# --- grants ---


async def test_a_grant_replaces_what_the_same_grantee_had(process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada")
    first, is_new = await directory.add_grant("user:ada", "notes", "reader", by="root")
    assert is_new
    await directory.add_grant("user:ada", "other", "reader", by="root")
    limits = GrantLimits(add_only=True)
    second, is_new = await directory.add_grant("user:ada", "notes", "writer", by="root", limits=limits)
    assert not is_new
    assert directory.grants_for(Principal("ada", "user"), "notes") == [second]
    assert await refusal(directory.remove_grant(first.id)) == "account_unknown"
    assert await directory.remove_grant(second.id) == second
    assert directory.grants_for(Principal("ada", "user"), "notes") == []


async def test_grants_are_found_by_name_group_prefix_and_for_everyone(office: Office, process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada")
    await directory.put_group("staff", ["ada"])

    async def grant(to: str, store: str, expires_ms: int | None = None) -> Grant:
        office.now_ms += 1
        return (await directory.add_grant(to, store, "reader", by=None, expires_ms=expires_ms))[0]

    named = await grant("user:ada", "team.a")
    grouped = await grant("group:staff", "team.*")
    everyone = await grant("everyone", "*")
    ending = await grant("user:ada", "team.*", office.now_ms + 100)
    external = await grant("user:jwt:sub", "team.a")
    of_issuer = await grant("group:jwt:ops", "team.b")
    ada = Principal("ada", "user", frozenset({"staff"}))
    assert directory.grants_for(ada, "team.a") == [named, grouped, everyone, ending]
    assert directory.grants_for(ada, "team.b") == [grouped, everyone, ending]
    assert directory.grants_for(ada, "team") == [everyone]
    assert directory.grants_for(ANONYMOUS, "team.a") == [everyone]
    assert directory.grants_for(Principal("jwt:sub", "external"), "team.a") == [everyone, external]
    assert directory.grants_for(Principal("jwt:x", "external", frozenset({"jwt:ops"})), "team.b") == [
        everyone,
        of_issuer,
    ]
    told = process.told
    directory.expire()
    office.now_ms += 100
    assert directory.grants_for(ada, "team.b") == [grouped, everyone]
    directory.expire()
    directory.expire()
    assert process.told == told + 1


@pytest.mark.parametrize(
    ("to", "store", "role", "limits"),
    [
        ("ada", "notes", "reader", GrantLimits()),
        ("role:x", "notes", "reader", GrantLimits()),
        ("user:", "notes", "reader", GrantLimits()),
        ("user:jwt:", "notes", "reader", GrantLimits()),
        ("group:jwt:", "notes", "reader", GrantLimits()),
        ("user:jwt:a\n", "notes", "reader", GrantLimits()),
        ("user:Ada", "notes", "reader", GrantLimits()),
        ("everyone", "", "reader", GrantLimits()),
        ("everyone", "_accounts", "reader", GrantLimits()),
        ("everyone", "a*b", "reader", GrantLimits()),
        ("everyone", "notes", "owner", GrantLimits()),
        ("user:ada", "notes", "owner", GrantLimits(add_only=True)),
    ],
)
async def test_grants_that_mean_nothing_sound_are_refused(
    process: Process, to: str, store: str, role: str, limits: GrantLimits
) -> None:
    await process.directory.add_user("ada")
    change = process.directory.add_grant(to, store, role, by=None, limits=limits)  # type: ignore[arg-type]
    assert await refusal(change) == "account_invalid"


async def test_a_grant_that_has_ended_is_not_made(office: Office, process: Process) -> None:
    change = process.directory.add_grant("everyone", "notes", "reader", by=None, expires_ms=office.now_ms)
    assert await refusal(change) == "account_invalid"


async def test_grants_to_those_without_an_account_are_made_when_that_is_meant(process: Process) -> None:
    await process.directory.add_grant("user:eve", "notes", "reader", by=None, must_exist=False)
    assert process.directory.grants_for(Principal("eve", "external"), "notes")


async def test_a_store_that_is_dropped_leaves_no_grants_behind(process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada")
    for store in ("notes", "notes*", "other"):
        await directory.add_grant("user:ada", store, "owner", by=None)
    await directory.add_grant("everyone", "notes", "reader", by=None)
    _, code = await directory.add_invitation("notes", "reader", by="ada")
    assert await directory.remove_store_grants("notes") == 3
    assert sorted(grant.store for grant in directory.registry.grants.values()) == ["notes*", "other"]
    assert await refusal(directory.accept_invitation(code, "ada")) == "invitation_invalid"
    assert await directory.remove_store_grants("notes") == 0


# --- invitations ---


async def test_an_invitation_gives_what_it_says(office: Office, process: Process) -> None:
    directory = process.directory
    for name in ("ada", "bob"):
        await directory.add_user(name)
    await directory.add_grant("user:ada", "team.*", "owner", by=None)
    limits = GrantLimits(key_prefix="bob/", records_max=5)
    invitation, code = await directory.add_invitation(
        "team.a", "writer", by="ada", limits=limits, authors=False, uses_max=2, expires_ms=office.now_ms + 1000
    )
    assert code not in repr(invitation)
    assert directory.invitation_of(code) == invitation
    grant = await directory.accept_invitation(code, "bob")
    assert grant == Grant(grant.id, "user:bob", "team.a", "writer", "ada", office.now_ms, limits, False)
    assert await directory.accept_invitation(code, "bob") == grant, "nothing more is to be had"
    assert directory.registry.invitations[invitation.id].uses == 1
    await directory.accept_invitation(code, "jwt:sub")
    assert directory.registry.invitations[invitation.id].uses == 2
    assert await refusal(directory.accept_invitation(code, "ada")) == "invitation_invalid"


async def test_who_was_removed_or_narrowed_does_not_come_back_by_the_same_link(process: Process) -> None:
    directory = process.directory
    for name in ("ada", "bob", "cleo"):
        await directory.add_user(name)
    await directory.add_grant("user:ada", "notes", "owner", by=None)
    _, code = await directory.add_invitation("notes", "writer", by="ada")
    grant = await directory.accept_invitation(code, "bob")
    narrow, _ = await directory.add_grant("user:bob", "notes", "reader", by="ada")
    assert await directory.accept_invitation(code, "bob") == narrow
    await directory.remove_grant(narrow.id)
    assert await refusal(directory.accept_invitation(code, "bob")) == "invitation_invalid"
    assert grant.role == (await directory.accept_invitation(code, "cleo")).role


async def test_an_invitation_never_takes_away(process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada")
    await directory.add_grant("user:ada", "notes", "owner", by=None)
    _, code = await directory.add_invitation("notes", "reader", by="ada")
    await directory.accept_invitation(code, "ada")
    assert [grant.role for grant in directory.grants_for(Principal("ada", "user"), "notes")] == ["owner", "reader"]


async def test_whatever_is_wrong_with_an_invitation_looks_the_same(office: Office, process: Process) -> None:
    directory = process.directory
    for name in ("ada", "bob", "cleo"):
        await directory.add_user(name)
    grant, _ = await directory.add_grant("user:ada", "notes", "owner", by=None)
    await directory.add_grant("user:cleo", "notes", "owner", by=None)
    _, expired = await directory.add_invitation("notes", "reader", by="ada", expires_ms=office.now_ms + 1)
    _, used = await directory.add_invitation("notes", "reader", by="ada", uses_max=1)
    gone, revoked = await directory.add_invitation("notes", "reader", by="ada")
    _, demoted = await directory.add_invitation("notes", "reader", by="cleo")
    _, disabled = await directory.add_invitation("notes", "reader", by="ada")
    _, foreign = await directory.add_invitation("other", "reader", by="ada")
    _, wider = await directory.add_invitation("notes*", "reader", by="ada")
    await directory.accept_invitation(used, "cleo")
    await directory.remove_invitation(gone.id)
    await directory.add_grant("user:cleo", "notes", "writer", by=None)
    office.now_ms += 1
    texts = set()
    await directory.change_user("ada", UserChange(is_disabled=True))
    for code in ("syncline_i_x", expired, used, revoked, demoted, disabled, foreign, wider):
        with pytest.raises(Exception, match="cannot be used") as caught:
            await directory.accept_invitation(code, "bob")
        texts.add(str(caught.value))
    assert len(texts) == 1
    await directory.change_user("ada", UserChange(is_disabled=False))
    for code in (foreign, wider):
        assert await refusal(directory.accept_invitation(code, "bob")) == "invitation_invalid"
    await directory.accept_invitation(disabled, "bob")
    await directory.remove_grant(grant.id)
    assert await refusal(directory.accept_invitation(disabled, "cleo")) == "invitation_invalid"


async def test_administrators_and_the_operator_invite_to_any_store(process: Process) -> None:
    directory = process.directory
    await directory.add_user("root", is_admin=True)
    await directory.add_user("bob")
    for by in ("root", None):
        _, code = await directory.add_invitation("*", "reader", by=by)
        await directory.accept_invitation(code, "bob")


async def test_a_new_user_comes_with_an_invitation_or_not_at_all(process: Process) -> None:
    directory = process.directory
    _, code = await directory.add_invitation("notes", "reader", by=None, uses_max=1)
    assert await refusal(directory.accept_as_new_user("syncline_i_x", "ada", "h")) == "invitation_invalid"
    assert await refusal(directory.accept_as_new_user(code, "Ada", "h")) == "account_invalid"
    user, grant = await directory.accept_as_new_user(code, "ada", "h")
    assert directory.registry.users == {"ada": user}
    assert directory.registry.grants == {grant.id: grant}
    assert await refusal(directory.accept_as_new_user(code, "bob", "h")) == "invitation_invalid"
    assert "bob" not in directory.registry.users


async def test_an_invitation_that_cannot_be_of_use_is_not_made(office: Office, process: Process) -> None:
    directory = process.directory
    for change in (
        directory.add_invitation("notes", "reader", by=None, expires_ms=office.now_ms),
        directory.add_invitation("notes", "reader", by=None, uses_max=0),
        directory.add_invitation("a b", "reader", by=None),
        directory.add_invitation("notes", "owner", by=None, limits=GrantLimits(own_only=True)),
    ):
        assert await refusal(change) == "account_invalid"
