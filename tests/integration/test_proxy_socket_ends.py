"""WebSockets until they end: close codes in both directions, sides that go without a word or do not read, and what
the gateway says when it is the one that ends it."""

import asyncio
import json

import pytest

from gateway.credentials import digest, incorrect
from tests.fakes.frames import (
    BINARY,
    CLOSE,
    TEXT,
    Frame,
    close_frame,
    echo,
    frame,
    handshake,
    opened,
    read_frame,
    switching,
)  # fmt: skip
from tests.fakes.upstream import Exchange, silent, upstream
from tests.fakes.wire import soon, until
from tests.fakes.worker import KEY, Client, Gateway, gateway

pytestmark = pytest.mark.alone  # it measures time

MIB = 1024 * 1024
PROMPTLY_S = 0.5
GOODBYES = [(1000, b""), (1001, b"bye"), (1011, b"no"), (3000, b"x" * 123), (4999, "grüße".encode()), (0, b"")]


def now() -> float:
    return asyncio.get_running_loop().time()


async def listening(exchange: Exchange) -> None:
    """Takes what comes, and leaves it unread for the test."""
    await exchange.gone()


@pytest.mark.parametrize(("code", "reason"), GOODBYES)
async def test_the_client_says_goodbye(code: int, reason: bytes) -> None:
    async with upstream(switching(listening)) as up, gateway(up) as gw:
        client = await opened(gw)
        client.send(close_frame(code, reason, mask=True))
        found = await soon(read_frame(up.wires[0]))
        assert (found.kind, found.data, found.masked) == (CLOSE, close_frame(code, reason)[2:], True)
        up.wires[0].send(close_frame(code, reason))
        assert (await soon(read_frame(client))).data == found.data
        assert await client.closed() == b""
        await up.emptied()
        line = (await gw.lines())[0]
        assert (line["status"], line["ended"]) == (101, "complete")
        assert "error" not in line


@pytest.mark.parametrize(("code", "reason"), GOODBYES)
async def test_the_upstream_says_goodbye(code: int, reason: bytes) -> None:
    async def talk(exchange: Exchange) -> None:
        exchange.send(frame(TEXT, b"last words") + close_frame(code, reason))
        answered.set_result(await read_frame(exchange.wire))
        exchange.wire.close()

    answered: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
    async with upstream(switching(talk)) as up, gateway(up) as gw:
        client = await opened(gw)
        assert (await soon(read_frame(client))).data == b"last words"
        found = await soon(read_frame(client))
        assert (found.kind, found.data) == (CLOSE, close_frame(code, reason)[2:])
        client.send(close_frame(4000, b"mine", mask=True))
        assert (await soon(answered)).kind == CLOSE
        await client.closed()
        assert (await gw.lines())[0]["ended"] == "complete"


async def test_an_upstream_that_breaks_off_is_no_goodbye() -> None:
    async with upstream(switching(listening)) as up, gateway(up) as gw:
        for way in ("close", "reset"):
            client = await opened(gw)
            getattr(up.wires[-1], way)()
            found = await soon(read_frame(client))
            assert (found.kind, found.code) == (CLOSE, 1011)
            client.send(close_frame(1011, mask=True))
            await client.closed()
        for line in await gw.lines(2):
            assert (line["ended"], line["error"]) == ("upstream_failed", "upstream_cut")


@pytest.mark.parametrize("way", ["close", "reset"])
async def test_a_client_that_leaves_without_a_word_ends_the_upstreams_side(way: str) -> None:
    async with upstream(switching(listening)) as up, gateway(up) as gw:
        client = await opened(gw)
        left_at = now()
        getattr(client, way)()
        await soon(up.wires[0].ended.wait())
        assert up.wires[0].ended_at - left_at < PROMPTLY_S
        assert (await read_frame(up.wires[0])).code == 1001
        assert (await gw.lines())[0]["ended"] == "client_left"
        await until(lambda: not gw.worker._websockets.open)


@pytest.mark.parametrize("way", ["close", "reset"])
async def test_a_client_that_leaves_while_the_upstream_is_dialled(way: str) -> None:
    async with upstream(silent) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(handshake("/v1/realtime"))
        await up.request()
        left_at = now()
        getattr(client, way)()
        await soon(up.wires[0].ended.wait())
        assert up.wires[0].ended_at - left_at < PROMPTLY_S
        assert (await gw.lines())[0]["ended"] == "client_left"


BROKEN = {
    "a reserved bit": bytes([0x91, 0x80, 0, 0, 0, 0]),
    "an opcode that does not exist": bytes([0x83, 0x80, 0, 0, 0, 0]),
    "a ping in fragments": bytes([0x09, 0x80, 0, 0, 0, 0]),
    "half a code": frame(CLOSE, b"\x00", mask=True),
    "a code that is never sent": close_frame(1005, mask=True),
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
async def test_a_client_that_breaks_the_protocol(raw: bytes) -> None:
    async with upstream(switching(listening)) as up, gateway(up) as gw:
        client = await opened(gw)
        client.send(raw)
        found = await soon(read_frame(client))
        assert (found.kind, found.code) == (CLOSE, 1002)
        client.send(close_frame(1002, mask=True))
        await client.closed()
        assert (await soon(read_frame(up.wires[0]))).kind == CLOSE
        await up.emptied()


@pytest.mark.parametrize("raw", [bytes([0x91, 0]), bytes([0x83, 0]), frame(CLOSE, b"\x00")])
async def test_an_upstream_that_breaks_the_protocol(raw: bytes) -> None:
    async with upstream(switching(listening)) as up, gateway(up) as gw:
        client = await opened(gw)
        up.wires[0].send(raw)
        found = await soon(read_frame(client))
        assert (found.kind, found.code) == (CLOSE, 1011)
        client.close()
        await up.emptied()
        assert (await gw.lines())[0]["ended"] == "upstream_failed"


async def test_an_upstreams_message_beyond_the_limit() -> None:
    async with upstream(switching(listening)) as up, gateway(up, bodies={"websocket_message_mib": 1}) as gw:
        client = await opened(gw)
        up.wires[0].send(frame(BINARY, b"x" * MIB))
        assert len((await soon(read_frame(client))).data) == MIB
        up.wires[0].send(frame(BINARY, b"x" * (MIB + 1)))
        assert (await soon(read_frame(client))).code == 1011
        client.close()
        await up.emptied()


async def _still(count: "list[int]") -> int:
    """Waits until a count has stood still for a while: the only way to see that somebody is held back."""
    last, same = count[0], 0
    while same < 20:
        await asyncio.sleep(0.005)
        last, same = count[0], same + 1 if count[0] == last else 0
    return last


@pytest.mark.parametrize("direction", ["down", "up"])
async def test_who_does_not_read_holds_the_other_side_back(direction: str) -> None:
    """64 MiB in messages of 64 KiB: they stay with who sends them, not with the gateway, and none is lost."""
    message, number = b"x" * 65536, 1024
    sent = [0]
    began = asyncio.Event()

    async def flood(wire: object, raw: bytes) -> None:
        for _ in range(number):
            await wire.has_room()  # type: ignore[attr-defined]
            wire.send(raw)  # type: ignore[attr-defined]
            sent[0] += 1

    async def talk(exchange: Exchange) -> None:
        if direction == "down":
            await began.wait()
            await flood(exchange.wire, frame(BINARY, message))
        else:
            exchange.wire.stop_reading()
        await exchange.gone()

    async with upstream(switching(talk)) as up, gateway(up) as gw:
        client = await opened(gw)
        sending: asyncio.Future[None] | None = None
        if direction == "down":
            client.stop_reading()
            began.set()
        else:
            sending = asyncio.ensure_future(flood(client, frame(BINARY, message, mask=True)))
        await until(lambda: sent[0])
        assert await _still(sent) < number
        transport = gw.worker.server.connections[0].transport
        assert transport is not None
        assert transport.get_write_buffer_size() < MIB
        reader = client if direction == "down" else up.wires[0]
        reader.read_on()
        for _ in range(number):
            assert len((await soon(read_frame(reader))).data) == len(message)
        if sending is not None:
            await sending
        client.close()
        await up.emptied()


async def _ended_by_us(gw: Gateway, client: Client, code: int, closing: int) -> dict[str, object]:
    """What the client hears when the gateway ends it: an error event, then a close frame; returns the event."""
    event: dict[str, object] = json.loads((await soon(read_frame(client))).data)
    found = await soon(read_frame(client))
    assert (found.kind, found.code) == (CLOSE, closing)
    client.send(close_frame(closing, mask=True))
    await client.closed()
    line = (await gw.lines())[0]
    assert line["status"] == 101
    error = event["error"]
    assert isinstance(error, dict)
    assert set(error) == {"message", "type", "param", "code"}
    assert event["type"] == "error"
    if code:
        assert event["status"] == code
    else:
        assert str(event["event_id"]).startswith("event_")
    return error


@pytest.mark.parametrize(("target", "status"), [("/v1/realtime?model=m", 0), ("/v1/responses", 503)])
async def test_a_drain_ends_it_with_an_event(target: str, status: int) -> None:
    async with upstream(switching(echo)) as up, gateway(up, tidy=False) as gw:
        client = await opened(gw, target)
        draining = asyncio.ensure_future(gw.worker.drain(0.1))
        error = await _ended_by_us(gw, client, status, 1001)
        assert error["code"] == "server_is_shutting_down"
        await soon(draining)
        await up.emptied()
        assert (gw.access[0]["ended"], gw.access[0]["error"]) == ("cut", "draining")


async def test_a_drain_while_it_is_dialled() -> None:
    async with upstream(silent) as up, gateway(up, tidy=False) as gw:
        client = await gw.connect()
        client.send(handshake("/v1/realtime"))
        await up.request()
        draining = asyncio.ensure_future(gw.worker.drain(0.1))
        found = await client.response()
        assert (found.status, found.error["code"]) == (503, "server_is_shutting_down")
        await up.emptied()
        client.close()
        await soon(draining)


async def test_a_revoked_key_ends_it() -> None:
    async with upstream(switching(echo)) as up, gateway(up) as gw:
        client = await opened(gw)
        assert gw.worker.exchanges.open_keys() == {digest(KEY)}
        assert gw.worker.exchanges.end_of_key(digest(KEY), incorrect("*" * 8)) == 1
        error = await _ended_by_us(gw, client, 0, 1008)
        assert error["code"] == "invalid_api_key"
        await up.emptied()
        assert gw.access[0]["ended"] == "cut"


async def test_silence_of_both_sides_ends_it_and_that_of_one_does_not() -> None:
    async def talk(exchange: Exchange) -> None:
        while not exchange.wire.ended.is_set():
            exchange.send(frame(TEXT, b"tick"))
            await asyncio.sleep(0.1)

    async with upstream(switching(talk)) as up, gateway(up, timeouts={"between_bytes_s": 0.4}) as gw:
        client = await opened(gw)
        enough = now() + 1.0
        while now() < enough:
            assert (await soon(read_frame(client))).data == b"tick"
        client.close()
        await up.emptied()
        up.script = switching(listening)
        client = await opened(gw)
        event = json.loads((await soon(read_frame(client))).data)
        assert event["error"]["code"] == "upstream_timeout"
        assert (await soon(read_frame(client))).code == 1011
        client.close()
        await up.emptied()
        assert (await gw.lines(2))[1]["ended"] == "upstream_failed"


async def test_a_client_that_does_not_read_its_goodbye_is_given_up() -> None:
    """Neither the drain nor the upstream waits for it for ever."""

    async def talk(exchange: Exchange) -> None:
        while not exchange.wire.ended.is_set():
            await exchange.wire.has_room()
            exchange.send(frame(BINARY, b"x" * 65536))

    async with upstream(switching(talk)) as up, gateway(up, tidy=False) as gw:
        client = await opened(gw)
        client.stop_reading()
        await until(lambda: not up.wires[0].room.is_set())
        await soon(gw.worker.drain(0.1))
        await soon(gw.worker.close())
        await up.emptied()
        client.read_on()
        await client.closed()
