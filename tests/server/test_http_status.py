"""What the server says about itself, and what it answers while it cannot serve."""

from collections.abc import Sequence

import pytest

from syncline_protocol.transaction import Transaction
from syncline_server.http import call as call_module
from syncline_server.storage import open_storage
from syncline_server.storage.base import Appended, StorageFull, StorageUnavailable
from tests.support.http import HttpApp, StreamReader, http_app, record_path, until


async def test_the_server_tells_its_limits(app: HttpApp) -> None:
    server = (await app.get("/v1/server")).json
    assert server["server"].startswith("syncline/")
    assert server["protocol"] == "syncline.v1.json"
    assert server["storage"].startswith("memory")
    assert server["ready"] is True
    assert server["limits"]["frame_bytes_max"] == 1024 * 1024


async def test_health(app: HttpApp) -> None:
    assert (await app.get("/health/live")).json == {"live": True}
    assert (await app.get("/health/ready")).json == {"ready": True, "reasons": []}


async def test_metrics_count_requests_and_refusals(app: HttpApp) -> None:
    await app.put("k1")
    await app.put("k1")
    await app.put("k1", "2")
    metrics = await app.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    lines = metrics.content.decode().splitlines()
    assert 'syncline_http_requests_total{status="409"} 1.0' in lines
    assert 'syncline_errors_sent_total{code="write_refused"} 1.0' in lines
    assert 'syncline_writes_total{status="ok"} 1.0' in lines
    assert 'syncline_writes_total{status="dup"} 1.0' in lines
    assert 'syncline_writes_total{status="conflict"} 1.0' in lines
    assert "syncline_ready 1.0" in lines


async def test_a_route_that_is_not_there_and_a_method_that_it_does_not_have(app: HttpApp) -> None:
    for path in ("/v1", "/v2/stores", "/v1/stores/notes/nothing", "/health", "/v1/stores/notes/", "/console/none.js"):
        (await app.get(path)).refused(404, "not_found")
    answer = await app.ask("POST", "/v1/stores/notes", b"")
    answer.refused(405, "method_not_allowed")
    assert answer.headers["Allow"] == "DELETE, GET, HEAD, PUT"
    (await app.ask("OPTIONS", "/v1/stores")).refused(405, "method_not_allowed")


async def test_a_draining_server_refuses_requests_and_says_that_it_is_not_ready(app: HttpApp) -> None:
    await app.put("k1")
    await app.hub.drain(after_ms=0, jitter_ms=0, patience_s=1)
    ready = await app.get("/health/ready")
    assert (ready.status, ready.json["ready"]) == (503, False)
    assert ready.json["reasons"] == ["the server is shutting down"]
    assert (await app.get("/health/live")).status == 200
    assert (await app.get("/metrics")).status == 200
    assert (await app.get("/v1/server")).json["ready"] is False
    for answer in (await app.put("k2"), await app.get(record_path("notes", "k1")), await app.get("/v1/stores")):
        answer.refused(503, "drain")
        assert answer.headers["Connection"] == "close"
        assert int(answer.headers["Retry-After"]) >= 1


# --- the storage is away ---


async def test_while_the_storage_is_away_writes_are_to_be_repeated() -> None:
    storage = open_storage("memory:")
    append, opened = storage.append, storage.open
    away = True

    async def fail(transactions: Sequence[Transaction], now_ms: int) -> Appended:
        if away:
            raise StorageUnavailable("I/O error")
        return await append(transactions, now_ms)

    async def fail_to_open() -> None:
        if away:
            raise StorageUnavailable("I/O error")
        await opened()

    async with http_app(storage=storage) as app:
        storage.append = fail  # type: ignore[method-assign]
        storage.open = fail_to_open  # type: ignore[method-assign]
        for _ in range(2):
            answer = await app.put("k1")
            assert answer.refused(503, "storage_unavailable")["retry"] is True
            assert answer.headers["Retry-After"] == "1"
        ready = await app.get("/health/ready")
        assert (ready.status, ready.json["reasons"]) == (503, ["the storage is away"])
        away = False
        await until(lambda: app.hub.ready)
        assert (await app.put("k1")).status == 201


async def test_a_full_storage_is_told_from_one_that_is_away() -> None:
    storage = open_storage("memory:")

    async def refuse(transactions: Sequence[Transaction], now_ms: int) -> Appended:
        raise StorageFull("no room", hint="make some")

    async with http_app(storage=storage) as app:
        storage.append = refuse  # type: ignore[method-assign]
        answer = await app.put("k1")
        assert answer.refused(507, "storage_full")["hint"] == "make some"
        assert app.hub.ready


async def test_what_nobody_expected_is_told_without_its_inside() -> None:
    storage = open_storage("memory:")

    async def fail() -> None:
        raise ZeroDivisionError("secret")

    async with http_app(storage=storage) as app:
        storage.stores = fail  # type: ignore[assignment]
        answer = await app.get("/v1/stores")
        answer.refused(500, "internal")
        assert b"secret" not in answer.content


# --- clients that do not send what they promised ---


class SlowBody(StreamReader):
    """A client that sends half of a body."""

    async def _receive(self) -> dict[str, object]:
        if not self.begun:
            self.begun = True
            return {"type": "http.request", "body": b'{"x":', "more_body": True}
        return await super()._receive()

    begun = False


async def test_a_body_that_does_not_come_ends_in_a_refusal(app: HttpApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_module, "_BODY_TIMEOUT_S", 0.05)
    reader = SlowBody(app.app, record_path("notes", "k1"), {}, method="PUT")
    await reader.started()
    assert reader.status == 408
    assert reader.headers["connection"] == "close"
    assert b"body_timeout" in await reader.rest()
    await reader.leave()


async def test_a_client_that_goes_away_amid_its_body_leaves_nothing(app: HttpApp) -> None:
    reader = SlowBody(app.app, record_path("notes", "k1"), {}, method="PUT")
    await until(lambda: reader.begun)
    await reader.leave()
    (await app.get(record_path("notes", "k1"))).refused(404, "record_unknown")
    assert not app.hub.counts.errors_sent["internal"]
