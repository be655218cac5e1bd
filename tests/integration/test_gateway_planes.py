"""`gateway proxy` and `gateway control`, each alone, with a Redis between them: as containers run them."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import ADMIN_KEY, KEY, OTHER_KEY, Gateway, gateway_command
from tests.fakes.measuring import Measured
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import VALKEY, StartServer, eventually, eventually_blocking
from tests.fakes.streams import Stream

ADMIN = "/v1/organization/projects"
NO_WORKERS = {"ready": 0, "starting": 0, "draining": 0}


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        yield session


class Planes:
    """A Redis, a control plane, and as many proxies as a test starts."""

    def __init__(self, start_gateway: StartGateway, start_server: StartServer) -> None:
        self._start = start_gateway
        self.redis = start_server(VALKEY, "--appendonly", "yes", port=free_port())
        self.port = free_port()

    def control(self, *, before: Gateway | None = None) -> Gateway:
        more: dict[str, Any] = {"data_dir": str(before.data_dir)} if before is not None else {}
        listeners = {"admin": {"port": self.port}}
        return self._start(command="control", redis={"url": self.redis.url}, listeners=listeners, **more)

    def proxy(self, workers: int = 1) -> Gateway:
        return self._start(
            command="proxy",
            redis={"url": self.redis.url},
            workers={"count": workers},
            projects=None,  # it has no keys of its own: they come from Redis
            admin_keys=None,
            control_url=f"http://127.0.0.1:{self.port}",
        )


@pytest.fixture
def planes(start_gateway: StartGateway, start_server: StartServer) -> Planes:
    return Planes(start_gateway, start_server)


def admin(gateway: Gateway, key: str = ADMIN_KEY, at: str = "proxy") -> int:
    return gateway.ask(ADMIN, key=key, at=at).status


def test_each_runs_what_it_is_for(planes: Planes) -> None:
    control, proxy = planes.control(), planes.proxy()
    assert {p.role for p in control.processes()} == {"supervisor", "control"}
    assert {p.role for p in proxy.processes()} == {"supervisor", "nursery", "worker"}
    assert set(control.addresses) == {"admin", "operations"}
    assert set(proxy.addresses) == {"proxy", "operations"}
    assert control.readyz() == (200, {"status": "ready", "workers": NO_WORKERS, "away": {}})
    assert proxy.readyz() == (200, {"status": "ready", "workers": {**NO_WORKERS, "ready": 1}, "away": {}})
    assert control.metric("gateway_info") == proxy.metric("gateway_info") == 1
    assert proxy.chat().status == 200
    # The admin API is under the proxy's /v1, and in its own place; keys are good for one of the two planes.
    assert [admin(proxy), admin(control, at="admin")] == [200, 200]
    assert [admin(proxy, KEY), admin(control, KEY, "admin")] == [401, 401]
    assert proxy.chat(key=ADMIN_KEY).status == 401
    for gateway in (proxy, control):
        assert gateway.stop() == 0
        assert gateway.events("stopped")


def test_control_goes_and_comes_back(planes: Planes) -> None:
    """Admin calls say so in OpenAI's words; all else goes on, in a proxy that is started meanwhile too."""
    control, proxy = planes.control(), planes.proxy()
    assert admin(proxy) == 200
    control.signal(signal.SIGKILL)
    eventually_blocking(lambda: control.processes() == [])
    answer = proxy.ask(ADMIN, key=ADMIN_KEY)
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/json")
    assert answer.json() == {
        "error": {
            "message": "The admin API is not reachable right now. Please try again later.",
            "type": "service_unavailable_error",
            "param": None,
            "code": "admin_api_unavailable",
        }
    }
    assert answer.headers["Retry-After"] == "2"
    other = planes.proxy()
    for each in (proxy, other):
        assert each.chat().status == 200
        assert each.chat(key="sk-gw-nobodys-key-of-a-usual-length").status == 401
    planes.control(before=control)
    for each in (proxy, other):
        assert admin(each) == 200


async def test_revoking_reaches_every_proxy(planes: Planes, client: aiohttp.ClientSession, measured: Measured) -> None:
    """Within a second, in all workers; and ends what runs."""
    control = planes.control()
    proxies = [planes.proxy(workers=2), planes.proxy(workers=1)]
    streams = [await Stream(proxy, client, key=OTHER_KEY).begun() for proxy in proxies for _ in range(4)]
    stays = await Stream(proxies[0], client).begun()
    loop = asyncio.get_running_loop()
    where = ["--data-dir", str(control.data_dir)]
    told = loop.create_task(asyncio.to_thread(gateway_command, "keys", "revoke", "proj_a/two", *where))
    await eventually(lambda: control.events("key_revoked"))
    began = time.monotonic()
    await asyncio.gather(*(stream.ended() for stream in streams))
    took = time.monotonic() - began
    measured("streams at two proxies ended after their key was revoked at control", took, "s", "< 1 s")
    assert took < 1
    assert {stream.error["code"] for stream in streams} == {"invalid_api_key"}
    for proxy in proxies:
        for _ in range(8):
            assert (await asyncio.to_thread(proxy.chat, key=OTHER_KEY)).status == 401
        assert (await asyncio.to_thread(proxy.chat)).status == 200
    assert (await told).stdout.startswith("revoked proj_a/two (key_")
    await stays.goes_on()
    await stays.leave()


def test_redis_goes_and_comes_back(planes: Planes) -> None:
    """Each plane says so, and publishes or asks again by itself; also if what comes back is empty."""
    control, proxy = planes.control(), planes.proxy()
    assert proxy.chat().status == 200
    planes.redis.kill()
    for gateway in (control, proxy):
        eventually_blocking(lambda of=gateway: list(of.readyz()[1]["away"]) == ["redis"])  # type: ignore[misc]
        assert gateway.readyz()[0] == 200
    assert proxy.chat().status == 200, "a known key"
    assert proxy.chat(key=OTHER_KEY).status == 503, "nobody has asked for this one yet"
    for file in planes.redis.folder.glob("appendonlydir/*"):
        file.unlink()
    planes.redis.start()
    for gateway in (control, proxy):
        eventually_blocking(lambda of=gateway: of.readyz()[1]["away"] == {}, within_s=20)  # type: ignore[misc]
    eventually_blocking(lambda: proxy.chat(key=OTHER_KEY).status == 200)
    assert control.events("read_model_published")[-1]["keys"] == 2


def test_a_proxy_without_a_control_plane(start_gateway: StartGateway, planes: Planes) -> None:
    """Nothing in the settings says where one is: admin calls get the same answer."""
    planes.control()
    proxy = start_gateway(command="proxy", redis={"url": planes.redis.url}, workers={"count": 1})
    assert proxy.chat().status == 200
    assert proxy.ask(ADMIN, key=ADMIN_KEY).json()["error"]["code"] == "admin_api_unavailable"
