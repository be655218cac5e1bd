"""How often a call asks Redis before the first byte goes upstream: once, and once more for a key that is not known yet."""

import asyncio
import re
import socket

from hiredis import pack_command

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import KEY, OTHER_KEY
from tests.fakes.paid_calls import DURABLE, all_ended, caller, limited, paid
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import VALKEY, Server, StartServer, eventually

RATES = {"requests_per_minute": 1000, "tokens_per_minute": 1_000_000}
PROJECTS = {"requests_per_day": 100_000, "spend": {"day": 100}, "models": {"*": RATES}}
SIX_AND_TWO = {
    "organization": RATES | {"spend": {"month": 100}}, "projects": PROJECTS, "keys": {"requests_per_minute": 1000}
}  # fmt: skip
_LINE = re.compile(r'^\+\S+ \[\d+ (\S+)\] "(\w+)"')


class Monitor:
    """What a server is asked by clients that call themselves so, from now on."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self._name = f"name={name} "
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(10)
        self._connection.connect(str(server.socket))
        self._connection.sendall(pack_command(("MONITOR",)))
        self._left = b""
        self._marks = 0

    def asked(self) -> list[str]:
        """The commands since the last time."""
        self._marks += 1
        mark = f"mark-{self._marks}"
        self._server.command("ECHO", mark)
        while f'"{mark}"'.encode() not in self._left:
            self._left += self._connection.recv(65536)
        lines, self._left = self._left.decode("latin-1").splitlines(), b""
        clients = self._server.command("CLIENT", "LIST").decode().splitlines()
        theirs = {client.split(" addr=")[1].split(" ")[0] for client in clients if self._name in client}
        assert theirs
        found = [match for line in lines if (match := _LINE.match(line))]
        return [match[2].upper() for match in found if match[1] in theirs]

    def close(self) -> None:
        self._connection.close()


async def test_round_trips(start_gateway: StartGateway, start_server: StartServer) -> None:
    server = start_server(VALKEY, *DURABLE, port=free_port())
    async with paid() as upstream:
        settings = limited(server, upstream, {}) | {"limits": SIX_AND_TWO, "workers": {"count": 1}}
        gateway = start_gateway(**settings)
        async with caller(gateway) as calls:
            assert [answer.status for answer in await calls.round(1, upstream)] == [
                200
            ]  # now the worker knows the limits
            await all_ended(server)
            monitor = Monitor(server, "gateway-hot")

            async def asked(key: str) -> list[str]:
                """While one call with this key is held upstream."""
                monitor.asked()
                upstream.gate.clear()
                came = len(upstream.came)
                calling = asyncio.ensure_future(calls.call(key=key))
                await eventually(lambda: len(upstream.came) > came)
                found = monitor.asked()
                upstream.gate.set()
                assert (await calling).status == 200
                await all_ended(server)
                return found

            assert await asked(KEY) == ["EVALSHA"]
            assert await asked(OTHER_KEY) == ["HMGET", "EVALSHA"]
            assert await asked(OTHER_KEY) == ["EVALSHA"]
            monitor.close()
