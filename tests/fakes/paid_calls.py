"""Chat calls whose reservation and cost are known to the nano-dollar, their upstream, and what Redis says of them.

Under `strict` a call reserves a token for each byte of its body, its `max_tokens`, and 8 nano-dollars for rounding; a
token costs 8 here, so an answer of `BODY` tokens of input and `MOST + 1` of output costs exactly what was reserved.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from gateway.values import UsageEvent
from tests.fakes.events import KEYS, ORG, PATIENT
from tests.fakes.gateway_process import KEY, OTHER_KEY, Gateway
from tests.fakes.redis_servers import Server, eventually
from tests.fakes.upstream import Exchange, Upstream, answer, upstream

MODEL = "paid-1"
MOST = 99  # max_tokens
NANO = 8  # nano-dollars for a token
BODY = 300  # bytes of a body
RESERVED = NANO * (BODY + MOST + 1)
PRICES = {"models": {MODEL: {"input_tokens": "0.008", "output_tokens": "0.008"}}}
DURABLE = ("--appendonly", "yes", "--appendfsync", "no")


def dollars(nano_usd: int) -> str:
    return f"{nano_usd // 10**9}.{nano_usd % 10**9:09d}"


def body(most: int = MOST) -> bytes:
    """A body of exactly BODY bytes."""
    said: dict[str, Any] = {"model": MODEL, "max_tokens": most, "messages": [{"role": "user", "content": ""}]}
    said["messages"][0]["content"] = "x" * (BODY - len(json.dumps(said)))
    return json.dumps(said).encode()


class Paid:
    """An upstream whose answers wait for `gate`, those to calls of another `max_tokens` for one of their own.

    book: what it answered with, tokens of input and output, by the id of the call; came: all ids that it ever saw.
    """

    def __init__(self) -> None:
        self.gates: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.used = (BODY, MOST + 1)
        self.came: list[str] = []
        self.book: dict[str, tuple[int, int]] = {}
        self.url = ""
        self.upstream: Upstream | None = None

    async def script(self, exchange: Exchange) -> None:
        asked = json.loads(await exchange.whole())
        name = (exchange.header(b"x-request-id") or b"").decode()
        self.came.append(name)
        await self.gates[asked["max_tokens"]].wait()
        self.book[name] = self.used
        exchange.send(answer(completion(*self.used), (b"x-ratelimit-limit-requests", b"77")))

    @property
    def gate(self) -> asyncio.Event:
        return self.gates[MOST]

    @property
    def nano_usd(self) -> int:
        """What all its answers cost."""
        return NANO * sum(map(sum, self.book.values()))


def completion(read: int, written: int) -> bytes:
    return json.dumps({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }).encode()  # fmt: skip


@asynccontextmanager
async def paid(*, held: bool = True) -> AsyncIterator[Paid]:
    """held: its answers wait until `gate` is set."""
    made = Paid()
    if not held:
        made.gate.set()
    async with upstream(made.script) as listening:
        made.upstream = listening
        made.url = f"http://127.0.0.1:{listening.port}"
        yield made
        for gate in made.gates.values():
            gate.set()


def limited(server: Server, of: Paid, limits: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Settings of a gateway in front of it, whose project has these limits. Its one other key is of another project,
    which has none."""
    return {
        "redis": {"url": server.url, "prefix": KEYS.prefix, "deadline_ms": PATIENT, **more.pop("redis", {})},
        "upstreams": {"simulator": {"base_url": f"{of.url}/v1"}},
        "prices": PRICES,
        "projects": [
            {"id": "proj_a", "keys": [{"name": "one", "secret": KEY}], "limits": limits},
            {"id": "proj_b", "keys": [{"name": "two", "secret": OTHER_KEY}]},
        ],
        **more,
    }


class Said(msgspec.Struct, frozen=True):
    """An answer, or 0 if there was none. Times are the loop's."""

    status: int
    code: str
    headers: dict[str, str]
    began: float
    ended: float

    @property
    def took_s(self) -> float:
        return self.ended - self.began


class Caller:
    """Calls gateways in turn, each time on a connection of its own, so that they spread over all workers."""

    def __init__(self, session: aiohttp.ClientSession, gateways: Sequence[Gateway]) -> None:
        self._session = session
        self._urls = [f"{gateway.base_url}/chat/completions" for gateway in gateways]
        self._calls = 0
        self.said: list[Said] = []

    async def call(self, most: int = MOST, key: str = KEY) -> Said:
        self._calls += 1
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Connection": "close"}
        began = asyncio.get_running_loop().time()
        status, code, found = 0, "", {}
        try:
            url = self._urls[self._calls % len(self._urls)]
            async with self._session.post(url, data=body(most), headers=headers) as got:
                text = await got.read()
                status, found = got.status, {name.lower(): value for name, value in got.headers.items()}
                code = (json.loads(text).get("error") or {}).get("code") or ""
        except (aiohttp.ClientError, OSError) as error:
            code = type(error).__name__
        one = Said(status, code, found, began, asyncio.get_running_loop().time())
        self.said.append(one)
        return one

    async def round(
        self, number: int, of: Paid, *, most: int = MOST, held: Callable[[], Awaitable[None]] | None = None
    ) -> list[Said]:
        """So many calls at once, none of which is answered before all are decided. held: what is to be done then."""
        of.gate.clear()
        came = len(of.came)
        before = len(self.said)
        calls = asyncio.gather(*(self.call(most) for _ in range(number)))
        await eventually(lambda: len(of.came) - came + len(self.said) - before >= number, within_s=60)
        if held is not None:
            await held()
        of.gate.set()
        return list(await calls)

    def statuses(self) -> Counter[int]:
        return Counter(one.status for one in self.said)


@asynccontextmanager
async def caller(*gateways: Gateway, patience_s: float = 60) -> AsyncIterator[Caller]:
    timeout = aiohttp.ClientTimeout(total=patience_s)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield Caller(session, gateways)


def spent(server: Server, subject: str = "p:proj_a") -> int:
    """What a subject has spent and reserved, of all time."""
    return int(server.command("HGET", f"{KEYS.base(ORG)}:spend", f"t:{subject}") or 0)


def living(server: Server) -> int:
    """Reservations that have not ended."""
    return int(server.command("ZCARD", f"{KEYS.base(ORG)}:leases"))


async def all_ended(server: Server, within_s: float = 20) -> None:
    await eventually(lambda: living(server) == 0, within_s=within_s)


def waiting(entries: Sequence[Any]) -> list[UsageEvent]:
    """Of what XRANGE says."""
    return [msgspec.json.decode(fields[3], type=UsageEvent) for _, fields in entries]


def folded(found: Sequence[UsageEvent]) -> dict[str, UsageEvent]:
    """The event that counts of each call: one that is not flagged takes the place of one that is."""
    by_id: dict[str, UsageEvent] = {}
    for event in found:
        before = by_id.get(event.id)
        assert before is None or before.unconfirmed != event.unconfirmed, f"twice in the stream: {event.id}"
        if before is None or before.unconfirmed:
            by_id[event.id] = event
    return by_id


def cost(found: dict[str, UsageEvent]) -> int:
    return sum(line.nano_usd or 0 for event in found.values() for line in event.lines)
