"""`gateway keys`: made, hashed, revoked; and what revoking does to a gateway that is serving."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest

from gateway.redisdb.client import connect
from gateway.settings.model import Redis
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import KEY, OTHER_KEY, Gateway, gateway_command
from tests.fakes.measuring import Measured
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import VALKEY, StartServer, eventually, eventually_blocking
from tests.fakes.streams import Stream

THIRD_KEY = "sk-gw-test-KEYEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE5"
EXPIRED_KEY = "sk-gw-test-KEYFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF6"


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        yield session


def revoke(gateway: Gateway, key: str) -> tuple[int, str]:
    done = gateway_command("keys", "revoke", key, "--data-dir", str(gateway.data_dir))
    return done.returncode, done.stdout or done.stderr


def test_new_keys_and_their_hashes() -> None:
    made = gateway_command("keys", "new")
    key, key_hash = re.findall(r"(?:sk-gw-|sha256:)\S+", made.stdout)
    assert len(key) > 40
    assert gateway_command("keys", "hash", input=f"{key}\n").stdout == f"{key_hash}\n"
    assert gateway_command("keys", "new").stdout != made.stdout
    for nothing in ("", "\n", "   \n"):
        done = gateway_command("keys", "hash", input=nothing)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "gateway: expected a key on standard input\n"


def test_no_gateway_to_tell(start_gateway: StartGateway) -> None:
    gateway = start_gateway(wait=False, redis={"binary": "/bin/false"})
    gateway.errors_allowed = True
    gateway.until_ended()
    status, said = revoke(gateway, "proj_a/one")
    assert status == 1
    assert said == f"gateway: no gateway runs on {gateway.data_dir}: its control process does not answer\n"
    done = gateway_command("keys", "revoke", "proj_a/one", "--config", str(gateway.file))
    assert (done.returncode, done.stderr) == (1, said)
    done = gateway_command("keys", "revoke", "proj_a/one", "--config", "/nowhere.yaml")
    assert (done.returncode, done.stderr) == (
        2,
        "/nowhere.yaml:0: the file: cannot be read: No such file or directory\n",
    )


async def test_revoking(start_gateway: StartGateway, client: aiohttp.ClientSession, measured: Measured) -> None:
    """It reaches all workers and ends what runs, and stays, whatever is restarted or emptied."""
    keys = [
        {"name": "one", "secret": KEY},
        {"name": "two", "secret": OTHER_KEY},
        {"name": "three", "secret": THIRD_KEY},
        {"name": "old", "secret": EXPIRED_KEY, "expires_at": 1_600_000_000},
    ]
    gateway = start_gateway(workers={"count": 2}, projects=[{"id": "proj_a", "keys": keys}])
    gateway.secrets |= {THIRD_KEY, EXPIRED_KEY}
    assert gateway.chat(key=EXPIRED_KEY).status == 401
    streams = [await Stream(gateway, client, key=OTHER_KEY).begun() for _ in range(8)]
    bystander = await Stream(gateway, client).begun()
    loop = asyncio.get_running_loop()

    told = loop.create_task(asyncio.to_thread(revoke, gateway, "proj_a/two"))
    await eventually(lambda: gateway.events("key_revoked"))
    revoked_at = gateway.events("key_revoked")[0]["ts"]
    await asyncio.gather(*(stream.ended() for stream in streams))
    ended = [line["ts"] for line in gateway.events("exchanges_of_revoked_key_ended")]
    assert (await told)[0] == 0
    measured("open streams of a revoked key ended after", max(ended) - revoked_at, "s", "< 1 s")
    assert max(ended) - revoked_at < 1
    for stream in streams:
        assert stream.error["code"] == "invalid_api_key"
        assert stream.broke is not None
    for _ in range(8):
        answer = await asyncio.to_thread(gateway.chat, key=OTHER_KEY)
        assert answer.status == 401
    await bystander.goes_on()
    assert gateway.chat().status == 200

    status, said = await asyncio.to_thread(revoke, gateway, "proj_a/too")
    assert (status, said) == (
        1,
        "gateway: no key is called proj_a/too; did you mean proj_a/two, proj_a/one, proj_a/old?\n",
    )
    principal = next(line["key"] for line in gateway.events("key_revoked"))
    assert (await asyncio.to_thread(revoke, gateway, principal))[0] == 0, "by its id, and a second time"

    await emptied(gateway)
    assert gateway.chat(key=THIRD_KEY).status == 200
    assert gateway.chat(key=OTHER_KEY).status == 401
    await bystander.goes_on()
    await bystander.leave()
    gateway.kill("control")
    await eventually(lambda: len(gateway.events("process_ready", role="control")) == 2)
    assert gateway.events("read_model_published")[-1]["keys"] == 0, "what is published already is left alone"
    assert gateway.chat(key=OTHER_KEY).status == 401


def test_revoking_while_the_control_process_is_replaced(start_gateway: StartGateway) -> None:
    """It is not told that there is no gateway, but waits for the next one."""
    gateway = start_gateway(workers={"count": 1})
    killed: set[int] = set()

    def away_for_a_while() -> bool:
        """Killed so often that the next start waits."""
        for pid in set(gateway.pids("control")) - killed:
            killed.add(pid)
            gateway.signal(signal.SIGKILL, pid)
        delays = [line["restart_in_s"] for line in gateway.events("process_ended", role="control")]
        return bool(delays) and delays[-1] >= 0.8

    eventually_blocking(away_for_a_while, within_s=30)
    status, said = revoke(gateway, "proj_a/two")
    assert (status, said.startswith("revoked proj_a/two (")) == (0, True)
    eventually_blocking(lambda: gateway.chat(key=OTHER_KEY).status == 401)


async def emptied(gateway: Gateway) -> None:
    """An empty Redis, whose keys come back by themselves: workers that ask meanwhile know no key."""
    published = len(gateway.events("read_model_published"))
    connection = connect(Redis(), embedded_url=f"unix://{gateway.data_dir}/valkey/valkey.sock")
    await connection.execute("FLUSHALL")
    await connection.aclose()
    await eventually(lambda: len(gateway.events("read_model_published")) > published)


def test_revoking_while_redis_is_away(start_gateway: StartGateway, start_server: StartServer) -> None:
    """It is remembered, and done when Redis is back."""
    server = start_server(VALKEY, "--appendonly", "yes", port=free_port())
    gateway = start_gateway(redis={"url": server.url}, workers={"count": 1})
    assert gateway.chat(key=OTHER_KEY).status == 200
    server.kill()
    status, said = revoke(gateway, "proj_a/two")
    assert status == 1
    assert said.startswith("gateway: it will be revoked as soon as Redis answers: ")
    assert gateway.chat(key=OTHER_KEY).status == 200, "known keys are served, for nobody can tell"
    server.start()
    eventually_blocking(lambda: gateway.chat(key=OTHER_KEY).status == 401, within_s=15)
    assert gateway.chat().status == 200


def test_rebuilding_the_read_model(start_gateway: StartGateway, start_server: StartServer) -> None:
    server = start_server(VALKEY, "--appendonly", "yes", port=free_port())
    gateway = start_gateway(redis={"url": server.url})
    where = ("--data-dir", str(gateway.data_dir))
    done = gateway_command("control", "rebuild", *where)
    assert (done.returncode, done.stdout) == (
        0,
        "Redis has everything that workers have to know; nothing was written\n",
    )
    for key in server.command("KEYS", "gateway:key:*"):
        server.command("DEL", key)
    done = gateway_command("control", "rebuild", *where)
    assert (done.returncode, done.stdout) == (0, "written: 2 keys (0 of them withdrawn), 0 documents of limits\n")
    assert gateway.chat().status == 200
    done = gateway_command("control")
    assert done.returncode == 2
    done = gateway_command("control", *where)
    assert (done.returncode, "control takes --config to run" in done.stderr) == (2, True)
