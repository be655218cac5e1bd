"""A running simulator and clients for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import aiohttp
import msgspec
from openai import AsyncOpenAI, OpenAI

from gateway.simulator.app import running
from gateway.simulator.book import Record
from gateway.simulator.options import SimulatorOptions

T = TypeVar("T")
KEY = "sk-test-upstream-key-0001"


class Simulation:
    """A simulator on a socket, and what tests ask of it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session
        self.headers = {"authorization": f"Bearer {KEY}"}
        self._clients: list[AsyncOpenAI] = []

    def client(self, **options: Any) -> AsyncOpenAI:
        """The official client, which refuses answers that do not fit its types."""
        settings: dict[str, Any] = {"max_retries": 0, "_strict_response_validation": True, "timeout": 20}
        self._clients.append(AsyncOpenAI(base_url=f"{self.url}/v1", api_key=KEY, **(settings | options)))
        return self._clients[-1]

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    async def threaded(self, work: Callable[[OpenAI], T]) -> T:
        """Runs work with the synchronous official client, beside the simulator's event loop."""
        client = OpenAI(
            base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=20, _strict_response_validation=True
        )
        with client:
            return await asyncio.to_thread(work, client)

    async def records(self, since: int = 0) -> list[Record]:
        """The book, when nothing is in flight."""
        url = f"{self.url}/_simulator/served"
        found: list[Record] = []
        more = True
        while more:
            async with self.session.get(url, params={"since": since, "wait": 10, "limit": 5000}) as response:
                page = await response.json()
            found += msgspec.convert(page["data"], list[Record])
            since, more = page["next"], page["more"]
        return found

    async def last(self) -> Record:
        return (await self.records())[-1]

    async def post(self, path: str, json: Any = None, **headers: str) -> tuple[int, Any, Any]:
        """→ status, headers, decoded body."""
        named = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.post(f"{self.url}/v1{path}", json=json, headers=named) as response:
            return response.status, response.headers, await response.json(content_type=None)

    async def lines(self, path: str, json: Any) -> tuple[Any, list[str]]:
        """→ headers, and what follows each `data: ` of an answer in server-sent events."""
        async with self.session.post(f"{self.url}/v1{path}", json=json, headers=self.headers) as response:
            text = await response.text()
        return response.headers, [line[6:] for line in text.split("\n") if line.startswith("data: ")]


@contextlib.asynccontextmanager
async def simulation(options: SimulatorOptions | None = None) -> AsyncIterator[Simulation]:
    async with (
        running(options) as url,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20), cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        sim = Simulation(url, session)
        try:
            yield sim
        finally:
            await sim.close()
