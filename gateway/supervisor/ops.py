"""The operations listener: whether the gateway lives, whether it can serve, and its metrics."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web

from gateway.telemetry.metrics import Metrics, exposition


class State(Protocol):
    """What the supervisor knows."""

    def ready(self) -> bool:
        """Whether calls can be served."""

    def counts(self) -> dict[str, int]:
        """Worker processes by state."""

    def away(self) -> dict[str, str]:
        """Which dependencies are away, and what is said about each."""


class Operations:
    """Serves /livez, /readyz and /metrics. Never to be reachable by clients: metrics say who does what."""

    def __init__(self, state: State, metrics: Metrics, folder: Path, gauges: Callable[[], None]) -> None:
        self._state = state
        self._metrics = metrics
        self._folder = folder
        self._gauges = gauges
        self._runner: web.AppRunner | None = None

    async def start(self, listening: socket.socket) -> None:
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._scrape)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        """200 if calls can be served, 503 if not; the body says what is away in both cases."""
        ready = self._state.ready()
        status = "ready" if ready else "not ready"
        body = {"status": status, "workers": self._state.counts(), "away": self._state.away()}
        return web.Response(
            status=200 if ready else 503, body=msgspec.json.encode(body), content_type="application/json"
        )

    async def _scrape(self, _request: web.Request) -> web.Response:
        self._gauges()
        self._metrics.flush()
        text = await asyncio.to_thread(exposition, self._folder, [self._metrics.registry])
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
