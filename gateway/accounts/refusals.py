"""Records of refusals: apart from the usage stream, capped, and lost if Redis is away."""

from collections.abc import Sequence

import msgspec

from gateway.keyspace import Keyspace
from gateway.redisdb.client import Client
from gateway.redisdb.command import Arg

_MOST_KEPT = 10_000  # in Redis, of an organization; about


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record of refused calls. at_us: since 1970. limit: its name in settings, `spend.month` of spend. count: of
    calls; of one, request_id is its id; of more, they are those of the minute that were not told one by one. shadow:
    they passed.
    """

    at_us: int
    organization_id: str
    project_id: str
    user_id: str
    key_id: str
    limit: str
    scope: str
    subject: str
    model: str = ""
    request_id: str = ""
    count: int = 1
    shadow: bool = False


_encode = msgspec.json.Encoder().encode


class Refusals:
    """The way into the streams, and out."""

    def __init__(self, client: Client, keyspace: Keyspace) -> None:
        self._client = client
        self._keyspace = keyspace

    async def append(self, refusals: Sequence[Refusal]) -> None:
        """Raises RedisFailure; then some may be there and some not."""
        if refusals:
            await self._client.pipeline([self._command(one) for one in refusals])

    def _command(self, refusal: Refusal) -> tuple[Arg, ...]:
        stream = self._keyspace.refusals(refusal.organization_id)
        return ("XADD", stream, "MAXLEN", "~", _MOST_KEPT, "*", "r", _encode(refusal))

    async def newest(self, organization_id: str, most: int = 100) -> list[Refusal]:
        """The newest first. Raises RedisFailure."""
        found = await self._client.execute(
            "XREVRANGE", self._keyspace.refusals(organization_id), "+", "-", "COUNT", most
        )
        return [msgspec.json.decode(fields[b"r"], type=Refusal) for _, fields in found]
