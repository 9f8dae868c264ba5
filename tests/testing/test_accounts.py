"""A server for tests on which everybody has to log in: tokens for made-up people, who share a store."""

import pytest

import syncline
from syncline import AuthRequired, Misuse
from syncline.testing import Server


async def test_people_share_a_store_in_a_test() -> None:
    async with Server(stores=["notes"], accounts=True) as server:
        root, bob = server.token("root", admin=True), server.token("bob")
        async with (
            syncline.connect(server.url, token=root) as owner,
            syncline.connect(server.url, token=bob) as guest,
        ):
            await owner.share("notes", "bob", role="writer", key_prefix="bob/")
            await guest.add("notes", 1, key="bob/1")
            record = await owner.get("notes", "bob/1")
            assert record is not None
            assert record.by == "bob"


async def test_nobody_comes_in_without_a_token() -> None:
    async with Server(accounts=True) as server:
        with pytest.raises(AuthRequired):
            async with syncline.connect(server.url):
                pass


def test_accounts_are_kept_over_a_restart_and_go_back_with_a_backup() -> None:
    with Server(accounts=True) as server:
        before = server.backup()
        token = server.token("bob")
        server.restart()
        assert server.token("bob") != token
        server.restore(before)
        assert server.token("bob")


def test_where_nobody_has_to_log_in_there_are_no_tokens() -> None:
    with Server() as server, pytest.raises(Misuse, match="nobody has to log in"):
        server.token("bob")


def test_a_name_that_nobody_can_have_is_refused() -> None:
    with Server(accounts=True) as server, pytest.raises(Misuse, match="name"):
        server.token("No Name")
