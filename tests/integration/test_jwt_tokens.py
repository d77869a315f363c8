"""JWTs against a real issuer: an HTTP server on loopback that publishes its keys."""

import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from control.clock import SystemClock
from control.config import Config
from control.errors import ConfigError, StoreUnavailable
from control.identity_settings import IdentitySection
from control.jwt_tokens import ASK_AGAIN_S, JwtVerifier
from control.listener import listening_socket, serving, url_of
from control.principals import Principal, Role
from tests.serving import Served, problem, served, with_database

ISSUER, AUDIENCE = "https://issuer.example", "drawbridge"


class MovableClock(SystemClock):
    """The machine's clock, and what a test adds to it."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.passed_s


@dataclass
class Issuer:
    """Signs tokens, and publishes the public keys of those in ``published``."""

    keys: dict[str, Any] = field(default_factory=dict)
    published: list[str] = field(default_factory=list)
    away: bool = False
    instead: str = ""
    """What it publishes in place of its keys."""

    asked: int = 0
    url: str = ""

    def add(self, kid: str, key: Any) -> None:
        self.keys[kid] = key
        self.published.append(kid)

    async def serve(self, _request: web.Request) -> web.Response:
        self.asked += 1
        if self.away:
            raise web.HTTPServiceUnavailable
        if self.instead:
            return web.Response(text=self.instead, content_type="application/json")
        described = []
        for kid in self.published:
            public = self.keys[kid].public_key()
            algorithm = jwt.algorithms.RSAAlgorithm if isinstance(public, rsa.RSAPublicKey) else (
                jwt.algorithms.ECAlgorithm
            )  # fmt: skip
            described.append({**json.loads(algorithm.to_jwk(public)), "kid": kid, "use": "sig"})
        return web.json_response({"keys": described})

    def token(self, kid: str = "one", algorithm: str = "RS256", **claims: Any) -> str:
        now = datetime.now(UTC)
        good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": now + timedelta(minutes=5)}
        said = {key: value for key, value in {**good, **claims}.items() if value is not None}
        return jwt.encode(said, self.keys[kid], algorithm, {"kid": kid})


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    found = Issuer()
    found.add("one", rsa.generate_private_key(65537, 2048))
    found.add("curve", ec.generate_private_key(ec.SECP256R1()))
    app = web.Application()
    app.router.add_get("/jwks", found.serve)
    listening = listening_socket("127.0.0.1", 0)
    found.url = f"{url_of(listening)}/jwks"
    async with serving(app, listening):
        yield found


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def verifier(issuer: Issuer, clock: MovableClock) -> JwtVerifier:
    section = IdentitySection(jwks_url=issuer.url, jwt_issuer=ISSUER, jwt_audience=AUDIENCE)
    return JwtVerifier(section, clock)


async def test_a_good_token_is_its_subjects(issuer: Issuer, verifier: JwtVerifier) -> None:
    for claims, role in (
        ({}, None),
        ({"role": "operator"}, Role.OPERATOR),
        ({"role": ["viewer", "administrator", "cook"]}, Role.ADMINISTRATOR),
        ({"role": "viewer"}, Role.VIEWER),
        ({"role": 7}, None),
        ({"role": ["Administrator", {"viewer": 1}, None]}, None),
    ):
        assert await verifier.identify(issuer.token(**claims)) == Principal("jwt:ada", role)
    curve = issuer.token("curve", "ES256")
    assert await verifier.identify(curve) == Principal("jwt:ada", None)
    assert issuer.asked == 1


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": datetime.now(UTC) - timedelta(minutes=2)},
        {"nbf": datetime.now(UTC) + timedelta(hours=1)},
        {"aud": "another service"},
        {"iss": "https://other.example"},
        *({name: None} for name in ("exp", "aud", "iss", "sub")),
        {"sub": "a\n[AUDIT] b"},
        {"sub": "s" * 200},
    ],
    ids=lambda claims: "-".join(f"{name}" for name in claims),
)
async def test_a_token_that_is_not_for_us_now_is_refused(
    issuer: Issuer, verifier: JwtVerifier, claims: dict[str, Any]
) -> None:
    assert await verifier.identify(issuer.token(**claims)) is None


def signed_with_hmac(token: str, secret: bytes) -> str:
    """The token, claiming to be signed with a shared secret: the issuer's public key."""
    head = jwt.utils.base64url_encode(b'{"alg":"HS256","typ":"JWT","kid":"one"}').decode()
    said = f"{head}.{token.split('.')[1]}"
    signature = hmac.digest(secret, said.encode(), "sha256")
    return f"{said}.{jwt.utils.base64url_encode(signature).decode()}"


async def test_a_forged_token_is_refused(issuer: Issuer, verifier: JwtVerifier) -> None:
    good = issuer.token()
    head, body, signature = good.split(".")
    unsigned = jwt.encode(jwt.decode(good, options={"verify_signature": False}), None, "none")
    public = issuer.keys["one"].public_key()
    pem = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    confused = signed_with_hmac(good, pem)
    issuer.keys["mine"] = rsa.generate_private_key(65537, 2048)
    stranger = jwt.encode({"sub": "ada"}, issuer.keys["mine"], "RS256", {"kid": "one"})
    for token in (
        f"{head}.{body}.{signature[:-4]}AAAA", unsigned, confused, stranger, "a.b.c", "..",
".".join([head, *issuer.token("curve", "ES256").split(".")[1:]]),
    ):  # fmt: skip
        assert await verifier.identify(token) is None


def with_header(issuer: Issuer, key: str = "one", kid: str = "", **header: Any) -> str:
    """A token that is signed with that key, says so or names another, and says more."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": 4_000_000_000}
    return jwt.encode(claims, issuer.keys[key], "RS256", {"kid": kid or key, **header})


async def test_nothing_in_a_token_makes_us_fetch_or_trust_a_key(
    issuer: Issuer, verifier: JwtVerifier
) -> None:
    assert await verifier.identify(issuer.token()) is not None
    mine = issuer.keys["mine"] = rsa.generate_private_key(65537, 2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(mine.public_key()))
    where = issuer.url.replace("/jwks", "/mine")
    for lure in ({"jwk": public}, {"jku": where}, {"x5u": where}, {"x5c": ["AAAA"]}):
        assert await verifier.identify(with_header(issuer, "mine", **lure)) is None
        assert await verifier.identify(with_header(issuer, "mine", "one", **lure)) is None
    assert issuer.asked == 1


def raw_token(header: str, body: str = "{}") -> str:
    parts = (jwt.utils.base64url_encode(part.encode()).decode() for part in (header, body))
    return ".".join((*parts, "AAAA"))


@pytest.mark.parametrize("header", [
    '{"alg":"none"}', '{"alg":"None","kid":"one"}', '{"alg":"nOnE","kid":"one"}', '{"alg":null}',
    '{"alg":["RS256"]}', '{"alg":"HS256","kid":"one"}', '{"alg":"hs256","kid":"one"}', "[]", "1",
    '{"alg":"RS256","kid":["one"]}', '{"alg":"RS256","kid":1}', '{"alg":"RS256","kid":null}',
    '{"alg":"RS256","kid":"../../etc/passwd"}', '{"alg":"ES256","kid":"one"}',
    '{"alg":"RS256","kid":"one","crit":["exp"]}', '{"alg":"RS256","kid":"one","b64":false}',
    "{" * 2_000, "[" * 6_000, '{"alg":"none","alg":"RS256","kid":"one"}',
])  # fmt: skip
async def test_a_header_that_should_not_be_is_refused(verifier: JwtVerifier, header: str) -> None:
    assert await verifier.identify(raw_token(header)) is None


async def test_a_header_that_must_be_understood_is_refused(
    issuer: Issuer, verifier: JwtVerifier
) -> None:
    assert await verifier.identify(with_header(issuer)) is not None
    assert await verifier.identify(with_header(issuer, crit=["bounds"], bounds="x")) is None
    assert await verifier.identify(with_header(issuer, alg="PS256")) is None


@pytest.mark.parametrize("claims", [
    {"exp": "tomorrow"}, {"exp": -1}, {"exp": True}, {"aud": []}, {"aud": [7]},
    {"aud": AUDIENCE + " "}, {"iss": ISSUER + "/"}, {"sub": 7}, {"sub": {"a": 1}}, {"sub": ""},
    {"sub": "a\nb"}, {"sub": "x" * 256},
    {"nbf": "x"}, {"iat": 10**11}, {"exp": float("inf")}, {"nbf": float("inf")},
], ids=str)  # fmt: skip
async def test_claims_of_wrong_types_are_refused(
    issuer: Issuer, verifier: JwtVerifier, claims: dict[str, Any]
) -> None:
    assert await verifier.identify(issuer.token(**claims)) is None


async def test_new_keys_are_found_but_unknown_ones_cannot_make_us_ask_for_ever(
    issuer: Issuer, verifier: JwtVerifier, clock: MovableClock
) -> None:
    assert await verifier.identify(issuer.token()) is not None
    issuer.add("two", rsa.generate_private_key(65537, 2048))
    clock.passed_s += ASK_AGAIN_S + 1
    assert await verifier.identify(issuer.token("two")) is not None
    assert issuer.asked == 2
    issuer.keys["three"] = issuer.keys["two"]
    for _ in range(20):
        assert await verifier.identify(issuer.token("three")) is None
    assert issuer.asked == 2


async def test_an_issuer_that_is_away_locks_nobody_out(
    issuer: Issuer, verifier: JwtVerifier, clock: MovableClock
) -> None:
    issuer.away = True
    with pytest.raises(StoreUnavailable, match="identity provider"):
        await verifier.identify(issuer.token())
    issuer.away = False
    clock.passed_s += 10
    assert await verifier.identify(issuer.token()) is not None
    issuer.away = True
    clock.passed_s += 3600
    assert await verifier.identify(issuer.token()) is not None


@pytest.mark.parametrize("instead", [
    "[]", "7", "null", '"keys"', '{"keys": {}}', '{"keys": "one"}', '{"keys": 1}', "{}",
    '{"keys": [1, [], {"kty": "oct"}, {"kty": "RSA", "alg": ["RS256"]}]}',
    "[" * 100_000, '{"keys": ' + "[" * 100_000,
], ids=lambda text: text[:24])  # fmt: skip
async def test_what_is_no_key_set_is_as_if_the_issuer_were_away(
    issuer: Issuer, verifier: JwtVerifier, clock: MovableClock, instead: str
) -> None:
    issuer.instead = instead
    with pytest.raises(StoreUnavailable, match="identity provider"):
        await verifier.identify(issuer.token())
    issuer.instead = ""
    clock.passed_s += 10
    assert await verifier.identify(issuer.token()) is not None
    issuer.instead = instead
    clock.passed_s += 3600
    assert await verifier.identify(issuer.token()) is not None
    assert issuer.asked == 3


async def test_one_key_that_cannot_be_used_spoils_no_other(
    issuer: Issuer, verifier: JwtVerifier
) -> None:
    public = issuer.keys["one"].public_key()
    good = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(public)), "kid": "one"}
    odd = [7, {"kty": "oct", "kid": "a"}, {"kty": "RSA", "n": 5, "kid": "b"}, {"kty": ["RSA"]}]
    issuer.instead = json.dumps({"keys": [*odd, good], "more": 1})
    assert await verifier.identify(issuer.token()) is not None


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_a_short_rsa_key_is_passed_over(issuer: Issuer, verifier: JwtVerifier) -> None:
    issuer.add("short", rsa.generate_private_key(65537, 1024))
    assert await verifier.identify(issuer.token("short")) is None
    assert await verifier.identify(issuer.token()) is not None


def test_without_issuer_and_audience_no_token_is_trusted(clock: MovableClock) -> None:
    with pytest.raises(ConfigError, match="DRAWBRIDGE_JWT_AUDIENCE"):
        JwtVerifier(IdentitySection(jwks_url="https://issuer.example/jwks"), clock)


async def test_the_api_knows_who_calls(issuer: Issuer, stores: Any, redis: Any) -> None:
    identity = IdentitySection(jwks_url=issuer.url, jwt_issuer=ISSUER, jwt_audience=AUDIENCE)
    config: Config = replace(stores.config, identity=identity)
    async with served(config, anonymous="none") as api:
        run_id = await api.put(submitted_by="jwt:ada")

        async def cancel(token: str | None) -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with api.http.delete(f"/jobs/{run_id}", headers=headers) as answer:
                if answer.status >= 400:
                    await problem(answer)
                return answer.status

        assert await cancel(None) == 401
        assert await cancel(issuer.token(aud="another")) == 401
        assert await cancel(issuer.token(sub="eve", role="viewer")) == 403
        assert await cancel(issuer.token()) == 403
        assert await cancel(issuer.token(role="viewer")) == 202


async def test_a_token_without_a_role_may_what_nobody_needs_one_for(
    issuer: Issuer, stores: Any, redis: Any, database_url: str
) -> None:
    identity = IdentitySection(jwks_url=issuer.url, jwt_issuer=ISSUER, jwt_audience=AUDIENCE)
    config = await with_database(stores.config, database_url)
    config = replace(config, identity=identity, health=replace(config.health, networks=()))
    headers = {"Authorization": f"Bearer {issuer.token(role='cook')}"}

    async def refused(api: Served, method: str, path: str) -> None:
        async with api.http.request(method, path, headers=headers) as answer:
            assert answer.status == 403
            assert "the token's role claim names none" in (await problem(answer))["detail"]

    async def answered(api: Served, path: str) -> Any:
        async with api.http.get(path, headers=headers) as answer:
            assert answer.status == 200
            return await answer.json()

    async with served(config) as api:
        for path in ("/control/flags", "/control/replicas", "/control/audit"):
            await refused(api, "GET", path)
        await refused(api, "POST", "/control/flags/app_maintenance/toggle")
        for path in ("/jobs", "/api/status", "/openapi.json"):
            await answered(api, path)
        assert "'error'" not in str(await answered(api, "/health/detailed"))
        run_id = await api.put(submitted_by="jwt:ada")
        async with api.http.delete(f"/jobs/{run_id}", headers=headers) as answer:
            assert answer.status == 202
    async with served(config, anonymous="none") as api:
        await refused(api, "GET", "/jobs")
