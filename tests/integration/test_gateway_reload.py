"""SIGHUP: all of the new settings take effect, without a failed call; or none, and the log says why."""

import asyncio
import copy
import re
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import ADMIN_KEY, KEY, OTHER_KEY, Gateway, merge
from tests.fakes.load import load
from tests.fakes.redis_servers import eventually
from tests.fakes.streams import Stream
from tests.fakes.upstream import answer, saying, upstream

NEW_KEY = "sk-gw-test-KEYEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE5"
NEW_ADMIN_KEY = "sk-gw-admin-KEYFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF6"
ONE, TWO, NEW = ({"name": n, "secret": s} for n, s in (("one", KEY), ("two", OTHER_KEY), ("new", NEW_KEY)))


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        yield session


async def statuses(gateway: Gateway, key: str, path: str = "/v1/models") -> set[int]:
    """Of several calls, each on a connection of its own, so that they reach all workers."""
    answers = [await asyncio.to_thread(gateway.ask, path, key=key) for _ in range(8)]
    return {found.status for found in answers}


def write(gateway: Gateway, changes: Mapping[str, Any]) -> None:
    """Writes the settings file with changes that the next `rewrite` takes back."""
    changed = copy.deepcopy(gateway.settings)
    merge(changed, changes)
    gateway.file.write_text(yaml.safe_dump(changed))


async def test_new_settings_without_a_failed_call(start_gateway: StartGateway, client: aiohttp.ClientSession) -> None:
    gateway = start_gateway()
    gateway.secrets |= {NEW_KEY, NEW_ADMIN_KEY}
    old_workers = set(gateway.pids("worker"))
    stays = await Stream(gateway, client).begun()
    goes = [await Stream(gateway, client, key=OTHER_KEY).begun() for _ in range(4)]
    assert await statuses(gateway, NEW_KEY) == {401}
    async with upstream(saying(answer(b'{"ok":"new"}'))) as other, load(gateway.port, callers=4) as seen:
        await eventually(lambda: seen.answers > 50)
        gateway.rewrite(
            projects=[{"id": "proj_a", "keys": [ONE, NEW]}],
            admin_keys=[NEW_ADMIN_KEY],
            upstreams={"simulator": {"base_url": other.url}},
        )
        line = await gateway.reload()
        assert (line["event"], line["level"]) == ("settings_reloaded", "info")
        before = len(other.requests)
        answers = seen.answers
        await eventually(lambda: seen.answers > answers + 50)
        assert len(other.requests) > before
        for key, status in ((KEY, 200), (NEW_KEY, 200), (OTHER_KEY, 401)):
            assert await statuses(gateway, key) == {status}
        found = await asyncio.to_thread(gateway.ask, "/v1/models")
        assert found.json() == {"ok": "new"}
        for key, status in ((NEW_ADMIN_KEY, 200), (ADMIN_KEY, 401)):
            assert await statuses(gateway, key, "/v1/organization/projects") == {status}
        assert gateway.metric("gateway_reloads_total", result="reloaded") == 1
        seen.stop()
    assert seen.failures == []
    await asyncio.gather(*(stream.ended() for stream in goes))
    assert {stream.error["code"] for stream in goes} == {"invalid_api_key"}
    await stays.goes_on()
    assert old_workers & {p.pid for p in gateway.processes()}, "an old worker ends what it has begun"
    await stays.leave()
    await eventually(lambda: not old_workers & {p.pid for p in gateway.processes()}, within_s=20)
    assert not gateway.events("process_ended")
    assert not gateway.events("process_killed")


async def test_settings_that_cannot_be_taken_up(start_gateway: StartGateway, tmp_path: Path) -> None:
    """Each leaves all as it was, says so in one line, and the next one that is right is taken."""
    gateway = start_gateway(workers={"count": 1})
    (tmp_path / "ca.pem").write_text("no certificate")
    (worker,), control = gateway.pids("worker"), gateway.one("control")
    projects = [{"id": "proj_a", "keys": [TWO]}]
    file = re.escape(str(gateway.file))
    wrong = {"projects": projects, "logs": {"level": "loud"}, "workers": {"cuont": 2}}
    ca = {"simulator": {"base_url": "https://127.0.0.1:1/v1", "tls": {"ca_file": str(tmp_path / "ca.pem")}}}
    level = r"logs\.level: expected one of debug, error, info, warning, got 'loud'"
    broken: list[tuple[dict[str, Any], str]] = [
        (wrong, rf"{file}:\d+: {level}\n{file}:\d+: workers\.cuont: is not a setting; did you mean count\?"),
        (
            {"upstreams": {"simulator": {"api_key": "${file:gone}"}}},
            rf"{file}:\d+: upstreams\.simulator\.api_key: expected to read the file \S+/gone: No such file or directory",
        ),
        ({"projects": projects, "workers": {"count": 2}}, r"a change of workers\.count takes a restart"),
        ({"projects": projects, "listeners": {"proxy": {"port": 1}}}, "a change of listeners takes a restart"),
        (
            {"projects": projects, "upstreams": ca},
            rf"{file}:\d+: upstreams\.simulator\.tls\.ca_file: expected certificates in PEM form in \S+",
        ),
    ]
    for number, (change, complaint) in enumerate(broken, 1):
        write(gateway, change)
        line = await gateway.reload()
        assert (line["event"], line["level"]) == ("reload_failed_old_settings_stay", "error")
        assert re.fullmatch(complaint, line["reason"]), line["reason"]
        assert gateway.metric("gateway_reloads_total", result="kept") == number
        assert await statuses(gateway, KEY) == {200}
    assert len(gateway.events("reload_failed_old_settings_stay")) == len(broken), "a line for each"
    assert (gateway.pids("worker"), gateway.one("control")) == ([worker], control)
    gateway.rewrite()
    assert (await gateway.reload())["event"] == "settings_reloaded"
    await eventually(lambda: worker not in {p.pid for p in gateway.processes()})
    assert gateway.readyz()[1]["workers"] == {"ready": 1, "starting": 0, "draining": 0}
    assert await statuses(gateway, KEY) == {200}


async def test_a_worker_that_does_not_start(start_gateway: StartGateway) -> None:
    """One of the new ones ends before it is ready: then none of them serves."""
    gateway = start_gateway()
    old = set(gateway.pids("worker"))
    gateway.rewrite(projects=[{"id": "proj_a", "keys": [TWO]}])
    async with load(gateway.port, callers=4) as seen:
        reloading = asyncio.get_running_loop().create_task(gateway.reload())
        victim = (await eventually(lambda: gateway.pids("not ready")))[0]
        gateway.signal(signal.SIGKILL, victim)
        line = await reloading
        seen.stop()
    assert line["event"] == "reload_failed_old_settings_stay"
    assert line["reason"] == "the workers cannot start: it ended with status -9; see its log lines"
    assert seen.failures == []
    assert {p.pid for p in gateway.processes() if p.role in {"worker", "not ready"}} == old
    assert await statuses(gateway, KEY) == {200}
    assert (await gateway.reload())["event"] == "settings_reloaded"
    assert await statuses(gateway, KEY) == {401}


async def test_a_file_that_is_gone(start_gateway: StartGateway) -> None:
    gateway = start_gateway(workers={"count": 1})
    gateway.file.unlink()
    line = await gateway.reload()
    assert line["reason"] == f"{gateway.file}:0: the file: cannot be read: No such file or directory"
    assert gateway.chat().status == 200


async def test_many_signals_at_once(start_gateway: StartGateway) -> None:
    """Also before it serves: none is lost, none ends it, and the last settings are those that hold."""
    gateway = start_gateway(workers={"count": 1}, wait=False)
    gateway.secrets.add(NEW_KEY)
    await eventually(lambda: gateway.pids("control"), within_s=30)
    gateway.rewrite(projects=[{"id": "proj_a", "keys": [ONE, NEW]}])
    gateway.signal(signal.SIGHUP)
    await asyncio.to_thread(gateway.until_serving)
    await eventually(lambda: gateway.events("settings_reloaded"), within_s=30)
    assert await statuses(gateway, NEW_KEY) == {200}
    gateway.rewrite(projects=[{"id": "proj_a", "keys": [ONE]}])
    for _ in range(5):
        gateway.signal(signal.SIGHUP)
    await eventually(lambda: len(gateway.events("settings_reloaded")) >= 2, within_s=30)
    await eventually(
        lambda: {p.role for p in gateway.processes()} == ALL and len(gateway.processes()) == len(ALL), within_s=30
    )
    assert await statuses(gateway, NEW_KEY) == {401}
    assert await statuses(gateway, KEY) == {200}


ALL = {"supervisor", "nursery", "worker", "control", "valkey"}


async def test_an_end_in_the_middle_of_a_reload(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    before = {p.pid for p in gateway.processes()}
    gateway.signal(signal.SIGHUP)
    await eventually(lambda: {p.pid for p in gateway.processes()} - before)
    assert await asyncio.to_thread(gateway.stop) == 0
    assert gateway.processes() == []
    assert not gateway.events("process_killed")
