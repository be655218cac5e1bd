"""What a revocation does to requests that run, that wait and that come: it reaches all of them at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from gateway.clock import SystemClock
from gateway.credentials import digest
from gateway.proxy.auth.revocation import Revocation
from gateway.tasks import Tasks
from gateway.telemetry.logging import make_logger
from tests.fakes.frames import CLOSE, echo, opened, read_frame, switching
from tests.fakes.upstream import SSE_HEAD, Exchange, silent, upstream
from tests.fakes.wire import chunk, soon, until
from tests.fakes.worker import KEY, OTHER_KEY, PRINCIPAL, CutError, Gateway, gateway, request

pytestmark = pytest.mark.alone  # it measures time

CHAT = "/v1/chat/completions"
PROMPTLY_S = 1.0


class News:
    """What a worker hears of changes."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | bool] = asyncio.Queue()

    async def changes(self) -> AsyncIterator[bytes | bool]:
        while True:
            yield await self.queue.get()


@contextmanager
def heard(gw: Gateway) -> "Iterator[News]":
    news = News()
    tasks = Tasks()
    log = make_logger("worker", "debug", SystemClock(), write=gw.logged.append)
    model: Any = news
    tasks.spawn(Revocation(model, gw.worker.keys, gw.worker.exchanges, tasks, log).listen(), "listen")
    try:
        yield news
    finally:
        for task in list(tasks._running):
            task.cancel()


def revoke(gw: Gateway, key: str = KEY) -> None:
    gw.keys.known[digest(key)] = msgspec.structs.replace(PRINCIPAL, revoked=True)


async def streaming(exchange: Exchange) -> None:
    await exchange.whole()
    exchange.send(SSE_HEAD + chunk(b"data: 1\n\n"))
    await exchange.gone()


async def test_a_running_stream_ends_with_an_error_event() -> None:
    async with upstream(streaming) as up, gateway(up) as gw:
        with heard(gw) as news:
            gw.keys.known[digest(OTHER_KEY)] = PRINCIPAL
            client, other = await gw.connect(), await gw.connect()
            client.send(request("POST", CHAT, b"{}"))
            found = await client.head()
            other.send(request("POST", CHAT, b"{}", key=OTHER_KEY))
            await other.head()
            revoke(gw)
            began = asyncio.get_running_loop().time()
            news.queue.put_nowait(digest(KEY))
            with pytest.raises(CutError) as caught:
                await client._body(found, "POST")
            assert caught.value.body.startswith(b'data: 1\n\ndata: {"error":{')
            assert b'"code":"invalid_api_key"' in caught.value.body
            await soon(up.wires[0].ended.wait())
            assert asyncio.get_running_loop().time() - began < PROMPTLY_S
            line = (await gw.lines())[0]
            assert (line["ended"], line["error"]) == ("cut", "incorrect_api_key")
            assert (await gw.ask()).status == 401
            assert not other.finished  # another key's stream goes on
            assert up.open == 1


async def test_what_waits_for_its_answer_gets_401() -> None:
    async with upstream(silent) as up, gateway(up) as gw:
        with heard(gw) as news:
            client = await gw.connect()
            client.send(request("POST", CHAT, b"{}"))
            await up.request()
            revoke(gw)
            news.queue.put_nowait(digest(KEY))
            found = await client.response()
            assert (found.status, found.error["code"]) == (401, "invalid_api_key")
            await up.emptied()


async def test_a_socket_is_closed() -> None:
    async with upstream(switching(echo)) as up, gateway(up) as gw:
        with heard(gw) as news:
            client = await opened(gw)
            revoke(gw)
            news.queue.put_nowait(digest(KEY))
            assert b"invalid_api_key" in (await soon(read_frame(client))).data
            found = await soon(read_frame(client))
            assert (found.kind, found.code) == (CLOSE, 1008)
            client.close()
            await up.emptied()


async def test_a_change_that_is_no_revocation_ends_nothing() -> None:
    async with upstream(streaming) as up, gateway(up) as gw:
        with heard(gw) as news:
            client = await gw.connect()
            client.send(request("POST", CHAT, b"{}"))
            await client.head()
            asked = len(gw.keys.asked)
            news.queue.put_nowait(digest(KEY))
            await until(lambda: len(gw.keys.asked) > asked)
            up.requests[0].send(chunk(b"data: 2\n\n"))
            assert await soon(client.chunked()) == b"data: 1\n\n"
            assert await soon(client.chunked()) == b"data: 2\n\n"


async def test_what_was_revoked_while_changes_were_not_heard_of_ends_when_they_are_again() -> None:
    async with upstream(streaming) as up, gateway(up) as gw:
        with heard(gw) as news:
            client = await gw.connect()
            client.send(request("POST", CHAT, b"{}"))
            await client.head()
            news.queue.put_nowait(False)
            await until(lambda: not gw.worker.keys.subscribed)
            revoke(gw)
            assert up.open == 1
            news.queue.put_nowait(True)
            await up.emptied()
            assert (await gw.lines())[0]["error"] == "incorrect_api_key"
            assert (await gw.ask()).status == 401


async def test_while_redis_cannot_be_asked_the_check_insists() -> None:
    async with upstream(streaming) as up, gateway(up) as gw:
        with heard(gw) as news:
            client = await gw.connect()
            client.send(request("POST", CHAT, b"{}"))
            await client.head()
            revoke(gw)
            gw.keys.away = True
            asked = len(gw.keys.asked)
            news.queue.put_nowait(digest(KEY))
            await until(lambda: len(gw.keys.asked) > asked + 1)
            found = await gw.ask()
            assert (found.status, found.error["code"], found.header(b"retry-after")) == (
                503,
                "key_check_unavailable",
                b"1",
            )
            assert up.open == 1
            gw.keys.away = False
            await up.emptied()


async def test_known_keys_go_on_and_unknown_ones_wait_while_redis_is_away() -> None:
    async with upstream() as up, gateway(up) as gw:
        assert (await gw.ask()).status == 200
        gw.worker.keys.disconnected()
        gw.keys.away = True
        assert (await gw.ask()).status == 200
        found = await gw.ask(key=OTHER_KEY)
        assert (found.status, found.error["type"]) == (503, "service_unavailable_error")
        assert len(up.requests) == 2
