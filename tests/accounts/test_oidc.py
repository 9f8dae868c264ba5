"""Login by OpenID Connect: end to end against a real provider process, and against one that lies."""

import base64
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from syncline_server.accounts.oidc import (
    OidcIdentity,
    OidcLogin,
    OidcRefused,
    OidcRequest,
    OidcSettings,
    ProviderUnavailable,
)
from syncline_server.accounts.oidc_pending import LIFETIME_S, PENDING_MAX
from tests.accounts.issuer import NOW_S, Clock, Issuer, ed_key
from tests.accounts.provider import CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, FakeProvider, LiveProvider


@pytest.fixture(scope="module")
def live() -> Iterator[LiveProvider]:
    """A provider process that runs for all tests of this module."""
    provider = LiveProvider().start()
    provider.set_user(
        "alice-id",
        {"name": "Alice", "preferred_username": "alice", "email": "a@example.com", "email_verified": True}
        | {"groups": ["staff", "dev"]},
    )
    yield provider
    provider.stop()


def login_at(provider: LiveProvider) -> OidcLogin:
    """Return the login of a server that uses this provider."""
    return OidcLogin(OidcSettings(provider.issuer, CLIENT_ID, CLIENT_SECRET))


# --- a real provider ---


async def test_a_user_logs_in_at_a_real_provider(live: LiveProvider) -> None:
    login = login_at(live)
    request = await login.begin(REDIRECT_URI, "/stores/quakes?tab=log#end")
    state, code = live.log_in(request.url, "alice-id")
    assert state == request.state
    assert await login.finish(state, code, request.browser_binding) == OidcIdentity(
        issuer=live.issuer,
        subject="alice-id",
        name="Alice",
        username="alice",
        email="a@example.com",
        groups=frozenset({"staff", "dev"}),
        next_path="/stores/quakes?tab=log#end",
    )
    await login.close()


async def test_a_user_of_whom_little_is_known_logs_in_without_an_unverified_address(live: LiveProvider) -> None:
    login = login_at(live)
    request = await login.begin(REDIRECT_URI)
    state, code = live.log_in(request.url, "bob@example.com")
    identity = await login.finish(state, code, request.browser_binding)
    assert (identity.subject, identity.email, identity.name, identity.groups) == (
        "bob@example.com",
        None,
        None,
        frozenset(),
    )
    assert identity.next_path == "/"


async def test_a_wrong_state_is_refused(live: LiveProvider) -> None:
    login = login_at(live)
    request = await login.begin(REDIRECT_URI)
    state, code = live.log_in(request.url, "alice-id")
    for wrong in ("", state + "x", state[:-1], "é"):
        with pytest.raises(OidcRefused, match="no login with this state"):
            await login.finish(wrong, code, request.browser_binding)
    assert await login.finish(state, code, request.browser_binding)


async def test_a_state_is_used_once(live: LiveProvider) -> None:
    login = login_at(live)
    request = await login.begin(REDIRECT_URI)
    state, code = live.log_in(request.url, "alice-id")
    assert await login.finish(state, code, request.browser_binding)
    with pytest.raises(OidcRefused, match="no login with this state"):
        await login.finish(state, code, request.browser_binding)


async def test_a_code_that_was_used_is_refused_by_the_provider(live: LiveProvider) -> None:
    login = login_at(live)
    first, second = await login.begin(REDIRECT_URI), await login.begin(REDIRECT_URI)
    state, code = live.log_in(first.url, "alice-id")
    assert await login.finish(state, code, first.browser_binding)
    other_state, _ = live.log_in(second.url, "alice-id")
    with pytest.raises(OidcRefused, match="invalid_grant"):
        await login.finish(other_state, code, second.browser_binding)


async def test_a_code_of_another_login_is_refused_by_its_nonce(live: LiveProvider) -> None:
    login = login_at(live)
    victim, attacker = await login.begin(REDIRECT_URI), await login.begin(REDIRECT_URI)
    _, stolen = live.log_in(victim.url, "alice-id")
    state, _ = live.log_in(attacker.url, "mallory")
    with pytest.raises(OidcRefused, match="nonce"):
        await login.finish(state, stolen, attacker.browser_binding)


async def test_a_login_does_not_end_in_another_browser(live: LiveProvider) -> None:
    login = login_at(live)
    other = await login.begin(REDIRECT_URI)
    for binding in ("", other.browser_binding, "é", "\ud800"):
        request = await login.begin(REDIRECT_URI)
        state, code = live.log_in(request.url, "mallory")
        with pytest.raises(OidcRefused, match="another browser"):
            await login.finish(state, code, binding)
        with pytest.raises(OidcRefused, match="no login with this state"):
            await login.finish(state, code, request.browser_binding)


async def test_a_code_that_nobody_issued_is_refused_by_the_provider(live: LiveProvider) -> None:
    login = login_at(live)
    request = await login.begin(REDIRECT_URI)
    with pytest.raises(OidcRefused, match="invalid_grant"):
        await login.finish(request.state, "made up", request.browser_binding)


async def test_a_provider_that_is_down_is_told_apart() -> None:
    provider = LiveProvider()
    login = login_at(provider)
    with pytest.raises(ProviderUnavailable, match="openid-configuration"):
        await login.begin(REDIRECT_URI)
    provider.start()
    try:
        login = login_at(provider)
        request = await login.begin(REDIRECT_URI)
        state, code = provider.log_in(request.url, "alice-id")
    finally:
        provider.stop()
    with pytest.raises(ProviderUnavailable, match="token"):
        await login.finish(state, code, request.browser_binding)


# --- a provider that can be bent ---


class Bent:
    """A login at a provider that lies."""

    def __init__(self, secret: str | None = CLIENT_SECRET, **settings: object) -> None:
        self.provider = FakeProvider()
        self.clock = Clock()
        values = OidcSettings(self.provider.issuer, CLIENT_ID, secret, **settings)  # type: ignore[arg-type]
        self.login = OidcLogin(values, now=self.clock, transport=self.provider.transport)

    async def begin(self) -> OidcRequest:
        """Begin a login."""
        return await self.login.begin(REDIRECT_URI, "/")

    async def run(self) -> OidcIdentity:
        """Log in from begin to end."""
        request = await self.begin()
        state, code = self.provider.log_in(request.url)
        return await self.login.finish(state, code, request.browser_binding)


async def test_the_url_asks_for_a_code_and_proves_nothing_by_itself() -> None:
    bent = Bent()
    request = await bent.begin()
    query = parse_qs(urlsplit(request.url).query)
    assert set(query) == {
        *("response_type", "client_id", "redirect_uri", "scope", "state"),
        *("nonce", "code_challenge", "code_challenge_method"),
    }
    assert query["scope"] == ["openid profile email"]
    assert query["redirect_uri"] == [REDIRECT_URI]
    assert request.browser_binding not in request.url
    assert CLIENT_SECRET not in request.url
    assert request.browser_binding not in repr(request)
    assert CLIENT_SECRET not in repr(bent.login.settings)


async def test_every_login_has_its_own_secrets() -> None:
    bent = Bent()
    urls = [urlsplit((await bent.begin()).url).query for _ in range(5)]
    for name in ("state", "nonce", "code_challenge"):
        assert len({parse_qs(url)[name][0] for url in urls}) == 5


async def test_a_provider_that_checks_pkce_is_satisfied() -> None:
    bent = Bent()
    assert (await bent.run()).subject == "alice"
    assert bent.provider.authentication == "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
    assert "/userinfo" not in bent.provider.asked


@pytest.mark.parametrize("supported", [["client_secret_post"], ["private_key_jwt", "client_secret_post"]])
async def test_the_secret_is_shown_in_the_way_that_the_provider_supports(supported: list[str]) -> None:
    bent = Bent()
    bent.provider.document = {"token_endpoint_auth_methods_supported": supported}
    assert await bent.run()
    assert bent.provider.authentication is None


async def test_a_public_client_shows_no_secret() -> None:
    bent = Bent(None)
    assert await bent.run()
    assert bent.provider.authentication is None


async def test_what_is_not_in_the_id_token_is_asked_for() -> None:
    bent = Bent()
    bent.provider.user = {"sub": "alice"}
    bent.provider.told = {"sub": "alice", "name": "Alice", "groups": ["staff"], "iss": "https://evil.example"}
    identity = await bent.run()
    assert (identity.name, identity.groups, identity.issuer) == ("Alice", frozenset({"staff"}), bent.provider.issuer)
    assert "/userinfo" in bent.provider.asked
    bent.provider.user = {"sub": "alice", "groups": ["staff"]}
    bent.provider.told = {"sub": "alice", "name": "Alice", "groups": ["admin"]}
    assert (await bent.run()).groups == frozenset({"staff"}), "what is signed comes before what is told"
    bent.provider.told = {"sub": "bob", "name": "Bob"}
    with pytest.raises(OidcRefused, match="another user"):
        await bent.run()


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": "of another login"},
        {"nonce": ""},
        {"nonce": None},
        {"aud": "another-client"},
        {"aud": [CLIENT_ID, "another-client"], "azp": "another-client"},
        {"azp": "another-client"},
        {"iss": "https://evil.example"},
        {"at_hash": "of another token"},
        {"at_hash": 7},
        {"exp": NOW_S - 60},
        {"iat": NOW_S + 60},
        {"sub": ""},
        {"sub": None},
        {"sub": "a\nb"},
        {"groups": [7]},
    ],
    ids=str,
)
async def test_an_id_token_for_something_else_is_refused(changed: dict[str, object]) -> None:
    bent = Bent()
    bent.provider.changed = changed
    with pytest.raises(OidcRefused) as refused:
        await bent.run()
    assert not isinstance(refused.value, ProviderUnavailable)


@pytest.mark.parametrize("claim", ["nonce", "iss", "aud", "exp", "iat", "sub"])
async def test_an_id_token_that_leaves_something_open_is_refused(claim: str) -> None:
    bent = Bent()
    bent.provider.without = claim
    with pytest.raises(OidcRefused, match=claim):
        await bent.run()


async def test_an_id_token_that_somebody_else_signed_is_refused() -> None:
    bent = Bent()
    assert await bent.run()
    bent.provider.keys = Issuer(ed_key())
    with pytest.raises(OidcRefused, match="signature"):
        await bent.run()


async def test_an_algorithm_that_was_not_configured_is_refused() -> None:
    bent = Bent(algorithms=("RS256",))
    with pytest.raises(OidcRefused, match="algorithm"):
        await bent.run()


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example"},
        {"issuer": "https://provider.example/"},
        {"token_endpoint": "http://provider.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"userinfo_endpoint": "http://169.254.169.254/latest"},
        {"jwks_uri": None},
        {"token_endpoint": 7},
    ],
    ids=str,
)
async def test_a_discovery_document_that_leads_elsewhere_is_not_followed(document: dict[str, object]) -> None:
    bent = Bent()
    bent.provider.document = document
    with pytest.raises(ProviderUnavailable, match="openid-configuration"):
        await bent.begin()
    assert bent.provider.asked == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx2.Response(200, json={"access_token": "a", "token_type": "Bearer"}), OidcRefused),
        (httpx2.Response(200, json={"id_token": 7}), OidcRefused),
        (httpx2.Response(200, json=[]), OidcRefused),
        (httpx2.Response(200, text="<html>"), OidcRefused),
        (httpx2.Response(400, json={"error": "invalid_client"}), OidcRefused),
        (httpx2.Response(302, headers={"Location": "https://evil.example"}), ProviderUnavailable),
        (httpx2.Response(429, text="later"), ProviderUnavailable),
        (httpx2.Response(503, text="down"), ProviderUnavailable),
        (httpx2.Response(200, content=b"x" * 300_000), ProviderUnavailable),
    ],
)
async def test_an_answer_without_tokens_is_a_named_error(answer: httpx2.Response, kind: type[OidcRefused]) -> None:
    bent = Bent()
    bent.provider.answers = {"/token": answer}
    with pytest.raises(OidcRefused) as refused:
        await bent.run()
    assert type(refused.value) is kind
    assert set(bent.provider.asked) == {"/.well-known/openid-configuration", "/token"}


@pytest.mark.parametrize("path", ["/jwks", "/userinfo"])
async def test_keys_or_userinfo_that_cannot_be_had_are_a_named_error(path: str) -> None:
    bent = Bent()
    bent.provider.user = {"sub": "alice"}
    bent.provider.answers = {path: httpx2.Response(500)}
    with pytest.raises(ProviderUnavailable, match=path):
        await bent.run()


async def test_an_empty_or_endless_code_is_not_shown_to_the_provider() -> None:
    bent = Bent()
    for code in ("", "x" * 5000):
        request = await bent.begin()
        with pytest.raises(OidcRefused, match="code"):
            await bent.login.finish(request.state, code, request.browser_binding)
    assert "/token" not in bent.provider.asked


# --- logins that are under way ---


async def test_a_login_is_forgotten_after_ten_minutes() -> None:
    bent = Bent()
    for age_s, is_known in ((LIFETIME_S - 1, True), (LIFETIME_S, False)):
        bent.provider.changed = {"iat": bent.clock.now_s + age_s, "exp": bent.clock.now_s + age_s + 60}
        request = await bent.begin()
        state, code = bent.provider.log_in(request.url)
        bent.clock.now_s += age_s
        if is_known:
            assert await bent.login.finish(state, code, request.browser_binding)
        else:
            with pytest.raises(OidcRefused, match="no login with this state"):
                await bent.login.finish(state, code, request.browser_binding)


async def test_logins_under_way_have_a_bound_and_the_oldest_makes_room() -> None:
    bent = Bent()
    requests = [await bent.begin() for _ in range(PENDING_MAX + 1)]
    assert len(bent.login._pending) == PENDING_MAX
    with pytest.raises(OidcRefused, match="no login with this state"):
        await bent.login.finish(requests[0].state, "code", requests[0].browser_binding)
    state, code = bent.provider.log_in(requests[1].url)
    assert await bent.login.finish(state, code, requests[1].browser_binding)
    bent.clock.now_s += LIFETIME_S
    await bent.begin()
    assert len(bent.login._pending) == 1


@pytest.mark.parametrize(
    "path",
    [
        "",
        "stores",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/a\\b",
        "https://evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/\n/evil.example",
        " /stores",
        "/stores\r\nSet-Cookie: a=b",
        "/" + "x" * 3000,
    ],
)
async def test_the_way_on_does_not_lead_to_another_server(path: str) -> None:
    bent = Bent()
    with pytest.raises(OidcRefused, match="not a path of this server"):
        await bent.login.begin(REDIRECT_URI, path)
    assert not bent.provider.asked


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "http://provider.example"},
        {"issuer": ""},
        {"client_id": ""},
        {"client_secret": ""},
        {"scopes": ("profile",)},
        {"algorithms": ("HS256",)},
        {"algorithms": ()},
    ],
    ids=str,
)
def test_settings_that_would_be_unsafe_are_refused(changed: dict[str, object]) -> None:
    values: dict[str, object] = {"issuer": FakeProvider.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    with pytest.raises(ValueError, match=r"."):
        OidcSettings(**(values | changed))  # type: ignore[arg-type]
