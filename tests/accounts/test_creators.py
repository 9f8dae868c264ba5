"""Whoever creates a store owns it by a grant of his own, also who could have used it without one."""

from collections.abc import AsyncIterator

import pytest

from syncline_server.access.grant import Grant
from syncline_server.access.principal import Principal
from syncline_server.access.rights import rights_of
from syncline_server.accounts.plans.users import UserChange

from .guarded import Guarded, guarded


@pytest.fixture
async def world() -> AsyncIterator[Guarded]:
    """A server with a store."""
    async with guarded() as made:
        yield made


def owners(world: Guarded, store: str) -> list[tuple[str, str, str | None]]:
    """Return for whom, as what and by whom there are grants for exactly this store."""
    return sorted((grant.to, grant.role, grant.by) for grant in world.directory.registry.grants_on(store))


async def created(world: Guarded, token: str, store: str = "fresh") -> int:
    """Create a store; return the status."""
    asked = world.ask("PUT", f"/v1/stores/{store}", token)
    await asked.task
    return asked.status


async def test_an_administrator_owns_what_he_has_created_also_when_he_is_none_any_more(world: Guarded) -> None:
    token = await world.user("root", is_admin=True)
    await world.user("other", is_admin=True)
    assert await created(world, token) == 201
    assert owners(world, "fresh") == [("user:root", "owner", "root")]
    await world.directory.change_user("root", UserChange(is_admin=False))
    grants: list[Grant] = world.directory.grants_for(Principal("root", "user"), "fresh")
    assert rights_of(Principal("root", "user"), "fresh", grants).is_owner


async def test_the_owner_of_a_prefix_owns_exactly_what_he_has_created(world: Guarded) -> None:
    token = await world.user("ada")
    await world.directory.put_group("staff", ["ada"])
    await world.grant("group:staff", "fr*", "owner")
    assert await created(world, token) == 201
    assert owners(world, "fresh") == [("user:ada", "owner", "ada")]


async def test_what_was_granted_in_advance_holds_when_the_store_is_made(world: Guarded) -> None:
    token = await world.user("root", is_admin=True)
    await world.user("bob")
    await world.grant("user:bob", "fresh", "reader")
    await world.grant("user:bob", "fr*", "reader")
    assert await created(world, token) == 201
    assert owners(world, "fresh") == [("user:bob", "reader", None), ("user:root", "owner", "root")]
    assert owners(world, "fr*") == [("user:bob", "reader", None)]


async def test_nobody_gets_a_name_that_was_granted_to_others_or_lies_in_their_prefix(world: Guarded) -> None:
    eve, team = await world.user("eve"), await world.user("ann")
    await world.grant("user:ann", "payroll", "writer")
    await world.grant("user:ann", "team.*", "owner")
    await world.grant("everyone", "open.*", "reader")
    assert await created(world, eve, "payroll") == 409
    assert await created(world, eve, "team.plans") == 403
    assert await created(world, eve, "open.plans") == 201
    assert await created(world, team, "team.plans") == 201


async def test_a_store_that_is_there_stays_as_it_is_when_an_administrator_puts_it(world: Guarded) -> None:
    token = await world.user("root", is_admin=True)
    await world.user("bob")
    await world.grant("user:bob", "notes", "owner")
    assert await created(world, token, "notes") == 200
    assert owners(world, "notes") == [("user:bob", "owner", None)]
