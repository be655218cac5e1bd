"""The nursery, with real processes: what it forks, how their ends are told, and its own end."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from gateway import nursery
from gateway.clock import SystemClock
from gateway.process import Channel, Here, ToSupervisor
from gateway.supervisor.launch import Launched
from gateway.supervisor.nursery import UNKNOWN, Nursery
from gateway.telemetry.logging import make_logger
from gateway.telemetry.metrics import Metrics
from tests.fakes.gateway_process import runs
from tests.fakes.redis_servers import eventually

pytestmark = pytest.mark.skipif(not nursery.possible(), reason="this system has no descriptors of processes")


def make_nursery() -> Nursery:
    log = make_logger("supervisor", "error", SystemClock(), lambda _: None)
    return Nursery({}, Metrics("supervisor").counter("gateway_restarts_total"), log)


class Born(msgspec.Struct):
    """A process that the nursery has forked, and the supervisor's end of its leash."""

    process: Launched
    channel: Channel

    @property
    def pid(self) -> int:
        return self.process.pid

    async def status(self) -> int:
        return await asyncio.wait_for(self.process.wait(), 10)


Birth = Callable[..., Awaitable[Born]]


@pytest.fixture
async def one() -> AsyncIterator[Nursery]:
    one = make_nursery()
    one.start()
    yield one
    await one.stop()


@pytest.fixture
async def born(one: Nursery) -> AsyncIterator[Birth]:
    all_of_them: list[Born] = []

    async def born(label: str = "7", sockets: int = 0) -> Born:
        ours, theirs = socket.socketpair()
        channel = await Channel.over(ours, ToSupervisor)
        with contextlib.ExitStack() as held:
            held.enter_context(theirs)
            opened = [held.enter_context(socket.socket()) for _ in range(sockets)]
            try:
                it = Born(await one.fork(label, theirs, opened), channel)
            except OSError:
                channel.close()
                raise
        all_of_them.append(it)
        assert await asyncio.wait_for(channel.receive(), 10) == Here()
        return it

    yield born
    for each in all_of_them:
        each.channel.close()
        await each.status()
    await asyncio.sleep(0)  # a transport closes in the next turn of the loop


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def descriptors(pid: int) -> list[str]:
    return [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]


async def test_forked_processes_are_what_started_ones_are(born: Birth) -> None:
    first, second = [await born(label, sockets=1) for label in ("0", "1")]
    assert parent(first.pid) == parent(second.pid) != os.getpid()
    assert Path(f"/proc/{second.pid}/comm").read_text() == "worker 1\n"
    first.channel.close()
    assert await first.status() == 1, "there is no supervisor"
    assert runs(second.pid)
    second.process.kill()
    assert await second.status() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        second.process.kill()


async def test_a_forked_process_has_nothing_of_the_others(born: Birth) -> None:
    """No descriptor of another's leash or socket, and none of the nursery's: an end would go unnoticed."""
    nothing, some = await born(), await born(sockets=2)
    more = [len(descriptors(each.pid)) for each in (nothing, some)]
    assert more[1] - more[0] == 2
    assert not [each for each in descriptors(some.pid) if "pidfd" in each]


async def test_those_that_the_nursery_leaves_behind(born: Birth) -> None:
    left = await born()
    os.kill(parent(left.pid), signal.SIGKILL)
    after: Born | None = None
    while after is None:
        with contextlib.suppress(OSError):  # it may be asked before anybody knows
            after = await born()
    assert parent(after.pid) != parent(left.pid)
    assert runs(left.pid)
    left.process.kill()
    assert await left.status() == UNKNOWN


async def test_one_that_nobody_waits_for_any_more(one: Nursery, born: Birth) -> None:
    known = await born()
    mother = parent(known.pid)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        asking = asyncio.ensure_future(one.fork("8", theirs, []))
        await asyncio.sleep(0)  # it has asked
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        after = await born()  # answers come in order
        children = Path(f"/proc/{mother}/task/{mother}/children")
        mine = {str(known.pid), str(after.pid)}
        await eventually(lambda: set(children.read_text().split()) == mine)


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
async def test_a_nursery_that_cannot_be_started(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it in vain."""
    monkeypatch.setattr("sys.executable", program)
    one = make_nursery()
    one.start()
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError, match="the nursery cannot start"):
        await one.fork("0", theirs, [])
    await one.stop()


async def test_its_end_with_the_supervisor() -> None:
    """The process by itself: its socket closes, and it is gone; so are processes that could not be born."""
    ours, theirs = nursery.pair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            os._exit(0 if nursery.tend(theirs) is None else 3)
        except BaseException:  # noqa: BLE001 - this process must not go on with the tests
            os._exit(4)
    theirs.close()
    assert nursery.hear(ours) == (nursery.Waiting(), [])
    nursery.tell(ours, nursery.Fork("0"), [])  # without a leash it cannot live
    heard = nursery.hear(ours)
    assert heard is not None
    assert isinstance(heard[0], nursery.Born)
    os.close(heard[1][0])
    ended = nursery.hear(ours)
    assert ended == (nursery.Ended(heard[0].pid, 4), [])
    ours.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
