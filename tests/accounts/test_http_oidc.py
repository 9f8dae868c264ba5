"""Login through a provider, by HTTP: the redirects, the cookies, and the account that belongs to an identity."""

from collections.abc import AsyncIterator, Iterator
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from syncline_server.accounts.oidc import OidcIdentity, OidcLogin, OidcSettings
from syncline_server.accounts.plans.users import UserChange
from syncline_server.http.accounts.oidc import name_for

from .desk import Desk, Person, Reply, desk
from .provider import CLIENT_ID, CLIENT_SECRET, LiveProvider


@pytest.fixture(scope="module")
def provider() -> Iterator[LiveProvider]:
    """A provider process that runs for all tests of this module."""
    provider = LiveProvider().start()
    provider.set_user("ada-id", {"name": "Ada", "preferred_username": "Ada.L"})
    yield provider
    provider.stop()


@pytest.fixture
async def server(provider: LiveProvider) -> AsyncIterator[Desk]:
    """A server whose users log in there."""
    oidc = OidcLogin(OidcSettings(provider.issuer, CLIENT_ID, CLIENT_SECRET))
    async with desk(oidc) as made:
        yield made
    await oidc.close()


def is_refused(answer: Reply) -> bool:
    """Return whether the browser is sent to where it says so, without a session."""
    cookies = answer.headers.get_list("set-cookie")
    has_session = any(text.startswith("syncline_session=") for text in cookies)
    return (answer.status, answer.headers.get("location"), has_session) == (302, "/#login-refused", False)


async def log_in(person: Person, provider: LiveProvider, subject: str = "ada-id", path: str = "/") -> Reply:
    """Go to the provider, log in, and come back."""
    begun = await person.get(f"oidc/login?next={path}")
    assert begun.status == 302
    assert {"HttpOnly", "SameSite=lax", "Path=/v1/oidc/callback"} <= set(begun.headers["set-cookie"].split("; "))
    state, code = provider.log_in(begun.headers["location"], subject)
    return await person.get(f"oidc/callback?state={state}&code={code}&session_state=x&iss=y")


async def test_who_comes_for_the_first_time_gets_an_account_and_the_next_time_the_same(
    server: Desk, provider: LiveProvider
) -> None:
    for _ in range(2):
        person = server.person()
        answer = await log_in(person, provider, path="/%23stores")
        assert (answer.status, answer.headers["location"]) == (302, "/#stores")
        cookies = answer.headers.get_list("set-cookie")
        assert any(text.startswith("syncline_session=") and "SameSite=strict" in text for text in cookies)
        me = (await person.get("me")).ok()
        assert (me["user"], me["kind"], me["admin"], me["oidc"]) == ("ada.l", "user", False, True)
    assert list(server.accounts.directory.registry.users) == ["ada.l"]
    assert server.accounts.directory.registry.users["ada.l"].title == "Ada"
    assert await server.audit() == [
        ("user.add", "ada.l", "ada.l", "ok"),
        ("login.ok", "ada.l", "ada.l", "ok"),
        ("login.ok", "ada.l", "ada.l", "ok"),
    ]


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_name_that_somebody_has_or_had_is_given_with_a_mark(
    server: Desk, provider: LiveProvider, is_deleted: bool
) -> None:
    await server.accounts.directory.add_user("ada.l", password_hash="h")
    if is_deleted:
        await server.accounts.directory.delete_user("ada.l")
    person = server.person()
    assert (await log_in(person, provider)).status == 302
    assert (await person.get("me")).ok()["user"].startswith("ada.l-")


async def test_who_is_disabled_does_not_get_in(server: Desk, provider: LiveProvider) -> None:
    await log_in(server.person(), provider)
    await server.accounts.directory.change_user("ada.l", UserChange(is_disabled=True))
    assert is_refused(await log_in(server.person(), provider))
    assert (await server.audit())[-1] == ("login.failed", None, None, "refused")


async def test_a_login_of_another_browser_or_of_nobody_is_refused(server: Desk, provider: LiveProvider) -> None:
    begun = await server.person().get("oidc/login")
    state, code = provider.log_in(begun.headers["location"], "ada-id")
    assert is_refused(await server.person().get(f"oidc/callback?state={state}&code={code}"))
    assert is_refused(await server.person().get("oidc/callback?error=access_denied"))
    # Anybody could fill the log so.
    assert await server.audit() == []
    assert not server.accounts.directory.registry.users


async def test_what_the_provider_refuses_is_written_down_with_its_error_once(
    server: Desk, provider: LiveProvider
) -> None:
    person = server.person()
    begun = await person.get("oidc/login?next=/app")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    path = f"oidc/callback?state={state}&error=access_denied%0A{'x' * 500}&error_description=no"
    assert is_refused(await person.get(path))
    assert is_refused(await person.get(path))
    assert await server.audit() == [("login.failed", None, None, "refused")]
    entry = msgspec.json.decode((await server.accounts.audit.entries())[0])
    reason = entry["detail"]["reason"]
    assert reason.startswith("the provider refused the login: access_deniedx")
    assert len(reason) < 100


async def test_the_way_on_stays_on_this_server(server: Desk) -> None:
    (await server.person().get("oidc/login?next=https://evil.example")).refused(400, "bad_message")
    (await server.person().get("oidc/login?next=//evil.example")).refused(400, "bad_message")


async def test_a_provider_that_is_away_is_told_apart() -> None:
    oidc = OidcLogin(OidcSettings("http://127.0.0.1:1", CLIENT_ID, CLIENT_SECRET))
    async with desk(oidc) as server:
        (await server.person().get("oidc/login")).refused(503, "overloaded")
    await oidc.close()


async def test_a_server_without_a_provider_has_no_such_login() -> None:
    async with desk() as server:
        (await server.person().get("oidc/login")).refused(404, "not_found")
        (await server.person().get("oidc/callback?state=x&code=y")).refused(404, "not_found")


@pytest.mark.parametrize(
    ("username", "email", "stem"),
    [
        ("Ada", None, "ada"),
        (None, "Ada.Lovelace@example.com", "ada.lovelace"),
        (None, None, "user"),
        ("Äda Ö", None, "da"),
        ("漢字", None, "user"),
        ("..//..", None, "user"),
        ("a" * 200, None, "a" * 48),
        ("jwt:ada", None, "jwt-ada"),
    ],
)
def test_names_are_made_from_what_the_provider_says(username: str | None, email: str | None, stem: str) -> None:
    names = name_for(OidcIdentity("https://issuer", "sub", None, username, email, frozenset(), "/"))
    assert names[0] == stem
    assert names[1].startswith(stem + "-")
    assert len(names[1]) <= 64


async def test_one_address_begins_only_so_many_logins_and_so_pushes_nobody_else_out(server: Desk) -> None:
    flood = [await server.person(address="203.0.113.7").get("oidc/login") for _ in range(31)]
    assert [answer.status for answer in flood] == [302] * 30 + [429]
    assert (await server.person(address="203.0.113.8").get("oidc/login")).status == 302
