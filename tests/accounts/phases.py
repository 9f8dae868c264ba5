"""Everything that can be under way when somebody loses his access: each phase brings a trial into it and says so."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from syncline_protocol.cursor import Seq
from syncline_protocol.messages import Add, Fetch, Subscribe, Unsubscribe
from syncline_server.access.gate import Visitor

from .guarded import Asked, turns
from .trial import Trial

__all__ = ["PHASES", "QUIET", "UNFOLLOWED"]

Phase = Callable[[Trial], Awaitable[None]]


async def _until(condition: Callable[[], bool]) -> None:
    """Return when the phase is reached; fail if it is not."""
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the phase was not reached")


async def _subscription_opens(trial: Trial) -> None:
    trial.hold("info", "summary")
    trial.is_opening = True
    await trial.subscribe()
    await _until(lambda: trial.storage.waiting > 0)


async def _subscription_reconciles(trial: Trial) -> None:
    trial.hold("live_set")
    trial.is_opening = True
    await trial.subscribe(await _cursor_of_another_view(trial))
    await _until(lambda: trial.storage.waiting > 0)


async def _subscription_has_live_set(trial: Trial) -> None:
    peer = await trial.subscribe(await _cursor_of_another_view(trial))
    await _until(lambda: any(b'"LIVE"' in payload for payload in peer.payloads))


async def _cursor_of_another_view(trial: Trial) -> str:
    info = await trial.storage.info("notes")
    return info.head.lineage.cursor(Seq(7), "0123456789ab")


async def _subscription_reads_cold(trial: Trial) -> None:
    trial.hold("read")
    await trial.subscribe()
    await _until(lambda: trial.storage.waiting > 0)


async def _subscription_is_live(trial: Trial) -> None:
    peer = await trial.subscribe()
    await _until(lambda: any(subscription.live for subscription in peer.connection.subscriptions))


async def _subscription_lags(trial: Trial) -> None:
    peer = await trial.subscribe()
    await _until(lambda: bool(peer.connection.subscriptions))
    peer.set_full(True)
    trial.was_full = True
    await turns(trial.chance.randrange(5))
    assert not any(s.live for s in peer.connection.subscriptions)


async def _subscription_is_over_but_not_all_of_it_is_sent(trial: Trial) -> None:
    peer = await trial.subscribe()
    await _until(lambda: bool(peer.connection.subscriptions))
    peer.set_full(True)
    trial.was_full = True
    peer.send(Unsubscribe(900))
    assert not peer.connection.subscriptions


async def _catch_up_stalls(trial: Trial) -> None:
    peer = await trial.connect()
    peer.set_full(True)
    trial.was_full = True
    peer.send(Subscribe(900, "notes", "start"))
    await turns(8)
    await _until(lambda: bool(peer.connection.subscriptions))


async def _fetch_is_read(trial: Trial) -> None:
    trial.hold("fetch")
    peer = await trial.subscribe(await _cursor_of_another_view(trial))
    await _until(lambda: bool(peer.connection.subscriptions))
    peer.send(Fetch(900, "1-7"))
    await turns(4)
    await _until(lambda: trial.storage.waiting > 0)


async def _fetch_waits_for_room(trial: Trial) -> None:
    peer = await trial.subscribe()
    await _until(lambda: bool(peer.connection.subscriptions))
    peer.set_full(True)
    trial.was_full = True
    for _ in range(3):
        peer.send(Fetch(900, "1-20"))
    await turns(4)
    assert not any(b'"FILL"' in payload for payload in peer.payloads)


async def _outbox_is_flushed(trial: Trial) -> None:
    peer = await trial.subscribe() if trial.chance.random() < 0.5 else await trial.connect()

    def write(number: int) -> None:
        if peer.closed_with is None and not peer.aborted:
            peer.send(Add(number, "notes", f"k/{'ab'[number % 2]}/own{number}", msgspec.Raw(b'"own"')))

    trial.write_by(write)
    await turns(trial.chance.randrange(6))


async def _sse_opens(trial: Trial) -> None:
    trial.hold("info", "summary")
    trial.is_stream = True
    await trial.ask("GET", "/v1/stores/notes/changes", accept="text/event-stream")
    await _until(lambda: trial.storage.waiting > 0)


async def _sse_reads_cold(trial: Trial) -> None:
    trial.hold("read")
    trial.is_stream = True
    await trial.ask("GET", "/v1/stores/notes/changes", accept="text/event-stream")
    await _until(lambda: trial.storage.waiting > 0)


async def _sse_is_live(trial: Trial) -> None:
    trial.is_stream = True
    asked = await trial.ask("GET", "/v1/stores/notes/changes", accept="text/event-stream")
    await _until(lambda: any(b"caught_up" in piece for piece in asked.pieces))


async def _sse_is_not_read(trial: Trial) -> None:
    await _sse_is_live(trial)
    trial.asked[0].room.clear()
    await turns(trial.chance.randrange(10))


async def _ndjson_reads_cold(trial: Trial) -> None:
    trial.hold("read")
    trial.is_stream = True
    await trial.ask("GET", "/v1/stores/notes/changes", accept="application/x-ndjson")
    await _until(lambda: trial.storage.waiting > 0)


async def _ndjson_is_live(trial: Trial) -> None:
    trial.is_stream = True
    asked = await trial.ask("GET", "/v1/stores/notes/changes", accept="application/x-ndjson")
    await _until(lambda: bool(asked.pieces))


async def _records_are_streamed(trial: Trial) -> None:
    trial.hold("read")
    trial.is_stream = True
    await trial.ask("GET", "/v1/stores/notes/records", accept="application/x-ndjson")
    await _until(lambda: trial.storage.waiting > 0)


async def _stream_of_records_opens(trial: Trial) -> None:
    trial.hold("info")
    trial.is_stream = True
    await trial.ask("GET", "/v1/stores/notes/records", accept="application/x-ndjson")
    await _until(lambda: trial.storage.waiting > 0)


async def _long_poll_waits(trial: Trial) -> None:
    head = (await trial.storage.info("notes")).head
    await trial.ask("GET", f"/v1/stores/notes/changes?wait=60&after={head.lineage.cursor(head.seq, _token_of(trial))}")
    await _until(lambda: bool(trial.world.hub.waiting))


def _token_of(trial: Trial) -> str | None:
    principal = trial.world.hub.gate.admit(trial.subject.token, Visitor())
    assert principal is not None
    view = trial.world.hub.authority.rights(principal, "notes").view
    assert view is not None
    return view.token


async def _long_poll_opens(trial: Trial) -> None:
    trial.hold("info", "summary")
    await trial.ask("GET", "/v1/stores/notes/changes?wait=60")
    await _until(lambda: trial.storage.waiting > 0)


async def _record_is_read(trial: Trial) -> None:
    trial.hold("get")
    await trial.ask("GET", "/v1/stores/notes/records/k%2Fb%2F2")
    await _until(lambda: trial.storage.waiting > 0)


async def _page_of_records_is_read(trial: Trial) -> None:
    trial.hold("read")
    await trial.ask("GET", "/v1/stores/notes/records")
    await _until(lambda: trial.storage.waiting > 0)


async def _page_of_changes_is_read(trial: Trial) -> None:
    trial.hold("read")
    await trial.ask("GET", "/v1/stores/notes/changes")
    await _until(lambda: trial.storage.waiting > 0)


async def _store_is_looked_at(trial: Trial) -> None:
    trial.hold("info", "summary")
    await trial.ask("GET", "/v1/stores/notes")
    await _until(lambda: trial.storage.waiting > 0)


async def _body_of_a_write_comes_slowly(trial: Trial) -> None:
    for number, side in enumerate("ab"):
        await trial.ask("PUT", f"/v1/stores/notes/records/k%2F{side}%2Fown{number}", b'"own"', is_held=True)
    body = b'{"ops":[{"op":"ADD","key":"k/b/own9","value":"own"}]}'
    await trial.ask("POST", "/v1/stores/notes/writes", body, is_held=True)
    assert not any(asked.is_over for asked in trial.asked)


async def _writes_by_http(trial: Trial) -> None:
    def write(number: int) -> None:
        if number <= 40:
            path = f"/v1/stores/notes/records/k%2F{'ab'[number % 2]}%2Fown{number}"
            late.append(trial.world.ask("PUT", path, trial.subject.token, b'"own"'))

    late: list[Asked] = []
    trial.write_by(write)
    await turns(trial.chance.randrange(6))


PHASES: dict[str, Phase] = {
    phase.__name__.strip("_").replace("_", " "): phase
    for phase in (
        _subscription_opens,
        _subscription_reconciles,
        _subscription_has_live_set,
        _subscription_reads_cold,
        _subscription_is_live,
        _subscription_lags,
        _subscription_is_over_but_not_all_of_it_is_sent,
        _catch_up_stalls,
        _fetch_is_read,
        _fetch_waits_for_room,
        _outbox_is_flushed,
        _sse_opens,
        _sse_reads_cold,
        _sse_is_live,
        _sse_is_not_read,
        _ndjson_reads_cold,
        _ndjson_is_live,
        _records_are_streamed,
        _stream_of_records_opens,
        _long_poll_waits,
        _long_poll_opens,
        _record_is_read,
        _page_of_records_is_read,
        _page_of_changes_is_read,
        _store_is_looked_at,
        _body_of_a_write_comes_slowly,
        _writes_by_http,
    )
}

#: In these the store must not be followed by anybody before.
UNFOLLOWED = {
    "subscription opens",
    "sse opens",
    "stream of records opens",
    "long poll opens",
    "store is looked at",
}

#: What waits for news has them at once if somebody writes.
QUIET = {"long poll waits"}
