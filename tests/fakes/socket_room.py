"""A client's socket, a worker with limits, and an upstream's socket that a test plays by hand."""

import asyncio
import json
from typing import Any

from tests.fakes.frames import BINARY, TEXT, frame, opened, read_frame
from tests.fakes.limited_sockets import Limited
from tests.fakes.upstream import Exchange, Upstream
from tests.fakes.wire import soon
from tests.fakes.worker import Client
from tests.unit.usage.sockets.kit import encoded

RESPONSES = "/v1/responses"
REALTIME = "/v1/realtime?model=gpt-realtime"
TOKENS = {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}


class Talk:
    """An upstream's socket, played by hand."""

    def __init__(self) -> None:
        self._exchange: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()

    async def __call__(self, exchange: Exchange) -> None:
        self._exchange.set_result(exchange)
        await exchange.gone()

    async def heard(self, kind: str) -> dict[str, Any]:
        """What has come next, which is of this type."""
        exchange = await soon(self._exchange)
        found: dict[str, Any] = json.loads((await soon(read_frame(exchange.wire))).data)
        assert found["type"] == kind
        return found

    async def says(self, kind: str, **members: Any) -> None:
        (await soon(self._exchange)).wire.send(frame(TEXT, encoded({"type": kind, **members})))

    async def begins(self, response_id: str, **members: Any) -> None:
        await self.says("response.created", response={"id": response_id, "status": "in_progress", **members})

    async def ends(self, response_id: str, kind: str = "response.done", status: str = "completed") -> None:
        await self.says(kind, response={"id": response_id, "status": status, "output": [], "usage": TOKENS})


class Room:
    """A worker with limits, the upstream behind it, and a client's socket between them."""

    def __init__(self, lim: Limited, up: Upstream, talk: Talk) -> None:
        self.lim, self.up, self.talk = lim, up, talk
        self.client: Client
        self.request_id = ""

    async def open(self, target: str) -> None:
        self.client = await opened(self.lim.gw, target)
        self.request_id = (self.up.last.header(b"x-request-id") or b"").decode()

    def says(self, kind: str, *, binary: bool = False, **members: Any) -> None:
        data = encoded({"type": kind, **members})
        self.client.send(frame(BINARY if binary else TEXT, data, mask=True))

    async def heard(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await soon(read_frame(self.client))).data)
        assert found["type"] == kind, found
        return found

    async def refused(self, code: str) -> dict[str, Any]:
        found = await self.heard("error")
        assert found["error"]["code"] == code
        return found

    async def leave(self) -> list[str]:
        """The client goes; ids of all events, without the request's."""
        self.client.close()
        await self.lim.gw.lines()
        found = await self.lim.settled()
        assert {event.id.rpartition("/")[0] for event in found} <= {self.request_id}
        return [event.id.rpartition("/")[2] for event in found]

    async def realtime(self) -> None:
        await self.open(REALTIME)
        await self.talk.says("session.created", session={"type": "realtime", "model": "gpt-realtime"})
        await self.heard("session.created")
