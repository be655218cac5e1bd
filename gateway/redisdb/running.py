"""Which servers hold the data, and since when they run."""

import re

import msgspec

from gateway.redisdb.client import Client
from gateway.redisdb.failures import RedisReplyError

_FIELD = re.compile(rb"^(run_id|uptime_in_seconds):(\w+)", re.MULTILINE)


class Running(msgspec.Struct, frozen=True):
    """A server. run_id: another one each time that it is started."""

    run_id: str
    uptime_s: int


async def running(client: Client) -> list[Running]:
    """The primaries; none if a managed service does not let us ask. Raises RedisFailure."""
    try:
        replies = await client.on_each_primary("INFO", "server")
    except RedisReplyError:
        return []
    return list(map(_parsed, replies))


def _parsed(reply: object) -> Running:
    fields = reply if isinstance(reply, dict) else {}
    if isinstance(reply, bytes):
        fields = {name.decode(): value.decode() for name, value in _FIELD.findall(reply)}
    return Running(str(fields.get("run_id", "")), int(fields.get("uptime_in_seconds", 0)))
