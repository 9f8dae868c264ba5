"""What is said of a store and done for it over HTTP: settings, statistics, clean-up."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from syncline_server.settings import Settings
from tests.support.http import HttpApp, http_app


@pytest.fixture
async def app() -> AsyncIterator[HttpApp]:
    """An application that keeps nothing of the past for longer than it has to."""
    async with http_app(settings=Settings(auth="none", store="memory:", history_s=0, tombstones_s=0)) as app:
        yield app


async def _stats(app: HttpApp) -> dict[str, object]:
    body: dict[str, object] = (await app.get("/v1/stores/notes/stats")).json
    return body


async def _kill_some(app: HttpApp) -> None:
    for key in ("a", "b", "c"):
        await app.put(key)
    for key in ("a", "b"):
        assert (await app.ask("DELETE", f"/v1/stores/notes/records/{key}")).status == 200


async def test_settings_are_replaced_as_a_whole_and_show_in_the_store(app: HttpApp) -> None:
    assert (await app.get("/v1/stores/notes/settings")).json == {}
    wanted = {"description": "what we think", "records_max": 10, "retention_s": 3600.0}
    assert (await app.ask("PUT", "/v1/stores/notes/settings", msgspec.json.encode(wanted))).json == wanted
    assert (await app.get("/v1/stores/notes/settings")).json == wanted
    assert (await app.get("/v1/stores/notes")).json["description"] == "what we think"
    assert (await app.ask("PUT", "/v1/stores/notes/settings", msgspec.json.encode({}))).json == {}


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"compact_ratio": 2}, "bad_message"),
        ({"retention_s": 0}, "bad_message"),
        ({"records_max": -1}, "bad_message"),
        ({"description": "x" * 1001}, "bad_message"),
        ({"history_s": "long"}, "bad_message"),
        ({"colour": "red"}, "unknown_parameter"),
    ],
)
async def test_settings_that_make_no_sense_are_refused(app: HttpApp, settings: dict[str, object], code: str) -> None:
    (await app.ask("PUT", "/v1/stores/notes/settings", msgspec.json.encode(settings))).refused(400, code)
    assert (await app.get("/v1/stores/notes/settings")).json == {}


async def test_statistics_tell_what_is_dead_and_by_which_rules_it_goes(app: HttpApp) -> None:
    await _kill_some(app)
    await app.ask("PUT", "/v1/stores/notes/settings", msgspec.json.encode({"history_s": 60}))
    stats = (await app.get("/v1/stores/notes/stats")).json
    assert (stats["records"], stats["seq"]) == (1, 5)
    assert stats["sizes"]["dead_values"] == stats["sizes"]["tombstones"] == 2
    assert stats["floors"] == {"history": 0, "tombstones": 0}
    assert stats["policy"]["history_s"] == 60
    assert stats["oldest"] == stats["newest"]
    assert stats["upkeep"]["state"] == "idle"


async def test_an_empty_store_has_statistics_without_times(app: HttpApp) -> None:
    stats = await _stats(app)
    assert stats["records"] == 0
    assert "oldest" not in stats


async def test_a_dry_run_tells_what_would_go_and_takes_nothing(app: HttpApp) -> None:
    await _kill_some(app)
    dry = (await app.ask("POST", "/v1/stores/notes/compact?dry_run=1")).json
    assert dry["estimate"]["values"] == 2
    assert dry["estimate"]["bytes"] > 0
    assert (await _stats(app))["floors"] == {"history": 0, "tombstones": 0}


async def test_clean_up_that_was_asked_for_drops_what_is_dead_and_tells_so(app: HttpApp) -> None:
    await _kill_some(app)
    before = (await app.get("/v1/stores/notes")).json
    begun = await app.ask("POST", "/v1/stores/notes/compact")
    assert begun.status == 202
    assert begun.json["upkeep"]["run"]["values"] == 0
    await app.hub.maintenance.settled("notes")
    stats = (await app.get("/v1/stores/notes/stats")).json
    assert stats["upkeep"]["last"]["values"] == 2
    assert stats["sizes"]["dead_values"] == 0
    assert stats["floors"]["history"] == 5
    after = (await app.get("/v1/stores/notes")).json
    assert (after["count"], after["digest"], after["head"]) == (before["count"], before["digest"], before["head"])


async def test_a_key_that_was_cleaned_away_is_never_used_again(app: HttpApp) -> None:
    await _kill_some(app)
    await app.ask("POST", "/v1/stores/notes/compact")
    await app.hub.maintenance.settled("notes")
    refused = await app.ask("PUT", "/v1/stores/notes/records/a", b'{"another":"value"}')
    refused.refused(409, "write_refused")


async def test_clean_up_of_a_store_that_is_not_there_is_refused(app: HttpApp) -> None:
    for method, path in (("POST", "compact"), ("GET", "stats"), ("GET", "settings")):
        (await app.ask(method, f"/v1/stores/none/{path}")).refused(404, "store_unknown")
    (await app.ask("PUT", "/v1/stores/none/settings", msgspec.json.encode({}))).refused(404, "store_unknown")
