"""`gateway limits`: what holds for a key, and why; and spend limits that are opened again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from gateway.__main__ import main
from gateway.accounts.spend import Spend
from gateway.clock import ManualClock
from gateway.control.app import Control, make_door
from gateway.control.commands import Commands
from gateway.control.jobs.spend_audit import NotNowError, Reset
from gateway.control.registry.changes import Changes
from gateway.control.registry.publisher import Publisher
from gateway.control.registry.reconcile import reconcile
from gateway.control.sql.database import Database, database_url
from gateway.keyspace import Keyspace
from gateway.redisdb.client import connect
from gateway.redisdb.failures import RedisLost
from gateway.settings.model import Redis
from gateway.settings.places import command_socket
from gateway.settings.transfer import convert

CONFIG = Path(__file__).parents[3] / "config"
HEAD = ["limit value counted for declared in"]


def explained(capsys: pytest.CaptureFixture[str], *arguments: str, config: Path = CONFIG / "limits.yaml") -> list[str]:
    assert main(["limits", "explain", *arguments, "--config", str(config)]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    key = "key_5bb103090df01ead03aff6ee"
    expected = [
        f"key: proj_chat/web ({key})",
        "user: product",
        "model: gpt-6-mini, in the group gpt-6",
        "reserve: adaptive (limits.reserve)",
        "",
        *HEAD,
        "requests_per_minute 10,000 organization org-gateway limits.organization.requests_per_minute",
        "requests_per_minute 500 project proj_chat, gpt-6 limits.projects.models.*.requests_per_minute",
        f"requests_per_minute unlimited key {key} projects[0].limits.keys.requests_per_minute",
        "tokens_per_minute 8,000,000, at once 1,000,000 project proj_chat, gpt-6 projects[0].limits.models.gpt-6.tokens_per_minute",
        "concurrent_requests 200 project proj_chat limits.projects.concurrent_requests",
        "spend day $300 project proj_chat projects[0].limits.spend.day",
        "spend day unlimited user product limits.by_user.product.spend.day",
        "spend month $5,000 organization org-gateway limits.organization.spend.month",
        "spend month $3,000 project proj_chat projects[0].limits.spend.month",
    ]
    assert explained(capsys, "proj_chat/web", "gpt-6-mini") == expected
    assert explained(capsys, key, "gpt-6-mini") == expected
    key_hash = "sha256:0b4f1c8a7e2d5936f80a1b6c3d9e4f72a5c8b1d06e3f9a274c5d8e1b7f0a3962"
    assert explained(capsys, key_hash, "gpt-6-mini") == expected


def test_the_keys_own_and_shadow(capsys: pytest.CaptureFixture[str]) -> None:
    lines = explained(capsys, "proj_people/ada", "o3")
    assert "reserve: strict (projects[1].limits.reserve)" in lines
    assert "tokens_per_minute 200,000 project proj_people, o3 limits.projects.models.*.tokens_per_minute" in lines
    assert "spend day $100 (shadow) user ada@example.com limits.by_user.ada@example.com.spend.day" in lines
    lines = explained(capsys, "proj_people/nightly")
    assert "model: none" in lines
    assert not any("models" in line for line in lines)
    key = "key key_302672c5949247d67db68255"
    assert f"requests_per_minute 600, at once 20 {key} projects[1].keys[1].limits.requests_per_minute" in lines
    assert f"spend total $99.99 {key} projects[1].keys[1].limits.spend.total" in lines


def test_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    page = (CONFIG.parent / "docs" / "limits-and-budgets.md").read_text()
    main(["limits", "explain", "proj_chat/web", "gpt-6-mini", "--config", str(CONFIG / "limits.yaml")])
    assert "".join(f"    {line}".rstrip() + "\n" for line in capsys.readouterr().out.splitlines()) in page


def test_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    lines = explained(capsys, "proj_example/first", "gpt-6", config=CONFIG / "gateway.yaml")
    assert lines[-2:] == ["", "Nothing is limited."]


def test_columns_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    main(["limits", "explain", "proj_chat/web", "--config", str(CONFIG / "limits.yaml")])
    head, *rows = capsys.readouterr().out.split("\n\n")[1].splitlines()
    at = head.index("declared in")
    assert all(row[at - 1] == " " and row[at] in "lp" for row in rows)


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["limits", "explain", "proj_chat/wbe", "o3", "--config", str(CONFIG / "limits.yaml")]) == 2
    assert capsys.readouterr().err == "gateway: no key is called proj_chat/wbe; did you mean proj_chat/web?\n"
    assert main(["limits", "explain", "a", "o3", "--config", "/nowhere.yaml"]) == 2
    assert capsys.readouterr().err.startswith("/nowhere.yaml:0: the file: cannot be read")


class Audit:
    """Does what is told, on paper."""

    def __init__(self) -> None:
        self.told: list[bool] = []
        self.closed = True
        self.fails: Exception | None = None

    async def reset(self, *, zero: bool) -> Reset:
        if self.fails is not None:
            raise self.fails
        self.told.append(zero)
        opened, self.closed = self.closed, False
        return Reset(opened, zero)


@contextlib.asynccontextmanager
async def control(folder: Path, audit: Any) -> AsyncIterator[Control]:
    """A control process's sockets, with no Redis behind them."""
    settings = convert({"upstreams": {"a": {"base_url": "http://a/v1"}}, "data_dir": str(folder)})
    client = connect(Redis(), embedded_url=f"unix://{folder}/none.sock")
    clock, log = ManualClock(), structlog.get_logger()
    database = await Database.open(database_url(settings))
    await reconcile(Changes(database, clock), settings, clock)
    publisher = Publisher(settings, client, database, clock=clock, log=log)
    door = make_door(settings, publisher, database, Spend(client, Keyspace()), clock, log)
    unused: Any = None
    process = Control(settings, door, Commands(publisher, database, door, audit, unused, log=log))
    await process.listen([])
    try:
        with capture_logs():  # else they would be printed among what the command says
            yield process
    finally:
        await process.close()
        await client.aclose()
        await database.close()


async def reset(capsys: pytest.CaptureFixture[str], folder: Path, *more: str) -> tuple[int, str]:
    status = await asyncio.to_thread(main, ["limits", "reset-spend", "--data-dir", str(folder), *more])
    said = capsys.readouterr()
    return status, said.out or said.err


async def test_reset_spend(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    audit = Audit()
    counted = "what was spent is counted as the ledger has it (--zero forgets it)\n"
    anew = "all windows begin anew, with the calls that are being served\n"
    async with control(tmp_path, audit):
        assert await reset(capsys, tmp_path) == (0, f"spend limits were closed, and are open again\n{counted}")
        assert await reset(capsys, tmp_path) == (0, f"spend limits were open already\n{counted}")
        assert await reset(capsys, tmp_path, "--zero") == (0, f"spend limits were open already\n{anew}")
        assert audit.told == [False, False, True]
        for error, said in (
            (RedisLost("away"), "Redis does not answer as it should: away"),
            (NotNowError("usage is still being folded"), "usage is still being folded"),
            (OSError("no space"), "the database does not answer as it should: no space"),
        ):
            audit.fails = error
            assert await reset(capsys, tmp_path) == (1, f"gateway: {said}\n")
    status, said = await reset(capsys, tmp_path)
    assert (status, said) == (1, f"gateway: no gateway runs on {tmp_path}: its control process does not answer\n")


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"zero": 1}'])
async def test_a_reset_that_nobody_understands(tmp_path: Path, body: str) -> None:
    audit = Audit()
    async with control(tmp_path, audit) as process:
        reader, writer = await asyncio.open_unix_connection(str(command_socket(process._settings)))
        head = f"POST /limits/reset-spend HTTP/1.1\r\nHost: control\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(f"{head}{body}".encode())
        assert b" 400 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
    assert audit.told == []
