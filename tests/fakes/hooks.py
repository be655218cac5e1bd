"""A receiver of webhooks over TLS, which keeps what it is sent."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from tests.fakes.tls_front import Certificate


class Hook(msgspec.Struct, frozen=True):
    path: str
    headers: dict[str, str]
    body: bytes


class Hooks:
    """status: what it answers. Cleared, `answers` holds its answers back."""

    def __init__(self) -> None:
        self.received: list[Hook] = []
        self.status = 200
        self.port = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Hook(request.path_qs, headers, await request.read()))
        await self.answers.wait()
        return web.Response(status=self.status, headers={"Location": "/elsewhere"} if self.status // 100 == 3 else {})


@contextlib.asynccontextmanager
async def hooks_server(certificate: Certificate) -> AsyncIterator[Hooks]:
    """One on 127.0.0.1, at its `port`."""
    hooks = Hooks()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hooks.serve)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    hooks.port = runner.addresses[0][1]
    try:
        yield hooks
    finally:
        hooks.answers.set()
        await runner.cleanup()
