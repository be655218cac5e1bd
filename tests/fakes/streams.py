"""A stream through the gateway that does not end by itself, read as it comes."""

import asyncio
import json
from typing import Any

import aiohttp

from gateway.tasks import Tasks
from tests.fakes.gateway_process import HELLO, KEY, Gateway
from tests.fakes.redis_servers import eventually

ENDLESS = "gpt-4o-mini+pace=100ms+chunks=10000"


class Stream:
    """data: what has come. broke: how it ended, if not in order. ended_at: the loop's time."""

    def __init__(
        self, gateway: Gateway, client: aiohttp.ClientSession, *, model: str = ENDLESS, key: str = KEY
    ) -> None:
        self.data = b""
        self.status = 0
        self.broke: Exception | None = None
        self.ended_at = 0.0
        self._url = f"{gateway.base_url}/chat/completions"
        self._client = client
        self._model = model
        self._headers = {"Authorization": f"Bearer {key}"}
        self._tasks = Tasks()
        self.reading = self._tasks.spawn(self._read(), "stream")

    async def _read(self) -> None:
        body = {"model": self._model, "messages": list(HELLO), "stream": True}
        try:
            async with self._client.post(self._url, json=body, headers=self._headers) as answer:
                self.status = answer.status
                async for piece in answer.content.iter_any():
                    self.data += piece
        except aiohttp.ClientError as error:
            self.broke = error
        finally:
            self.ended_at = asyncio.get_running_loop().time()

    @property
    def events(self) -> int:
        return self.data.count(b"data: ")

    async def begun(self) -> "Stream":
        await eventually(lambda: self.events > 2)
        return self

    async def goes_on(self) -> None:
        """Waits for more of it."""
        before = self.events
        await eventually(lambda: self.events > before + 2)

    async def ended(self, within_s: float = 10.0) -> None:
        await asyncio.wait_for(asyncio.shield(self.reading), within_s)

    @property
    def error(self) -> dict[str, Any]:
        """The error of its last event."""
        found: dict[str, Any] = json.loads(self.data.strip().rpartition(b"data: ")[2])["error"]
        return found

    async def leave(self) -> None:
        await self._tasks.cancel()
