"""`gateway backup`: a copy of the database that a gateway can be started on again."""

import asyncio
import shutil
import stat
from pathlib import Path

import pytest

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import ADMIN_KEY, KEY, OTHER_KEY, Gateway, gateway_command


def make_key(gateway: Gateway, name: str) -> str:
    answer = gateway.ask("/v1/organization/projects/proj_a/service_accounts", {"name": name}, key=ADMIN_KEY)
    assert answer.status == 200, answer.body
    key = str(answer.json()["api_key"]["value"])
    gateway.secrets.add(key)
    return key


async def test_a_gateway_on_the_copy(start_gateway: StartGateway, tmp_path: Path) -> None:
    """With an empty Redis: every key of before the copy works, and what was revoked does not."""
    first = start_gateway(workers={"count": 1})
    keys = [make_key(first, f"before {number}") for number in range(20)]
    ended = make_key(first, "ended")
    done = gateway_command("keys", "revoke", "proj_a/two", "--data-dir", str(first.data_dir))
    assert done.returncode == 0, done.stderr
    accounts = first.ask("/v1/organization/projects/proj_a/api_keys?limit=100", key=ADMIN_KEY).json()["data"]
    (ended_id,) = [one["id"] for one in accounts if one["owner"]["service_account"]["name"] == "ended"]
    assert gateway_command("keys", "revoke", ended_id, "--data-dir", str(first.data_dir)).returncode == 0

    copied = asyncio.Event()
    at_work = asyncio.Event()

    async def go_on() -> int:
        made = 0
        while not copied.is_set():
            await asyncio.to_thread(make_key, first, f"meanwhile {made}")
            made += 1
            at_work.set()
        return made

    going = asyncio.ensure_future(go_on())
    await at_work.wait()
    done = await asyncio.to_thread(
        gateway_command, "backup", "copy.sqlite", "--data-dir", str(first.data_dir), cwd=tmp_path
    )
    copied.set()
    assert await going > 0
    copy = tmp_path / "copy.sqlite"
    assert (done.returncode, done.stdout) == (0, f"{copy}: {copy.stat().st_size} bytes\n"), done.stderr
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    again = gateway_command("backup", str(copy), "--config", str(first.file))
    assert (again.returncode, again.stderr) == (1, f"gateway: {copy}: File exists\n")
    assert first.events("database_backed_up")[0]["bytes"] == copy.stat().st_size
    first.stop()

    place = tmp_path / "second"
    (place / "data").mkdir(parents=True)
    shutil.copy(copy, place / "data" / "registry.sqlite")
    second = start_gateway(folder=place, workers={"count": 1})
    second.secrets |= first.secrets
    assert [second.chat(key=key).status for key in (KEY, *keys)] == [200] * 21
    assert [second.chat(key=key).status for key in (OTHER_KEY, ended)] == [401, 401]
    make_key(second, "after")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_has_its_own_program(start_gateway: StartGateway, database_url: str, tmp_path: Path) -> None:
    gateway = start_gateway(workers={"count": 1}, database={"url": database_url})
    file = tmp_path / "copy"
    done = gateway_command("backup", str(file), "--data-dir", str(gateway.data_dir))
    assert done.stdout.startswith(f"pg_dump --format=custom --file={file} ")
    said = "gateway: nothing is copied: the database is PostgreSQL's, whose own program does it, as above\n"
    assert (done.returncode, done.stderr) == (1, said)
    assert not file.exists()
