"""Whom tokens speak for; and tokens that mean harm."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import ManualClock
from gateway.credentials import read_key
from gateway.errors import INVALID_TOKEN, KEYS_UNAVAILABLE, ErrorKind, GatewayError
from gateway.settings import tokens as settings
from gateway.tokens.bearers import REMEMBERED_S, Bearer, Bearers, bearer_of
from gateway.tokens.check import TokenError, looks_like_token, unpack
from tests.fakes.issuer import AUDIENCE, NOW, Issuer, ec_key, issuer, part, public_jwk, rsa_key, signed


def one_of(idp: Issuer, **more: Any) -> settings.Issuer:
    return msgspec.convert(idp.settings(**more), settings.Issuer)


class Bench:
    def __init__(self, *issuers: settings.Issuer) -> None:
        self.clock = ManualClock(NOW)
        self.said: list[tuple[str, str]] = []
        self.bearers = Bearers(issuers, self.clock, lambda who, why: self.said.append((who, why)))

    async def refused(self, token: str, kind: ErrorKind = INVALID_TOKEN) -> str:
        """Why a token is refused."""
        with pytest.raises(GatewayError) as caught:
            await self.bearers.read(token)
        assert caught.value.kind is kind
        assert self.bearers.known(token) is None
        return caught.value.message


@pytest.fixture
async def bench(idp: Issuer) -> AsyncIterator[Bench]:
    made = Bench(one_of(idp, default_project="proj_a"))
    yield made
    await made.bearers.close()


async def test_a_good_token(idp: Issuer, bench: Bench) -> None:
    for kid in ("rsa-1", "ec-1"):
        token = idp.token(kid, email="Ada@Example.com", email_verified=True, name="Ada L")
        assert looks_like_token(token)
        assert bench.bearers.known(token) is None
        bearer = await bench.bearers.read(token)
        assert (bearer.issuer, bearer.subject, bearer.email, bearer.name) == (
            idp.url,
            "ada",
            "ada@example.com",
            "Ada L",
        )
        assert (bearer.project_id, bearer.roles, bearer.expires_at) == ("proj_a", (), NOW + 3630)
        assert bench.bearers.known(token) is bearer
        assert bearer.user_id.startswith("user-")
        assert len(bearer.user_id) == 29
    assert idp.asked == ["/jwks"]


async def test_several_audiences(idp: Issuer, bench: Bench) -> None:
    await bench.bearers.read(idp.token(aud=["other", AUDIENCE]))
    assert "audience" in await bench.refused(idp.token(aud=["other"]))
    assert "audience" in await bench.refused(idp.token(aud=None))
    assert "audience" in await bench.refused(idp.token(aud={AUDIENCE: 1}))
    two = Bench(one_of(idp, default_project="proj_a"), one_of(idp, audience="admin", default_project="proj_b"))
    assert (await two.bearers.read(idp.token(aud="admin"))).project_id == "proj_b"
    assert (await two.bearers.read(idp.token())).project_id == "proj_a"
    await two.bearers.close()


async def test_times(idp: Issuer, bench: Bench) -> None:
    assert "expired" in await bench.refused(idp.token(exp=NOW - 30))
    assert "expires" in await bench.refused(idp.token(exp=None))
    assert "not valid yet" in await bench.refused(idp.token(nbf=NOW + 31))
    assert "not valid yet" in await bench.refused(idp.token(iat=NOW + 31))
    times: list[Any] = ["soon", True, [], {}, float("1e300"), -1e15]
    for wrong in times:
        assert "no time" in await bench.refused(idp.token(exp=wrong))
        assert "no time" in await bench.refused(idp.token(nbf=wrong))
    assert "cannot be read" in await bench.refused(idp.token(exp=float("inf")))
    await bench.bearers.read(idp.token(exp=NOW - 29, nbf=NOW + 30, iat=NOW + 30))
    await bench.bearers.read(idp.token(exp=NOW + 10.5, iat=None))


async def test_it_is_remembered_until_it_expires_and_for_minutes_at_most(idp: Issuer, bench: Bench) -> None:
    short, long = idp.token(exp=NOW + 10), idp.token()
    await bench.bearers.read(short)
    bearer = await bench.bearers.read(long)
    bench.clock.advance(39)
    assert bench.bearers.known(short) is not None
    bench.clock.advance(1)
    assert bench.bearers.known(short) is None
    assert "expired" in await bench.refused(short)
    assert bench.bearers.known(long) is bearer
    bench.clock.advance(REMEMBERED_S - 40)
    assert bench.bearers.known(long) is None
    assert await bench.bearers.read(long) == bearer


async def test_a_key_that_is_withdrawn(idp: Issuer, bench: Bench) -> None:
    token = idp.token()
    await bench.bearers.read(token)
    idp.keys = {"rsa-2": rsa_key()}
    bench.clock.advance(901)
    assert "no such key" in await bench.refused(token)
    await bench.bearers.read(idp.token("rsa-2"))


async def test_nobody_can_tell(idp: Issuer, bench: Bench) -> None:
    idp.does = "fail"
    await bench.refused(idp.token(), KEYS_UNAVAILABLE)
    assert bench.said == [(idp.url, "the answer is 500")]


# Tokens that mean harm


async def test_algorithms_that_are_none(idp: Issuer, bench: Bench) -> None:
    claims = {"iss": idp.url, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 60}
    for algorithm in ("none", "None", "NONE", "", None, 5, ["RS256"], "HS256", "RS384", "rs256"):
        for signature in ("", part(b"x" * 256)):
            token = f"{part({'alg': algorithm, 'kid': 'rsa-1'})}.{part(claims)}.{signature}"
            assert "algorithm" in await bench.refused(token)
    assert "algorithm" in await bench.refused(f"{part({'typ': 'JWT'})}.{part(claims)}.")
    assert not idp.asked, "nobody was asked for keys"


async def test_the_public_key_as_a_secret(idp: Issuer, bench: Bench) -> None:
    public = idp.keys["rsa-1"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    header, claims = {"alg": "HS256", "kid": "rsa-1"}, {"iss": idp.url, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 60}
    for secret in (pem, pem.strip(), json.dumps(idp.jwks()["keys"][0]).encode()):
        text = f"{part(header)}.{part(claims)}"
        signature = part(hmac.digest(secret, text.encode(), "sha256"))
        assert "algorithm" in await bench.refused(f"{text}.{signature}")


async def test_signatures_of_others(idp: Issuer, bench: Bench) -> None:
    assert "signature" in await bench.refused(idp.token(key=rsa_key()))
    assert "no such key" in await bench.refused(idp.token("ec-1", key=rsa_key())), "an RSA signature for an EC key"
    good = idp.token()
    head, claims, signature = good.split(".")
    other = part({**json.loads(base64.urlsafe_b64decode(claims + "==")), "sub": "root"})
    assert "signature" in await bench.refused(f"{head}.{other}.{signature}")
    assert "signature" in await bench.refused(f"{head}.{claims}.")
    assert "signature" in await bench.refused(f"{head}.{claims}.{signature[:-4]}")
    flipped = signature[:-1] + ("B" if signature[-1] != "B" else "C")
    assert "signature" in await bench.refused(f"{head}.{claims}.{flipped}")
    embedded = signed(mine := rsa_key(), {"alg": "RS256", "jwk": public_jwk(mine), "jku": "https://evil/", "kid": "rsa-1"},
                      {"iss": idp.url, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 60})  # fmt: skip
    assert "signature" in await bench.refused(embedded), "the token does not bring its own key"


async def test_one_issuer_does_not_speak_for_another(idp: Issuer) -> None:
    async with issuer() as other:
        bench = Bench(one_of(idp, default_project="proj_a"), one_of(other, default_project="proj_b"))
        other.keys["theirs"] = rsa_key()
        assert (await bench.bearers.read(other.token("theirs"))).project_id == "proj_b"
        assert "no such key" in await bench.refused(other.token("theirs", iss=idp.url))
        assert "signature" in await bench.refused(other.token("rsa-1", iss=idp.url))
        for stranger in ("https://evil.example", f"{idp.url}/", idp.url.upper(), "", None, 5, [idp.url]):
            assert "issuer" in await bench.refused(idp.token(iss=stranger))
        await bench.bearers.close()


async def test_a_name_twice(idp: Issuer, bench: Bench) -> None:
    key = idp.keys["rsa-1"]
    good = {"iss": idp.url, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 60}
    twice = json.dumps(good)[:-1].encode() + b', "sub": "root"}'
    assert "twice in its claims" in await bench.refused(signed(key, {"alg": "RS256", "kid": "rsa-1"}, twice))
    nested = json.dumps(good)[:-1].encode() + b', "x": {"a": 1, "\\u0061": 2}}'
    assert "twice in its claims" in await bench.refused(signed(key, {"alg": "RS256", "kid": "rsa-1"}, nested))
    header = b'{"alg":"none","alg":"RS256","kid":"rsa-1"}'
    assert "twice in its header" in await bench.refused(signed(key, header, good))


async def test_headers_that_ask_for_more(idp: Issuer, bench: Bench) -> None:
    claims = {"iss": idp.url, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 60}
    headers: list[dict[str, Any]] = [{"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": True}]
    for more in headers:
        assert "header" in await bench.refused(
            signed(idp.keys["rsa-1"], {"alg": "RS256", "kid": "rsa-1", **more}, claims)
        )
    for kid in (5, ["rsa-1"], {"a": 1}, "x" * 513):
        token = signed(idp.keys["rsa-1"], {"alg": "RS256", "kid": kid}, claims)
        assert "name" in await bench.refused(token)
    for kid in ("../../etc/passwd", "' OR 1=1", "", "rsa-1 "):
        assert "no such key" in await bench.refused(signed(idp.keys["rsa-1"], {"alg": "RS256", "kid": kid}, claims))


async def test_what_is_no_token(idp: Issuer, bench: Bench) -> None:
    deep = part(b"[" * 5000)
    for text in ("eyJ..", "eyJ.eyJ.x", f"{part({'alg': 'RS256'})}.{deep}.x", f"{part(b'{}')}.{part(b'[]')}.x",
                 f"{part(b'{' + bytes([255]))}.{part({})}.x", "eyJhbGciOiJSUzI1NiJ9.e30", "eyJ.a.b.c", "sk-eyJ.a.b"):  # fmt: skip
        assert await bench.refused(text)
    huge = idp.token(more="x" * 8000)
    assert "longer" in await bench.refused(huge)
    assert not idp.asked
    assert not looks_like_token("sk-gw-eyJa.b.c")
    assert not looks_like_token("eyJa.b.c\n")


@given(st.text("eyJ.abc-_=+/{}é", max_size=200))
def test_anything_else_is_refused_in_words(text: str) -> None:
    with pytest.raises(TokenError):
        unpack(text)


# What claims mean


def bearer(said: dict[str, Any], /, **more: Any) -> Bearer:
    base = {"issuer": "https://idp", "audience": "a", "jwks_url": "https://idp/jwks", **more}
    return bearer_of({"sub": "ada", "exp": NOW, **said}, msgspec.convert(base, settings.Issuer))


def test_projects() -> None:
    said = {"claims": {"project": "groups"}}
    mapped = {**said, "projects": {"ml": "proj_ml", "web": "proj_web"}}
    assert bearer({}).project_id is None
    assert bearer({"groups": "proj_x"}, **said).project_id == "proj_x"
    assert bearer({"groups": ["../x", "", "proj_x", "proj_y"]}, **said).project_id == "proj_x"
    assert bearer({"groups": ["all", "web", "ml"]}, **mapped).project_id == "proj_web"
    assert bearer({"groups": "proj_ml"}, **mapped).project_id is None, "a mapping says all that there is"
    assert bearer({"groups": ["all"]}, **mapped, default_project="proj_d").project_id == "proj_d"
    for odd in (None, 5, {"proj_x": 1}, [["proj_x"]], "a\0b", "x" * 200):
        assert bearer({"groups": odd}, **said).project_id is None


def test_roles() -> None:
    said = {"claims": {"roles": "realm_access.roles"}}
    mapped = {**said, "roles": {"admins": "owner", "staff": "reader"}}
    assert bearer({"roles": ["owner"]}).roles == ()
    assert bearer({"realm_access": {"roles": ["owner", "x"]}}, **said).roles == ("owner",)
    assert bearer({"realm_access.roles": "reader"}, **said).roles == ("reader",)
    assert bearer({"realm_access": {"roles": ["staff", "admins"]}}, **mapped).roles == ("owner", "reader")
    assert bearer({"realm_access": {"roles": ["owner"]}}, **mapped).roles == ()
    assert bearer({"realm_access": ["owner"]}, **said).roles == ()


def test_people() -> None:
    for nobody in (None, "", 5, "a\0b", "x" * 257, "a\nb"):
        with pytest.raises(TokenError):
            bearer({"sub": nobody})
    assert bearer({"email": "a@b"}).email is None, "nobody has said that it is right"
    assert bearer({"email": "a@b", "email_verified": "true"}).email is None
    assert bearer({"email": "a@b", "email_verified": True}).email == "a@b"
    assert bearer({"email": "a@b"}, trust_email=True).email == "a@b"
    assert bearer({"upn": "A@B"}, trust_email=True, claims={"email": "upn"}).email == "a@b"
    assert bearer({"email": "nobody"}, trust_email=True).email is None
    inner = {"kubernetes.io": {"namespace": "a", "pod": {"name.x": "b"}}}
    assert bearer(inner, claims={"user": "kubernetes.io.namespace"}).subject == "a"
    assert bearer(inner, claims={"user": "kubernetes.io.pod.name.x"}).subject == "b"
    assert bearer({"oid": "1-2"}, claims={"user": "oid"}).subject == "1-2"


def test_records_are_apart_from_each_other_and_from_keys() -> None:
    one = bearer({}, default_project="p")
    digests = {
        one.key_digest(), bearer({}, default_project="q").key_digest(), bearer({"sub": "b"}, default_project="p").key_digest(),
        bearer({}, default_project="p", issuer="https://other").key_digest(),
    }  # fmt: skip
    assert len(digests) == 4
    assert len({one.user_id, bearer({"sub": "b"}).user_id, bearer({}, issuer="https://other").user_id}) == 3
    with pytest.raises(GatewayError):
        bearer({}).key_digest()


def test_nobody_can_write_down_a_key_with_the_digest_of_a_token() -> None:
    """A key's digest is that of its text. What a token's record is kept under is hashed from bytes that no key has."""
    hashed = bearer({}, default_project="p").key_digest()
    parts = msgspec.json.encode(["token", "https://idp", "ada", "p"])
    assert hashlib.sha256(b"\xff" + parts).digest() == hashed
    encoded = base64.b64encode(b"user:\xff" + parts).decode()
    with pytest.raises(GatewayError):
        read_key({"Authorization": f"Basic {encoded}"})
    with pytest.raises(GatewayError):
        read_key({"Authorization": "Bearer " + (b"\xff" + parts).decode("latin-1")})
    with pytest.raises(GatewayError):
        read_key({"Authorization": "Bearer " + (b"\xff" + parts).decode("utf-8", "surrogateescape")})


async def test_many_at_once(idp: Issuer, bench: Bench) -> None:
    tokens = [idp.token("ec-1", sub=f"user {n}") for n in range(50)]
    found = await asyncio.gather(*(bench.bearers.read(token) for token in tokens * 2))
    assert len({one.key_digest() for one in found}) == 50
    assert idp.asked == ["/jwks"]


async def test_a_key_of_another_curve_is_not_taken(idp: Issuer, bench: Bench) -> None:
    claims = {"iss": idp.url, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 60}
    token = signed(ec_key(), {"alg": "ES256", "kid": "ec-1"}, claims, "ES256")
    assert "signature" in await bench.refused(token)
    with pytest.raises(jwt.PyJWTError):
        jwt.decode(token, idp.keys["ec-1"].public_key(), ["ES256"], audience=AUDIENCE)
