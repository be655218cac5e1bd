"""How a child process comes to be."""

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from socket import socket
from typing import Protocol

from gateway.process import CHANNEL_VARIABLE

# Our own environment may hold secrets that the settings name as ${NAME}. A child gets its settings over the leash and
# needs only what the interpreter, its libraries and the system look at.
_PASSED_ON = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|VIRTUAL_ENV|PYTHON\w*|LD_\w+|DYLD_\w+|MALLOC_\w+"
    r"|SSL_CERT_(FILE|DIR)|OPENSSL_CONF|COVERAGE_\w+"
)


class Launched(Protocol):
    """A process that has been started."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> int:
        """Its exit status, negative if a signal ended it."""

    def kill(self) -> None:
        """Ends it without asking. Raises ProcessLookupError if it has ended."""


Launch = Callable[[str, socket, Sequence[socket]], Awaitable[Launched]]
"""Starts a process, given its label, its end of the leash and the sockets that it listens on. Raises OSError; then, or
if it is cancelled, there is none."""


def execute(role: str, environment: Mapping[str, str]) -> Launch:
    """Starts `gateway _child ROLE LABEL`. label: for people who look at `ps`."""

    async def launch(label: str, leash: socket, sockets: Sequence[socket]) -> Launched:
        return await asyncio.create_subprocess_exec(
            # -P: what lies in the current folder is no part of the gateway, whatever its name.
            sys.executable, "-P", "-m", "gateway", "_child", role, label,
            stdin=asyncio.subprocess.DEVNULL,
            env={**inherited(os.environ), **environment, CHANNEL_VARIABLE: str(leash.fileno())},
            pass_fds=[leash.fileno(), *(s.fileno() for s in sockets)],
            start_new_session=True,  # a ^C in the terminal is for the supervisor
        )  # fmt: skip

    return launch


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """What a child gets of our environment."""
    return {name: value for name, value in environment.items() if _PASSED_ON.fullmatch(name)}
