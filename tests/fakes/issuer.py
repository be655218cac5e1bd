"""Somebody who issues tokens: real keys, and a real server for their public halves that can fail, stall and rotate."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

NOW = 1_800_000_000  # what tests' manual clocks say
AUDIENCE = "gateway-test"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_jwk(key: PrivateKey, **members: Any) -> dict[str, Any]:
    """The public half as a JWK."""
    if isinstance(key, rsa.RSAPrivateKey):
        made = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        made = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        made = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    made.pop("key_ops", None)
    return {**made, **members}


def part(value: Any) -> str:
    """One part of a token: JSON, or bytes as they are."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(key: PrivateKey, header: Any, claims: Any, algorithm: str = "RS256") -> str:
    """A token with exactly these parts, rightly signed."""
    made = jwt.PyJWS().get_algorithm_by_name(algorithm)
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{part(made.sign(text.encode(), key))}"


class Issuer:
    """keys: by `kid`, all of which are published. does: what the server does: ok, fail, stall, garbage, huge, away."""

    def __init__(self) -> None:
        self.keys: dict[str, PrivateKey] = {"rsa-1": rsa_key(), "ec-1": ec_key()}
        self.does = "ok"
        self.asked: list[str] = []
        self.release = asyncio.Event()
        self.url = ""
        self.described: dict[str, Any] = {}  # what the description says instead

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/jwks"

    def jwks(self) -> dict[str, Any]:
        return {"keys": [public_jwk(key, kid=kid, use="sig") for kid, key in self.keys.items()]}

    def token(self, kid: str | None = "rsa-1", *, key: PrivateKey | None = None, now: int = NOW, **claims: Any) -> str:
        """A good token for an hour, but for what is said otherwise; None leaves a claim out."""
        key = key or self.keys[kid or "rsa-1"]
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 3600, **claims}
        header = {"alg": algorithm, "typ": "JWT", **({"kid": kid} if kid is not None else {})}
        return signed(key, header, {name: value for name, value in said.items() if value is not None}, algorithm)

    def settings(self, **more: Any) -> dict[str, Any]:
        """As one of `tokens.issuers`."""
        return {"issuer": self.url, "audience": AUDIENCE, "jwks_url": self.jwks_url, **more}

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.does == "fail":
            return web.Response(status=500)
        if self.does == "stall":
            await self.release.wait()
        if self.does == "garbage":
            return web.Response(text="<html>")
        if self.does == "huge":
            return web.Response(body=b" " * 600_000)
        if self.does == "away":
            return web.Response(status=302, headers={"Location": f"{self.url}/elsewhere"})
        if request.path.endswith("openid-configuration"):
            return web.json_response({"issuer": self.url, "jwks_uri": self.jwks_url, **self.described})
        return web.json_response(self.jwks())


@asynccontextmanager
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    app = web.Application()
    app.router.add_get("/{path:.*}", made.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        made.release.set()
        await runner.cleanup()
