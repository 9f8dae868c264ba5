"""The past and the figures of a store, for who sees a part of it, and what the audit log has of both."""

from typing import Any

import msgspec

from tests.accounts.people import town


async def test_who_sees_a_part_sees_what_changed_in_that_part_only() -> None:
    async with town() as world:
        for key in ("a%2F1", "v%2F1"):
            assert (await world.ask("owner", "DELETE", f"/v1/stores/notes/records/{key}")).status == 200
        seen: dict[str, list[tuple[str, Any]]] = {}
        for name in ("viewed", "reader"):
            changes = (await world.get(name, "/v1/stores/notes/diff?from=5")).json["changes"]
            seen[name] = [(change["key"], change["old"]["key"]) for change in changes]
            lines = await world.get(name, "/v1/stores/notes/diff?from=5", accept="application/x-ndjson")
            assert [msgspec.json.decode(line) for line in lines.content.splitlines()] == changes
        assert seen == {"viewed": [("v/1", "v/1")], "reader": [("a/1", "a/1"), ("v/1", "v/1")]}


async def test_who_sees_a_part_sees_the_past_of_that_part_only() -> None:
    async with town() as world:
        page = (await world.get("viewed", "/v1/stores/notes/records?at=5")).json
        assert [record["key"] for record in page["records"]] == ["v/1", "v/2"]


async def test_sizes_are_for_who_sees_everything_and_owners_for_owners() -> None:
    async with town() as world:
        told = {
            name: (await world.get(name, "/v1/stores/notes")).json for name in ("owner", "admin", "reader", "viewed")
        }
        assert [name for name, store in told.items() if "owners" in store] == ["owner", "admin"]
        assert told["owner"]["owners"] == ["user:owner"]
        assert [name for name, store in told.items() if "sizes" in store] == ["owner", "admin", "reader"]


async def test_what_is_said_and_done_is_in_the_audit_log() -> None:
    async with town() as world:
        await world.ask("owner", "PUT", "/v1/stores/notes/settings", {"description": "ours"})
        await world.ask("owner", "POST", "/v1/stores/notes/compact")
        await world.get("reader", "/v1/stores/notes/diff?from=1", accept="application/x-ndjson")
        entries = (await world.get("admin", "/v1/audit")).json["entries"]
        found = {(entry["action"], entry["actor"], entry["subject"]) for entry in entries}
        assert ("store.configure", "owner", "notes") in found
        assert ("store.compact", "owner", "notes") in found
        assert ("store.export", "reader", "notes") in found
