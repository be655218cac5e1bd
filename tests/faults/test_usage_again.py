"""Usage that Redis acknowledged and lost, and a stream that nobody folds."""

import asyncio
from pathlib import Path

import pytest

from gateway.accounts.usage_stream import pack, unpack
from gateway.limits import CONCURRENT
from tests.fakes.events import KEYS, ORG, PATIENT, event, ids, streamed
from tests.fakes.redis_servers import VALKEY, Server, StartServer, eventually
from tests.fakes.usage_stand import Stand, stand
from tests.unit.accounts.stand import Accounts, plan_of, rate

COST = pack(event(0)).nano_usd
PLAN = plan_of(rate("key", "key_1", CONCURRENT, 1_000))


def in_server_time(server: Server) -> Accounts:
    accounts = Accounts(server)
    accounts.now = 0
    return accounts


def spent(server: Server) -> int:
    return int(server.command("HGET", f"{KEYS.base(ORG)}:spend", "t:o") or 0)


def repeated(worker: Stand) -> list[tuple[int, int]]:
    """Events and missing ones, each time."""
    return [(line["events"], line["missing"]) for line in worker.said("usage_repeated")]


async def test_an_emptied_redis_gets_all_of_it_again(redis_server: Server, tmp_path: Path) -> None:
    """It keeps nothing on disk, and is killed."""
    async with stand(redis_server.settings(), tmp_path) as worker:
        worker.add(*range(1000))
        await worker.outbox.drain()
        redis_server.kill()
        worker.add(*range(1000, 1100))
        await eventually(lambda: worker.count("spooled") >= 100)
        for _ in range(2):  # then also what was sent again, and what came from the disk
            worker.events.clear()
            await asyncio.to_thread(redis_server.start)
            await eventually(lambda: len(streamed(redis_server)) >= 1100 and repeated(worker))
            assert sorted(streamed(redis_server)) == sorted(ids(*range(1100))), "each once"
            assert spent(redis_server) == 1100 * COST
            (line, *_) = worker.said("usage_repeated")
            assert line["events"] == line["missing"] > 0
            assert line["level"] == "warning"
            assert worker.count("repeated") >= line["events"]
            redis_server.kill()
            await eventually(lambda: worker.hot.trouble is not None)


async def test_the_last_second_of_an_append_only_file(start_server: StartServer, tmp_path: Path) -> None:
    """It is cut off: Redis has reservations again that had been settled, and never had others that had been, too."""
    server = start_server(VALKEY, "--appendonly", "yes", "--appendfsync", "everysec")
    accounts = in_server_time(server)
    async with stand(server.settings(deadline_ms=PATIENT), tmp_path) as worker:
        worker.add("early")
        await worker.outbox.drain()
        for number in range(10):
            accounts.admitted(PLAN, f"req_{number}", nano_usd=10 * COST)
        (file,) = (server.folder / "appendonlydir").glob("*.incr.aof")
        on_disk = file.stat().st_size
        for number in range(10, 20):
            accounts.admitted(PLAN, f"req_{number}", nano_usd=10 * COST)
        worker.add(*range(30))
        await worker.outbox.drain()
        assert spent(server) == 31 * COST
        server.kill()
        accounts.redis.close()
        with file.open("r+b") as cut:
            cut.truncate(on_disk)
        await asyncio.to_thread(server.start)
        await eventually(lambda: repeated(worker) == [(31, 30)])
        assert streamed(server) == ids("early", *range(30))
        assert spent(server) == 31 * COST
    accounts = in_server_time(server)
    assert accounts.running() == {}
    assert accounts.keys("leases") == []
    accounts.redis.close()


async def test_a_connection_that_broke_alone_changes_nothing(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    async with stand(server.settings(deadline_ms=PATIENT), tmp_path) as worker:
        worker.add(*range(300))
        await worker.outbox.drain()
        for time in (1, 2):
            server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await eventually(lambda: len(repeated(worker)) == time)  # noqa: B023 - it is asked at once
        assert repeated(worker) == [(300, 0)] * 2
        assert worker.said("usage_repeated")[0]["level"] == "info"
        assert streamed(server) == ids(*range(300))
        assert spent(server) == 300 * COST


async def test_it_is_lost_while_it_is_sent_again(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    async with stand(server.settings(), tmp_path) as worker:
        worker.add(*range(1000))
        await worker.outbox.drain()
        server.kill()
        await asyncio.to_thread(server.start)
        await eventually(lambda: worker.count("repeated") >= 200)
        server.kill()
        await asyncio.to_thread(server.start)
        await eventually(lambda: len(set(streamed(server))) == 1000)
        await worker.outbox.drain()
        assert len(streamed(server)) == 1000
        assert spent(server) == 1000 * COST


async def test_new_counters_get_it_again(start_server: StartServer, tmp_path: Path) -> None:
    """Without a connection that breaks."""
    server = start_server()
    async with stand(server.settings(deadline_ms=PATIENT), tmp_path) as worker:
        worker.outbox.epoch_is(ORG, "one")
        worker.add(*range(250))
        worker.outbox.add(event(1, organization_id="org-other"))
        await worker.outbox.drain()
        server.command("FLUSHALL")
        worker.outbox.epoch_is(ORG, None)
        await worker.outbox.drain()
        assert repeated(worker) == [(250, 250)]
        assert streamed(server) == ids(*range(250))
        assert streamed(server, "org-other") == [], "nobody has said anything of that one"
        assert spent(server) == 250 * COST
        server.command("HSET", KEYS.versions(ORG), "epoch", "two")
        worker.outbox.epoch_is(ORG, "two")
        worker.outbox.epoch_is(ORG, "two")
        await worker.outbox.drain()
        assert worker.count("repeated") == 250

        server.command("FLUSHALL")
        server.command("HSET", KEYS.versions(ORG), "epoch", "three")
        worker.outbox.epoch_is(ORG, "three")
        await worker.outbox.drain()
        assert streamed(server) == ids(*range(250))
        assert spent(server) == 250 * COST


async def test_what_is_beyond_the_mark_waits_on_disk(redis_server: Server, tmp_path: Path) -> None:
    accounts = in_server_time(redis_server)
    async with stand(redis_server.settings(deadline_ms=PATIENT), tmp_path, stream_events=100) as worker:
        for number in range(600):
            accounts.admitted(PLAN, f"req_{number}", nano_usd=10 * COST)
        worker.add(*range(200))
        await worker.outbox.drain()
        assert (worker.outbox.full, worker.shows_full) == (False, False)
        assert accounts.running() == {"c:k:key_1": 400}
        for first in range(200, 600, 50):
            worker.add(*range(first, first + 50))
            await worker.outbox.drain()
        assert (worker.outbox.full, worker.shows_full) == (True, True)
        assert streamed(redis_server) == ids(*range(200)), "a batch as a whole, and then nothing"
        await eventually(lambda: accounts.running() == {})
        assert worker.count("spooled") == 400
        assert spent(redis_server) == 600 * COST, "limits know what was used"
        assert accounts.keys("leases") == []

        for _ in range(3):
            redis_server.command("XTRIM", KEYS.usage(ORG), "MAXLEN", 0)
            await eventually(lambda: streamed(redis_server) or worker.said("usage_replayed"))
        await eventually(lambda: worker.said("usage_replayed"))
        assert worker.count("replayed") == 400
        assert [line["level"] for line in worker.said("usage_stream_full")] == ["error"], "once"
        assert worker.said("usage_refused_by_redis") == []
        assert (worker.outbox.full, worker.shows_full) == (False, False)
        assert spent(redis_server) == 600 * COST
        assert accounts.lasting() == []
        assert worker.files == []

        redis_server.command("XTRIM", KEYS.usage(ORG), "MAXLEN", 0)
        worker.add(600)
        await worker.outbox.drain()
        assert worker.count("delivered") == 201
        worker.add(*range(700, 900))
        await worker.outbox.drain()
        worker.add(901)
        await eventually(lambda: len(worker.said("usage_stream_full")) == 2)
    accounts.redis.close()


@pytest.mark.parametrize("how", ["emptied", "full"])
async def test_the_end_while_something_is_sent_again(start_server: StartServer, tmp_path: Path, how: str) -> None:
    """It is not lost in between, and nothing waits for a Redis that does not take it."""
    server = start_server()
    async with stand(server.settings(), tmp_path, stream_events=100) as worker:
        worker.add(*range(50))
        await worker.outbox.drain()
        server.kill()
        worker.add(50)
        await eventually(lambda: worker.count("spooled") >= 1)
        await asyncio.to_thread(server.start)
        if how == "full":
            for number in range(100):
                server.command("XADD", KEYS.usage(ORG), "*", "id", f"other_{number}", "e", f'{{"id":"other_{number}"}}')
        await eventually(lambda: worker.hot.trouble is None)
    left = [unpack(line).id for file in worker.files for line in file.read_bytes().splitlines()]
    if how == "emptied":
        assert set(ids(*range(50))) <= {*streamed(server), *left}
    assert (streamed(server) + left).count("req_50") == 1
