"""Bodies that stream by: as they come, no faster than the upstream takes them, and with answers that come early."""

import asyncio

import pytest

from tests.fakes.upstream import Exchange, answer, closing, upstream
from tests.fakes.wire import chunk, soon, until
from tests.fakes.worker import gateway, request, waiting_in

MIB = 1024 * 1024
KIND = b"Content-Type: application/octet-stream"


def upload(length: int | None) -> bytes:
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    return request("POST", "/v1/files", None, KIND, framing)


@pytest.mark.parametrize("chunked", [False, True])
async def test_each_piece_goes_up_before_the_next_comes(chunked: bool) -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(exchange: Exchange) -> None:
        while data := await exchange.read():
            received.put_nowait(data)
        exchange.send(answer())

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(upload(None if chunked else 500))
        await up.request()  # before there is any body
        for number in range(100):
            piece = b"%05d" % number
            client.send(chunk(piece) if chunked else piece)
            assert await soon(received.get()) == piece
        if chunked:
            client.send(b"0\r\n\r\n")
        assert (await client.response()).status == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upstream_that_does_not_read_holds_the_client_back(chunked: bool) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.wire.stop_reading()
        await go_on.wait()
        exchange.wire.read_on()
        await exchange.whole()
        exchange.send(answer())

    go_on = asyncio.Event()
    size = 64 * MIB
    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(upload(None if chunked else size))
        body = (chunk(b"x" * MIB) * 64 + b"0\r\n\r\n") if chunked else b"x" * size
        sending = asyncio.ensure_future(client.send_all(body))
        await up.request()
        await until(lambda: gw.worker.server.connections[0].unread)
        connection = gw.worker.server.connections[0]
        assert waiting_in(connection) < MIB
        source = next(iter(gw.worker._destinations["main"].pool._all))
        assert source.transport is not None
        assert source.transport.get_write_buffer_size() < MIB
        assert not sending.done()
        go_on.set()
        assert (await client.response()).status == 200
        assert up.last.body == b"x" * size
        assert gw.access[0]["bytes_in"] == size


async def test_a_slow_upstream_is_not_the_clients_fault() -> None:
    """The client's time for its body does not run while the upstream does not take it."""
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        exchange.wire.stop_reading()
        await go_on.wait()
        exchange.wire.read_on()
        await exchange.whole()
        exchange.send(answer())

    size = 32 * MIB
    async with upstream(script) as up, gateway(up, timeouts={"client_body_s": 0.1}) as gw:
        client = await gw.connect()
        client.send(upload(size))
        sending = asyncio.ensure_future(client.send_all(b"x" * size))
        await up.request()
        await until(lambda: gw.worker.server.connections[0].unread)
        enough = gw.worker._loop.time() + 0.8
        await until(lambda: gw.worker._loop.time() > enough)
        go_on.set()
        assert (await client.response()).status == 200
        await sending


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_an_early_answer_reaches_the_client_before_its_upload_ends(keep_alive: bool) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.read()
        exchange.send(answer(b'{"error":{}}', status=b"400 Bad Request"))
        if not keep_alive:
            exchange.wire.close()
        else:
            await exchange.whole()

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(upload(64 * MIB) + b"x" * 1000)
        found = await client.response()
        assert (found.status, found.body) == (400, b'{"error":{}}')
        assert found.header(b"connection") == b"close"
        await up.emptied()
        client.send(b"x" * 1000)
        await until(lambda: client.finished)
        assert gw.access[0]["ended"] == "complete"


async def test_an_early_answer_reaches_a_client_that_goes_on_sending() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.read()
        exchange.send(answer(b"no", status=b"413 Too Large"))
        await exchange.whole()

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(upload(16 * MIB))
        await client.send_all(b"x" * 16 * MIB)
        assert (await client.response()).status == 413
        assert await client.closed() == b""
        assert client.error is None


async def test_an_early_stream_goes_on_while_the_upload_does() -> None:
    async def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while data := await exchange.read():
            exchange.send(chunk(data.upper()))
        exchange.send(b"0\r\n\r\n")

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(upload(None))
        await client.head()
        for word in (b"one", b"two", b"three"):
            client.send(chunk(word))
            assert await soon(client.chunked()) == word.upper()
        client.send(b"0\r\n\r\n")
        assert await soon(client.chunked()) == b""


async def test_an_early_answer_to_a_body_in_memory() -> None:
    """What of it is still on its way must not be the beginning of somebody else's request."""

    async def script(exchange: Exchange) -> None:
        exchange.wire.stop_reading()
        exchange.send(answer(b"early"))
        await exchange.gone()

    async with upstream(script) as up, gateway(up) as gw:
        found = await gw.ask("/v1/chat/completions", b'{"a":"' + b"x" * 30 * MIB + b'"}')
        assert found.body == b"early"
        await until(lambda: not len(gw.worker._destinations["main"].pool))
        up.wires[0].read_on()
        up.script = closing(answer(b"second"))
        assert (await gw.ask()).body == b"second"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_client_that_breaks_off_breaks_the_upstreams_request_off(chunked: bool) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.whole()

    async with upstream(script) as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(upload(None if chunked else 1000) + (chunk(b"x" * 100) if chunked else b"x" * 100))
        exchange = await up.request()
        await until(lambda: len(exchange.body) or exchange.wire.unread)
        client.close()
        await up.emptied()
        assert not exchange.complete
        assert (await gw.lines())[0]["ended"] == "client_left"


@pytest.mark.parametrize("target", ["/v1/files", "/v1/chat/completions"])
async def test_a_body_whose_chunks_are_malformed(target: str) -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(
            request("POST", target, None, b"Content-Type: text/plain", b"Transfer-Encoding: chunked") + chunk(b"abc")
        )
        await until(lambda: gw.in_flight)
        client.send(b"XYZ\r\n")
        found = await client.response()
        assert (found.status, found.error["type"]) == (400, "invalid_request_error")
        await until(lambda: client.finished)
        await up.emptied()
        assert not any(r.complete for r in up.requests)


async def test_trailers_of_an_upload_are_dropped() -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        client.send(upload(None) + chunk(b"abc") + b"0\r\nX-Checksum: 1\r\n\r\n")
        assert (await client.response()).status == 200
        assert (bytes(up.last.body), up.last.trailers) == (b"abc", [])
