"""A control process that dies, by SIGKILL of its own, after the Nth thing that it asked of its database or of Redis.

Run as a program: `python -m tests.fakes.dying_control REDIS_URL DATABASE_URL FOLDER`; each line of its input is `N METHOD
PATH BODY`, for which a process of its own is forked, that starts, makes the request and dies, or not. A line of output
for each: how many things it had asked for, or `died`.
"""

import asyncio
import functools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncTransaction

from gateway.redisdb.client import Client
from tests.fakes.admin_api import admin_api
from tests.fakes.redis_servers import Server

DECLARED = {"projects": [{"id": "proj_d", "limits": {"requests_per_minute": 5}}]}
_STEPS = (
    (AsyncConnection, "execute"),
    (AsyncConnection, "scalar"),
    (AsyncConnection, "scalars"),
    (AsyncTransaction, "commit"),
    (Client, "execute"),
    (Client, "script"),
    (Client, "pipeline"),
)


class Fate:
    """Counts steps; dies after `at` of them. at: 0 lives."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0
        self._inside = False

    def attach(self) -> None:
        for owner, name in _STEPS:
            setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, function: Any) -> Any:
        @functools.wraps(function)
        async def counted(*arguments: Any, **more: Any) -> Any:
            result = await function(*arguments, **more)
            self.steps += 1
            if self.steps == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted


class Named(Server):
    """A server that somebody else has started."""

    def __init__(self, url: str) -> None:
        self._named = url

    @property
    def url(self) -> str:
        return self._named


async def one(redis_url: str, database_url: str, folder: Path, line: str) -> int:
    """One request; returns how many steps it took."""
    at, method, path, body = line.split(" ", 3)
    async with admin_api(Named(redis_url), database_url, folder, **DECLARED) as api:
        fate = Fate(int(at))
        fate.attach()
        answer = await api.ask(method, path, body.encode() or None)
        assert answer.status == 200, answer
        return fate.steps


def main() -> None:
    structlog.configure(
        processors=[structlog.dev.ConsoleRenderer()], logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    redis_url, database_url, folder = sys.argv[1:]
    _say("ready")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _say(asyncio.run(one(redis_url, database_url, Path(folder), line.rstrip("\n"))))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            _say("died")
        elif status:
            _say("failed")


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
