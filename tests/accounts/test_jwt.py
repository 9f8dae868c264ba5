"""JWTs: what an honest issuer signs is accepted, and every way to forge, bend or outlive a token is refused."""

import hashlib
import hmac
import json
import time
from pathlib import Path

import pytest
from joserfc import jws
from joserfc.jwk import Key, OctKey, RSAKey

from syncline_server.accounts.jwt import (
    TOKEN_BYTES_MAX,
    JwtIdentity,
    JwtSettings,
    JwtVerifier,
    KeysUnavailable,
    TokenExpired,
    TokenRefused,
)
from tests.accounts.issuer import (
    AUDIENCE,
    ISSUER,
    JWKS_URL,
    NOW_S,
    Clock,
    Issuer,
    ec_key,
    ed_key,
    encoded,
    rsa_key,
    unsigned,
)

ALL = ("RS256", "PS256", "ES256", "ES384", "Ed25519", "EdDSA")
DEEP = b'{"alg":"ES256","x":' + b"[" * 1200 + b"]" * 1200 + b"}"
CLAIMS: dict[str, object] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW_S + 600}


def settings_for(**changed: object) -> JwtSettings:
    """Return settings for the issuer, some of them changed."""
    values: dict[str, object] = {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ALL, "jwks": JWKS_URL}
    return JwtSettings(**(values | changed))  # type: ignore[arg-type]


def verifier_for(issuer: Issuer, *, clock: Clock | None = None, **changed: object) -> JwtVerifier:
    """Return a verifier that asks this issuer for keys."""
    return JwtVerifier(settings_for(**changed), now=clock or Clock(), fetch=issuer.fetch)


async def refusal(verifier: JwtVerifier, token: str) -> str:
    """Return why a token is refused, after a look that the text has nothing of it."""
    with pytest.raises(TokenRefused) as refused:
        await verifier.verify(token)
    text = str(refused.value)
    assert not any(part in text for part in [*token.split("."), "alice", "mallory"] if len(part) > 3)
    return text


# --- what is accepted ---


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS256", rsa_key()),
        ("PS256", rsa_key()),
        ("ES256", ec_key()),
        ("ES384", ec_key(curve="P-384")),
        ("Ed25519", ed_key()),
    ],
)
async def test_a_token_of_the_issuer_names_its_user_and_groups(algorithm: str, key: Key) -> None:
    issuer = Issuer(key)
    token = issuer.sign({"groups": ["staff", "dev"]}, algorithm=algorithm)
    identity = await verifier_for(issuer).verify(token)
    assert identity == JwtIdentity("alice", frozenset({"staff", "dev"}), (NOW_S + 600 + 30) * 1000)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # Of the signing; verifying must not warn.
async def test_the_older_name_of_ed25519_is_accepted() -> None:
    issuer = Issuer(ed_key())
    token = issuer.sign(algorithm="EdDSA")
    assert (await verifier_for(issuer).verify(token)).subject == "alice"


async def test_user_and_groups_may_stand_in_other_claims() -> None:
    issuer = Issuer(ec_key())
    token = issuer.sign({"email": "a@example.com", "https://example.com/roles": "staff"})
    verifier = verifier_for(issuer, user_claim="email", groups_claim="https://example.com/roles")
    identity = await verifier.verify(token)
    assert (identity.subject, identity.groups) == ("a@example.com", frozenset({"staff"}))


async def test_the_audience_may_be_one_of_several() -> None:
    issuer = Issuer(ec_key())
    assert await verifier_for(issuer).verify(issuer.sign({"aud": ["other", AUDIENCE]}))


async def test_header_fields_that_are_not_critical_are_ignored() -> None:
    issuer = Issuer(ec_key())
    other = ec_key("other")
    header: dict[str, object] = {"jku": "https://evil.example/jwks", "x5u": "https://evil.example/c", "typ": "at+jwt"}
    assert await verifier_for(issuer).verify(issuer.sign(header=header | {"jwk": other.as_dict(private=False)}))
    assert issuer.asked == [JWKS_URL]


async def test_a_token_without_key_id_is_accepted_if_one_key_fits() -> None:
    issuer = Issuer(ec_key(), rsa_key())
    assert await verifier_for(issuer).verify(issuer.sign(header={"kid": None}))
    issuer.keys.append(ec_key("another"))
    assert "no key" in await refusal(verifier_for(issuer), issuer.sign(header={"kid": None}))


# --- settings ---


@pytest.mark.parametrize("algorithms", [(), ("none",), ("HS256",), ("RS256", "HS512"), ("RS256", "nOnE"), ("RSA1_5",)])
def test_an_algorithm_without_a_key_pair_cannot_be_configured(algorithms: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="algorithms"):
        JwtSettings(ISSUER, AUDIENCE, algorithms, JWKS_URL)


@pytest.mark.parametrize("changed", [{"issuer": ""}, {"audience": ""}, {"jwks": ""}, {"leeway_s": -1}])
def test_settings_that_would_check_nothing_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        settings_for(**changed)


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/jwks",
        "file:///etc/passwd",
        "https://u:p@issuer.example/",
        "gopher://127.0.0.1/",
        "https://",
    ],
)
def test_keys_are_only_asked_for_over_https_or_on_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match=r"https|URL"):
        verifier_for(Issuer(ec_key()), jwks=url)


# --- forged signatures ---


@pytest.mark.parametrize("name", ["none", "NONE", "None", "nOnE", "HS256", "ES512", "", " ES256", "es256"])
async def test_an_algorithm_that_is_not_configured_is_refused(name: str) -> None:
    issuer = Issuer(ec_key())
    token = unsigned({"alg": name, "kid": "ec"}, CLAIMS)
    assert "algorithm" in await refusal(verifier_for(issuer), token)
    assert not issuer.asked


@pytest.mark.parametrize("name", [None, 5, ["ES256"], {"alg": "ES256"}])
async def test_an_algorithm_that_is_no_text_is_refused(name: object) -> None:
    await refusal(verifier_for(Issuer(ec_key())), unsigned({"alg": name, "kid": "ec"}, CLAIMS))


async def test_a_public_rsa_key_is_not_taken_for_the_secret_of_an_hmac() -> None:
    issuer = Issuer(rsa_key())
    for secret in (rsa_key().as_pem(private=False), issuer.jwks()):
        signed = f"{encoded({'alg': 'HS256', 'kid': 'rsa'})}.{encoded(CLAIMS)}"
        mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        assert "algorithm" in await refusal(verifier_for(issuer), f"{signed}.{encoded(mac)}")


async def test_a_key_of_another_type_or_curve_does_not_fit() -> None:
    ours, theirs = ec_key("shared"), rsa_key("shared")
    verifier = verifier_for(Issuer(ours))
    assert "fits" in await refusal(verifier, Issuer(theirs).sign(algorithm="RS256"))
    assert "fits" in await refusal(verifier, Issuer(ec_key("shared", "P-384")).sign(algorithm="ES384"))
    assert "fits" in await refusal(verifier, Issuer(ed_key("shared")).sign(algorithm="Ed25519"))


async def test_a_key_that_was_published_for_one_algorithm_is_not_used_for_another() -> None:
    key = RSAKey.import_key(rsa_key().as_dict(private=True) | {"alg": "PS256"})
    issuer = Issuer(key)
    assert await verifier_for(issuer).verify(issuer.sign(algorithm="PS256"))
    forged = Issuer(rsa_key()).sign(algorithm="RS256")
    assert "fits" in await refusal(verifier_for(issuer), forged)


async def test_a_signature_by_another_key_of_the_same_id_is_refused() -> None:
    issuer, mallory = Issuer(ec_key()), Issuer(ec_key())
    assert "signature" in await refusal(verifier_for(issuer), mallory.sign())
    embedded: dict[str, object] = {"jwk": mallory.keys[0].as_dict(private=False)}
    assert "signature" in await refusal(verifier_for(issuer), mallory.sign(header=embedded))


async def test_a_changed_payload_header_or_signature_is_refused() -> None:
    issuer = Issuer(ec_key())
    verifier = verifier_for(issuer)
    header, _, signature = issuer.sign().split(".")
    payload = encoded(CLAIMS | {"sub": "mallory"})
    assert "signature" in await refusal(verifier, f"{header}.{payload}.{signature}")
    other = encoded({"alg": "ES256", "kid": "ec", "typ": "JWT", "x": 1})
    assert "signature" in await refusal(verifier, f"{other}.{payload}.{signature}")
    for wrong in ("", "AA", encoded(bytes(64)), encoded(b"\xff" * 64)):
        assert "signature" in await refusal(verifier, f"{header}.{payload}.{wrong}")


@pytest.mark.parametrize("header", [{"crit": ["exp"], "exp": 1}, {"crit": ["b64"], "b64": False}, {"crit": "alg"}])
async def test_a_critical_header_is_understood_or_refused(header: dict[str, object]) -> None:
    issuer = Issuer(ec_key())
    fields = {"alg": "ES256", "kid": "ec"} | header
    await refusal(verifier_for(issuer), unsigned(fields, CLAIMS, bytes(64)))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "é.é.é",
        f"{encoded([1])}.{encoded(CLAIMS)}.AA",
        f"{encoded('alg')}.{encoded(CLAIMS)}.AA",
        f"{encoded(b'{')}.{encoded(CLAIMS)}.AA",
        f"{encoded(b'[' * 2500)}.{encoded(CLAIMS)}.AA",
        f"{encoded(DEEP)}.{encoded(CLAIMS)}.AA",
        f"{encoded({'alg': 'ES256'})}.%%%.AA",
        f"{encoded({'alg': 'ES256', 'kid': 7})}.{encoded(CLAIMS)}.AA",
    ],
    ids=range(13),
)
async def test_what_is_no_jwt_is_refused(token: str) -> None:
    await refusal(verifier_for(Issuer(ec_key())), token)


async def test_a_token_that_is_too_long_is_not_even_parsed() -> None:
    issuer = Issuer(ec_key())
    assert "longer" in await refusal(verifier_for(issuer), issuer.sign({"pad": "x" * TOKEN_BYTES_MAX}))
    assert not issuer.asked


@pytest.mark.parametrize("payload", [b"[1]", b"null", b"{", b'{"exp":NaN}', b"\xff", b'{"exp":1e999}', b"[" * 4000])
async def test_signed_claims_that_are_no_object_are_refused(payload: bytes) -> None:
    issuer = Issuer(ec_key())
    token = jws.serialize_compact({"alg": "ES256", "kid": "ec"}, payload, issuer.keys[0], ["ES256"])
    await refusal(verifier_for(issuer), token)


# --- claims ---


@pytest.mark.parametrize("claim", ["iss", "aud", "exp", "sub"])
async def test_a_required_claim_that_is_missing_is_refused(claim: str) -> None:
    issuer = Issuer(ec_key())
    assert claim in await refusal(verifier_for(issuer), issuer.sign(without=claim))


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://other.example"},
        {"iss": ISSUER + "/"},
        {"iss": [ISSUER]},
        {"iss": ""},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": []},
        {"aud": {AUDIENCE: 1}},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": None},
        {"exp": 10**15},
        {"exp": 10**400},
        {"nbf": NOW_S + 31},
        {"nbf": "now"},
        {"iat": NOW_S + 31},
        {"sub": ""},
        {"sub": 7},
        {"sub": ["alice"]},
        {"sub": "x" * 256},
        {"sub": "a\nb"},
        {"groups": 7},
        {"groups": {"a": 1}},
        {"groups": [7]},
        {"groups": [""]},
        {"groups": [f"g{n}" for n in range(501)]},
    ],
    ids=str,
)
async def test_a_wrong_claim_is_refused(changed: dict[str, object]) -> None:
    issuer = Issuer(ec_key())
    await refusal(verifier_for(issuer), issuer.sign(changed))


async def test_an_unverified_address_does_not_name_a_user() -> None:
    issuer = Issuer(ec_key())
    token = issuer.sign({"email": "a@example.com", "email_verified": False})
    assert "verified" in await refusal(verifier_for(issuer, user_claim="email"), token)


async def test_times_are_taken_with_the_leeway_and_not_a_second_more() -> None:
    issuer, clock = Issuer(ec_key()), Clock()
    verifier = verifier_for(issuer, clock=clock)
    token = issuer.sign({"exp": NOW_S + 100, "nbf": NOW_S, "iat": NOW_S - 60})
    for now_s in (NOW_S - 30, NOW_S, NOW_S + 100, NOW_S + 129):
        clock.now_s = now_s
        assert (await verifier.verify(token)).expires_ms == (NOW_S + 130) * 1000
    clock.now_s = NOW_S - 31
    assert "nbf" in await refusal(verifier, token)
    clock.now_s = NOW_S + 130
    with pytest.raises(TokenExpired):
        await verifier.verify(token)


# --- key ids ---


@pytest.mark.parametrize(
    "kid",
    ["/etc/passwd", "../../jwks", "https://evil.example/jwks", "file:///dev/zero", "' OR 1=1 --", "ec\x00", "", "EC"],
)
async def test_a_key_id_is_looked_up_and_never_followed(kid: str) -> None:
    issuer = Issuer(ec_key())
    assert "no key" in await refusal(verifier_for(issuer), issuer.sign(header={"kid": kid}))
    assert set(issuer.asked) == {JWKS_URL}


async def test_a_very_long_key_id_is_refused_without_asking() -> None:
    issuer = Issuer(ec_key())
    assert "key id" in await refusal(verifier_for(issuer), issuer.sign(header={"kid": "k" * 257}))
    assert "long" in await refusal(verifier_for(issuer), issuer.sign(header={"kid": "k" * 257}))
    assert not issuer.asked


# --- files and defaults ---


async def test_keys_may_come_from_a_file(tmp_path: Path) -> None:
    issuer, path = Issuer(ec_key()), tmp_path / "jwks.json"
    verifier = verifier_for(issuer, jwks=str(path))
    with pytest.raises(KeysUnavailable, match="No such file"):
        await verifier.verify(issuer.sign())
    path.write_bytes(issuer.jwks())
    assert await verifier_for(issuer, jwks=str(path)).verify(issuer.sign())
    path.write_bytes(b" " * 300_000)
    with pytest.raises(KeysUnavailable, match="more than"):
        await verifier_for(issuer, jwks=str(path)).verify(issuer.sign())
    assert not issuer.asked


async def test_without_a_clock_it_is_now(tmp_path: Path) -> None:
    issuer, path = Issuer(ec_key()), tmp_path / "jwks.json"
    path.write_bytes(issuer.jwks())
    verifier = JwtVerifier(JwtSettings(ISSUER, AUDIENCE, ("ES256",), str(path)))
    now_s = int(time.time())
    assert await verifier.verify(issuer.sign({"iat": now_s, "exp": now_s + 600}))
    with pytest.raises(TokenExpired):
        await verifier.verify(issuer.sign({"iat": now_s - 900, "exp": now_s - 600}))
    await verifier.close()


async def test_a_symmetric_key_in_the_set_is_left_out(tmp_path: Path) -> None:
    secret, path = OctKey.generate_key(256, {"kid": "oct"}), tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [secret.as_dict(private=True)]}))
    with pytest.raises(KeysUnavailable, match="no public key"):
        await verifier_for(Issuer(ec_key()), jwks=str(path)).verify(Issuer(ec_key()).sign())
