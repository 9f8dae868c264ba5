"""Which web pages may use a server that nobody has to log in to."""

import pytest

from syncline_server.origin import host_allowed, origin_allowed, parse_origins
from syncline_server.settings import Settings, SettingsError
from tests.support.http import HttpApp, http_app, record_path


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "127.0.0.1:7171", True),
        (None, None, True),
        ("http://127.0.0.1:7171", "127.0.0.1:7171", True),
        ("HTTP://LocalHost:7171", "localhost:7171", True),
        ("http://example.com", "example.com:80", True),
        ("http://example.com:80", "example.com", True),
        ("https://example.com", "example.com", True),
        ("https://example.com", "example.com:443", True),
        ("http://[::1]:7171", "[::1]:7171", True),
        ("http://[::1]", "[::1]:80", True),
        ("http://127.0.0.1:7172", "127.0.0.1:7171", False),
        ("http://127.0.0.1", "127.0.0.1:7171", False),
        ("http://localhost:7171", "127.0.0.1:7171", False),
        ("http://evil.com", "127.0.0.1:7171", False),
        ("http://127.0.0.1:7171.evil.com", "127.0.0.1:7171", False),
        ("http://evil.com/127.0.0.1:7171", "127.0.0.1:7171", False),
        ("null", "127.0.0.1:7171", False),
        ("", "127.0.0.1:7171", False),
        ("http://", "", False),
        ("file://", "127.0.0.1:7171", False),
        ("chrome-extension://abcdef", "abcdef", False),
        ("http://a", None, False),
    ],
)
def test_a_page_may_use_the_server_that_it_came_from(origin: str | None, host: str | None, allowed: bool) -> None:
    assert origin_allowed(origin, host) is allowed


def test_further_origins_are_allowed_by_name() -> None:
    allowed = parse_origins("https://app.example.com, http://Other.example:8080/ ,")
    assert origin_allowed("https://app.example.com", "127.0.0.1:7171", allowed)
    assert origin_allowed("https://app.example.com:443", "127.0.0.1:7171", allowed)
    assert origin_allowed("http://other.example:8080", "127.0.0.1:7171", allowed)
    assert not origin_allowed("http://app.example.com", "127.0.0.1:7171", allowed)
    assert not origin_allowed("https://app.example.com.evil.com", "127.0.0.1:7171", allowed)


@pytest.mark.parametrize("text", ["example.com", "*", "https://*.example.com", "https://", "ftp://a", "https://a/b"])
def test_what_is_no_origin_stops_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match="origins"):
        Settings(origins=text)


@pytest.mark.parametrize(
    ("host", "address", "allowed"),
    [
        ("127.0.0.1:7171", "127.0.0.1", True),
        ("localhost:7171", "127.0.0.1", True),
        ("app.localhost", "127.0.0.1", True),
        ("LOCALHOST", "::1", True),
        ("[::1]:7171", "::1", True),
        ("192.168.1.5:7171", "127.0.0.1", True),
        (None, "127.0.0.1", True),
        ("evil.com", "127.0.0.1", False),
        ("evil.com:7171", "::1", False),
        ("localhost.evil.com", "127.0.0.1", False),
        ("127.0.0.1.evil.com:7171", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("example.com", "192.168.1.5", True),
        ("example.com", None, True),
    ],
)
def test_who_connects_to_loopback_names_loopback(host: str | None, address: str | None, allowed: bool) -> None:
    assert host_allowed(host, address) is allowed


def test_the_name_of_an_allowed_origin_is_a_name_of_the_server() -> None:
    allowed = parse_origins("https://app.example.com")
    assert host_allowed("app.example.com", "127.0.0.1", allowed)
    assert not host_allowed("example.com", "127.0.0.1", allowed)


async def test_a_page_of_another_origin_can_neither_write_nor_read(app: HttpApp) -> None:
    for origin in ("http://evil.com", "null", "http://localhost:7171"):
        headers = {"Origin": origin}
        (await app.ask("PUT", record_path("notes", "k1"), b"1", headers)).refused(403, "origin_refused")
        (await app.ask("GET", "/v1/stores", headers=headers)).refused(403, "origin_refused")
        (await app.ask("GET", "/", headers=headers)).refused(403, "origin_refused")
        preflight = {**headers, "Access-Control-Request-Method": "PUT"}
        (await app.ask("OPTIONS", record_path("notes", "k1"), headers=preflight)).refused(403, "origin_refused")
    assert (await app.get("/v1/stores/notes")).json["seq"] == 0
    own = {"Origin": "http://127.0.0.1:7171"}
    assert (await app.ask("PUT", record_path("notes", "k1"), b"1", own)).status == 201


async def test_a_name_that_was_made_to_point_to_loopback_is_refused(app: HttpApp) -> None:
    rebound = {"Host": "evil.com:7171", "Origin": "http://evil.com:7171"}
    (await app.ask("GET", "/v1/stores", headers=rebound)).refused(403, "origin_refused")
    (await app.ask("GET", "/v1/stores", headers={"Host": "evil.com"})).refused(403, "origin_refused")


async def test_an_allowed_page_of_another_origin_can_read_the_answers() -> None:
    settings = Settings(store="memory:", auth="none", origins="https://app.example.com")
    async with http_app(settings=settings) as app:
        headers = {"Origin": "https://app.example.com"}
        preflight = {**headers, "Access-Control-Request-Method": "PUT"}
        allowed = await app.ask("OPTIONS", record_path("notes", "k1"), headers=preflight)
        assert allowed.status == 204
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert "PUT" in allowed.headers["Access-Control-Allow-Methods"]
        added = await app.ask("PUT", record_path("notes", "k1"), b"1", headers)
        assert (added.status, added.headers["Access-Control-Allow-Origin"]) == (201, "https://app.example.com")
        refused = await app.ask("PUT", record_path("notes", "k1"), b"2", headers)
        assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (409, "https://app.example.com")
        assert "Origin" in refused.headers["Vary"]
        plain = await app.get("/v1/stores")
        assert "Access-Control-Allow-Origin" not in plain.headers
        assert "Origin" in plain.headers["Vary"]
        (await app.ask("GET", "/v1/stores", headers={"Origin": "https://evil.com"})).refused(403, "origin_refused")
