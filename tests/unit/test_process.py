"""What a child process and its supervisor say to each other."""

import asyncio
import os
import re
import socket
import subprocess
import sys

import msgspec
import pytest

from gateway.process import (
    TURN_S,
    Channel,
    Child,
    Drain,
    Failed,
    Go,
    Health,
    Here,
    OrphanError,
    Ready,
    Start,
    ToSupervisor,
    serve_until_told,
)

START = Start(settings=msgspec.Raw(b"{}"), sockets=[3, 4], slot="1", extra={"key": "x"})


async def leash() -> tuple[Channel, socket.socket]:
    """The supervisor's end, and the child's."""
    ours, theirs = socket.socketpair()
    return await Channel.over(ours, ToSupervisor), theirs


async def begun() -> tuple[Channel, Child]:
    supervisor, end = await leash()
    supervisor.send(START)
    child = await Child.over(end)
    assert await supervisor.receive() == Here()
    return supervisor, child


async def test_a_life() -> None:
    supervisor, child = await begun()
    assert child.start == START
    supervisor.send(Go())
    assert await child.ready()
    for away in ({}, {}, {"redis": "it is away"}, {"redis": "it is away"}, {}):
        await child.health(dict(away))
    child.failed("no more")
    said = [await supervisor.receive() for _ in range(5)]
    assert said == [Ready(), Health({}), Health({"redis": "it is away"}), Health({}), Failed("no more")]
    supervisor.send(Drain(3.0))
    assert await child.until_told() == Drain(3.0)
    supervisor.close()
    assert await child.until_told() is None
    child.close()


async def test_an_end_before_it_may_serve() -> None:
    supervisor, child = await begun()
    supervisor.send(Drain(0.0))
    assert not await child.ready()
    assert await child.until_told() == Drain(0.0), "the order is not lost"
    supervisor.close()
    child.close()


@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\0\x05{", b"\xff\xff\xff\xff"])
async def test_a_supervisor_that_goes_before_it_has_said_anything(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.sendall(said)
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(OrphanError, match="the supervisor has gone"):
        await Child.over(theirs)
    ours.close()


async def test_sending_to_nobody_does_no_harm() -> None:
    supervisor, child = await begun()
    child.close()
    assert await supervisor.receive() is None
    for _ in range(3):
        supervisor.send(Go())
        await asyncio.sleep(0)
    supervisor.close()
    supervisor.send(Go())


class Draining:
    """Notes what it was told, and is done when it is let go."""

    def __init__(self) -> None:
        self.told: list[float] = []
        self.called = asyncio.Event()
        self.let_go = asyncio.Event()

    async def __call__(self, deadline_s: float) -> None:
        self.told.append(deadline_s)
        self.called.set()
        await self.let_go.wait()


async def test_a_later_order_shortens_an_earlier_one() -> None:
    supervisor, child = await begun()
    draining = Draining()
    serving = asyncio.get_running_loop().create_task(serve_until_told(child, draining, 0.5))
    for deadline_s in (3600.0, 0.0):
        supervisor.send(Drain(deadline_s))
        await draining.called.wait()
        draining.called.clear()
        assert not serving.done()
    draining.let_go.set()
    await serving
    assert draining.told == [3600.0, 0.0]
    supervisor.close()
    child.close()


@pytest.mark.parametrize("drains", [False, True])
async def test_a_supervisor_that_dies(drains: bool) -> None:
    """Also while what was in flight had an hour."""
    supervisor, child = await begun()
    draining = Draining()
    serving = asyncio.get_running_loop().create_task(serve_until_told(child, draining, 0.5))
    if drains:
        supervisor.send(Drain(3600.0))
        await draining.called.wait()
        draining.called.clear()
    supervisor.close()
    await draining.called.wait()
    draining.let_go.set()
    await serving
    assert draining.told == [*([3600.0] if drains else []), 0.5]
    child.close()


_ASK = """
import ctypes, os, platform, struct
from gateway.process import take_turns, usable_cpus
take_turns(usable_cpus() + {more})
number = {{"x86_64": 315, "aarch64": 275}}.get(platform.machine())
answer = ctypes.create_string_buffer(56)
if number is not None and ctypes.CDLL(None).syscall(number, 0, answer, 56, 0) == 0:
    _, _, _, nice, _, turn_ns, *_ = struct.unpack("=IIQiIQQQII", answer.raw)
else:
    nice = turn_ns = None
print(os.sched_getscheduler(0), nice, turn_ns)
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="this system does not know turns of this kind")
@pytest.mark.parametrize("more", [0, 1])
def test_workers_take_turns_only_where_they_share_a_cpu(more: int) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", _ASK.format(more=more)], check=True, capture_output=True, text=True, preexec_fn=_nicer
    )
    policy, nice, turn_ns = asked.stdout.split()
    assert int(policy) == (os.SCHED_BATCH if more else os.SCHED_OTHER)
    if turn_ns != "None" and _linux() >= (6, 12):
        assert (nice, turn_ns == str(int(TURN_S * 1e9))) == ("3", bool(more))


def _nicer() -> None:
    os.nice(3 - os.nice(0))


def _linux() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
