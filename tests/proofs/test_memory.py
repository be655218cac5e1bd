"""Memory stays bounded: huge files, many silent streams, a flood of huge bodies."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.tasks import Tasks
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import KEY, Gateway
from tests.fakes.measuring import Size
from tests.fakes.redis_servers import eventually
from tests.proofs.memory import MIB, forget_peak, peak_mib, resident_mib
from tests.proofs.upstreams import SSE_HEAD, answer_ok, upstream

pytestmark = [pytest.mark.proof, pytest.mark.timeout(1500)]
Measured = Callable[..., None]

PIECE = b"x" * MIB
ONE_WORKER: dict[str, Any] = {"workers": {"count": 1}}


def head(method: str, path: str, length: int | None = None, *, key: str = KEY, content_type: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {key}"]
    lines += [f"Content-Length: {length}"] if length is not None else []
    lines += [f"Content-Type: {content_type}"] if content_type else []
    return "\r\n".join([*lines, "\r\n"]).encode()


async def warm_up(gateway: Gateway) -> int:
    """Lets the worker do each thing once; its pid."""
    for _ in range(20):
        assert (await asyncio.to_thread(gateway.chat)).status == 200
    return gateway.one("worker")


async def test_huge_files_pass_through_little_memory(
    start_gateway: StartGateway, size: Size, measured: Measured
) -> None:
    mib = size(small=64, full=512)

    async def download(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        if not request.startswith(b"GET"):
            await answer_ok(_reader, writer, request)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (mib * MIB))
        for _ in range(mib):
            writer.write(PIECE)
            await writer.drain()

    async with upstream(download) as url:
        gateway = start_gateway(**ONE_WORKER, upstreams={"simulator": {"base_url": f"{url}/v1"}})
        worker = await warm_up(gateway)
        before = resident_mib(worker)
        forget_peak(worker)

        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=4 * MIB)
        start = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\n'
        start += b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        end = b"\r\n--b--\r\n"
        total = len(start) + mib * MIB + len(end)
        writer.write(head("POST", "/v1/files", total, content_type="multipart/form-data; boundary=b") + start)
        for _ in range(mib):
            writer.write(PIECE)
            await writer.drain()
        writer.write(end)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        measured(f"memory for {mib} MiB up", peak_mib(worker) - before, "MiB", "< 32 MiB")
        assert peak_mib(worker) - before < 32
        writer.close()

        forget_peak(worker)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=4 * MIB)
        writer.write(head("GET", "/v1/files/file-1/content"))
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(mib):
            await reader.readexactly(MIB)
        measured(f"memory for {mib} MiB down", peak_mib(worker) - before, "MiB", "< 32 MiB")
        assert peak_mib(worker) - before < 32
        writer.close()


async def test_silent_streams_cost_little_memory(start_gateway: StartGateway, size: Size, measured: Measured) -> None:
    count = size(small=200, full=1000)
    open_upstream = 0

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        nonlocal open_upstream
        if b"?stream" not in request:
            await answer_ok(reader, writer, request)
            return
        open_upstream += 1
        writer.write(SSE_HEAD + b"9\r\ndata: 1\n\n\r\n")
        try:
            await reader.read()  # until the gateway hangs up
        finally:
            open_upstream -= 1

    body = b'{"model":"gpt-4o-mini","stream":true,"messages":[]}'
    request = head("POST", "/v1/chat/completions?stream", len(body), content_type="application/json") + body
    async with upstream(stall) as url:
        gateway = start_gateway(**ONE_WORKER, upstreams={"simulator": {"base_url": f"{url}/v1"}})
        worker = await warm_up(gateway)
        before = resident_mib(worker)
        writers = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(request)
            assert (await reader.readuntil(b"data: 1\n\n")).startswith(b"HTTP/1.1 200")
            writers.append(writer)
        assert open_upstream == count
        grown = resident_mib(worker) - before
        measured(f"memory for {count} silent streams", grown, "MiB", f"< {30 * count // 1000} MiB")
        assert grown < 30 * count / 1000
        began = time.monotonic()
        for writer in writers:
            writer.close()
        await eventually(lambda: open_upstream == 0)
        measured(f"{count} clients leave: upstream connections gone after", time.monotonic() - began, "s")


async def test_a_flood_of_huge_bodies(start_gateway: StartGateway, size: Size, measured: Measured) -> None:
    count, mib = size(small=24, full=500), 64
    prefix, suffix = b'{"model":"gpt-4o-mini","input":"', b'"}'
    total = mib * MIB - 1  # within the limit of a JSON body, and only just

    async def flood(gateway: Gateway, key: str) -> bytes:
        """Sends one body as fast as it is taken, and stops when it is answered; returns the status line."""
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        answered = asyncio.get_running_loop().create_task(reader.readline())
        try:
            writer.write(head("POST", "/v1/responses", total, key=key, content_type="application/json") + prefix)
            left = total - len(prefix) - len(suffix)
            while left and not answered.done():
                writer.write(PIECE[:left])
                left -= min(left, MIB)
                await writer.drain()
            writer.write(suffix)
        except ConnectionError:
            pass  # the door was shut: the answer has come before
        try:
            return await asyncio.wait_for(answered, 600)
        finally:
            writer.transport.abort()

    async with upstream() as url:
        # The senders leave Valkey little of two CPUs: whether it keeps a deadline of tens of ms is not the question here.
        patient = {"deadline_ms": 5_000}
        gateway = start_gateway(**ONE_WORKER, redis=patient, upstreams={"simulator": {"base_url": f"{url}/v1"}})
        worker = await warm_up(gateway)
        forget_peak(worker)
        tasks = Tasks()
        keys = [KEY if number % 2 else "sk-wrong-key-0123456789abcdef" for number in range(count)]
        floods = [tasks.spawn(flood(gateway, key), "flood") for key in keys]
        slowest, served = 0.0, 0
        while not all(task.done() for task in floods):
            began = time.monotonic()
            answer = await asyncio.to_thread(gateway.chat, timeout_s=60)
            assert answer.status == 200, answer
            slowest, served = max(slowest, time.monotonic() - began), served + 1
        lines = [task.result() for task in floods]
        refused = [line for line, key in zip(lines, keys, strict=True) if key != KEY]
        accepted = [line for line, key in zip(lines, keys, strict=True) if key == KEY]
        measured(f"peak memory of a worker under {count} bodies of {mib} MiB", peak_mib(worker), "MiB", "< 1024 MiB")
        measured("slowest of the others' calls meanwhile", slowest, "s")
        measured("others' calls served meanwhile", served, "calls")
        # The flood's senders and the upstream share a loop: most of a call's time is theirs.
        own = [line["own_us"] for line in gateway.events("request", status=200, operation="createChatCompletion")]
        measured("of that in the gateway before the upstream, slowest", max(own) / 1e6, "s")
        measured("bodies with a key: answered 200", sum(b" 200 " in line for line in accepted), "calls")
        measured("bodies with a key: answered 503", sum(b" 503 " in line for line in accepted), "calls")
        measured("bodies without a key: answered 401", sum(b" 401 " in line for line in refused), "calls")
        assert peak_mib(worker) < 1024
        assert served > 0
        assert all(b" 200 " in line or b" 503 " in line for line in accepted), set(accepted)
        assert all(b" 401 " in line for line in refused), set(refused)
