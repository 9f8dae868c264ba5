"""The keys of an issuer: rotation, an issuer that is down, floods of unknown ids, and sets with odd keys in them."""

import asyncio
import json

import pytest
from joserfc.jwk import RSAKey

from syncline_server.accounts.cached import FRESH_S, PAUSE_S, STALE_S
from syncline_server.accounts.jwks import KeyRing, KeyUnknown, read_keys
from syncline_server.accounts.jwt import JwtSettings, JwtVerifier, KeysUnavailable, TokenRefused
from tests.accounts.issuer import AUDIENCE, ISSUER, JWKS_URL, Clock, Issuer, ec_key, ed_key, rsa_key


class Setting:
    """An issuer, a clock and a verifier of its tokens."""

    def __init__(self) -> None:
        self.issuer = Issuer(ec_key("first"))
        self.clock = Clock()
        settings = JwtSettings(ISSUER, AUDIENCE, ("ES256",), JWKS_URL)
        self.verifier = JwtVerifier(settings, now=self.clock, fetch=self.issuer.fetch)

    async def accepts(self, token: str) -> bool:
        """Say whether a token is accepted, and fail if the keys are not there."""
        try:
            await self.verifier.verify(token)
        except KeysUnavailable:
            raise
        except TokenRefused:
            return False
        return True

    def token(self, which: int = 0) -> str:
        """Return a token of one of the issuer's keys that does not expire in this test."""
        return self.issuer.sign({"exp": self.clock.now_s + 10 * STALE_S}, key=self.issuer.keys[which])


async def test_keys_are_asked_for_once_and_again_when_they_are_old() -> None:
    setting = Setting()
    for _ in range(3):
        assert await setting.accepts(setting.token())
    assert len(setting.issuer.asked) == 1
    setting.clock.now_s += FRESH_S - 1
    assert await setting.accepts(setting.token())
    assert len(setting.issuer.asked) == 1
    setting.clock.now_s += 1
    assert await setting.accepts(setting.token())
    assert len(setting.issuer.asked) == 2


async def test_a_new_key_is_found_by_its_unknown_id() -> None:
    setting = Setting()
    assert await setting.accepts(setting.token())
    setting.issuer.keys.append(ec_key("second"))
    setting.clock.now_s += PAUSE_S
    assert await setting.accepts(setting.token(1))
    assert len(setting.issuer.asked) == 2


async def test_a_key_that_was_taken_back_is_refused_when_the_set_is_old() -> None:
    setting = Setting()
    token = setting.token()
    assert await setting.accepts(token)
    setting.issuer.keys = [ec_key("second")]
    assert await setting.accepts(token)
    setting.clock.now_s += FRESH_S
    assert not await setting.accepts(token)


async def test_a_flood_of_unknown_ids_asks_once_in_a_pause() -> None:
    setting = Setting()
    assert await setting.accepts(setting.token())
    for second in range(60):
        setting.clock.now_s += 1
        for n in range(5):
            assert not await setting.accepts(setting.issuer.sign(header={"kid": f"{second}-{n}"}))
    assert len(setting.issuer.asked) == 1 + 60 // PAUSE_S


async def test_many_that_wait_share_one_request_and_one_that_leaves_does_not_end_it() -> None:
    setting = Setting()
    may_answer = asyncio.Event()

    async def slow(url: str) -> bytes:
        body = await setting.issuer.fetch(url)
        await may_answer.wait()
        return body

    verifier = JwtVerifier(setting.verifier.settings, now=setting.clock, fetch=slow)
    waiting = [asyncio.create_task(verifier.verify(setting.token())) for _ in range(20)]
    while not setting.issuer.asked:
        await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    may_answer.set()
    assert len(await asyncio.gather(*waiting[1:])) == 19
    assert len(setting.issuer.asked) == 1


async def test_closing_ends_a_request_that_is_under_way() -> None:
    asked = asyncio.Event()

    async def never(url: str) -> bytes:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    setting = Setting()
    verifier = JwtVerifier(setting.verifier.settings, now=setting.clock, fetch=never)
    waiting = asyncio.create_task(verifier.verify(setting.token()))
    await asked.wait()
    await verifier.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_keys_that_cannot_be_had_at_the_start_are_asked_for_again_after_the_pause() -> None:
    setting = Setting()
    setting.issuer.is_down = True
    for _ in range(3):
        with pytest.raises(KeysUnavailable, match="it is down"):
            await setting.verifier.verify(setting.token())
    assert len(setting.issuer.asked) == 1
    setting.issuer.is_down = False
    setting.clock.now_s += PAUSE_S
    assert await setting.accepts(setting.token())


async def test_old_keys_go_on_for_a_day_while_the_issuer_is_down() -> None:
    setting = Setting()
    start_s = setting.clock.now_s
    assert await setting.accepts(setting.token())
    setting.issuer.is_down = True
    for age_s in (FRESH_S, STALE_S // 2, STALE_S - 1):
        setting.clock.now_s = start_s + age_s
        assert await setting.accepts(setting.token())
    setting.clock.now_s = start_s + STALE_S
    with pytest.raises(KeysUnavailable):
        await setting.verifier.verify(setting.token())
    setting.issuer.is_down = False
    setting.clock.now_s += PAUSE_S
    assert await setting.accepts(setting.token())


async def test_a_clock_that_is_set_back_does_not_freeze_the_keys() -> None:
    setting = Setting()
    assert await setting.accepts(setting.token())
    setting.clock.now_s -= 10_000
    setting.issuer.keys.append(ec_key("second"))
    token = setting.issuer.sign({"iat": setting.clock.now_s}, key=setting.issuer.keys[1])
    assert await setting.accepts(token)


async def test_of_two_keys_with_one_id_each_may_have_signed() -> None:
    setting = Setting()
    setting.issuer.keys = [ec_key("twin"), ec_key("twin"), rsa_key("twin")]
    assert await setting.accepts(setting.token(0))
    assert await setting.accepts(setting.token(1))
    assert not await setting.accepts(Issuer(ec_key("twin")).sign())


async def test_rings_of_two_issuers_do_not_share_keys() -> None:
    ours, theirs = Issuer(ec_key("same")), Issuer(ec_key("same"))
    rings = [KeyRing(JWKS_URL, Clock(), issuer.fetch) for issuer in (ours, theirs)]
    found = [await ring.find("same", "ES256") for ring in rings]
    assert found[0] != found[1]


def test_keys_that_cannot_be_used_are_left_out() -> None:
    good = ed_key("good").as_dict(private=False)
    with pytest.warns(UserWarning, match="2048"):
        weak = RSAKey.generate_key(1024, {"kid": "weak"}).as_dict(private=False)
    odd: list[dict[str, object]] = [
        {},
        {"kty": "LATTICE", "kid": "new"},
        {"kty": "oct", "kid": "secret", "k": "AAAA"},
        {"kty": "RSA", "kid": "no modulus", "e": "AQAB"},
        {"kty": "RSA", "kid": "number", "n": 5, "e": "AQAB"},
        {"kty": "RSA", "kid": "no base64", "n": "é" * 400, "e": "AQAB"},
        {"kty": "RSA", "kid": "huge", "n": "x" * 2000, "e": "AQAB"},
        {"kty": "EC", "kid": "off the curve", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        {"kty": "EC", "kid": "other curve", "crv": "P-0", "x": "AAAA", "y": "AAAA"},
        {**weak},
        {**ec_key("private").as_dict(private=True)},
        {**ec_key("encryption").as_dict(private=False), "use": "enc"},
        {**ec_key("odd id").as_dict(private=False), "kid": 7},
    ]
    keys = read_keys(json.dumps({"keys": [*odd, good]}).encode())
    assert [key.kid for key in keys] == ["good"]
    with pytest.raises(ValueError, match="no public key"):
        read_keys(json.dumps({"keys": odd}).encode())


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[1]}', b"\xff", b'{"keys":' + b"[" * 9000]
)
def test_what_is_no_key_set_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_keys(body)


def test_a_set_with_too_many_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 100"):
        read_keys(json.dumps({"keys": [{}] * 101}).encode())


async def test_a_key_that_may_not_verify_is_unknown() -> None:
    key = ec_key("sign only")
    body = json.dumps({"keys": [dict(key.as_dict(private=False)) | {"key_ops": ["sign"]}]}).encode()

    async def answer(url: str) -> bytes:
        return body

    with pytest.raises(KeyUnknown):
        await KeyRing(JWKS_URL, Clock(), answer).find("sign only", "ES256")
