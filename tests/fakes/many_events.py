"""A month of an organization: usage events of many keys, each the bytes that a worker would have sent.

Keys and models are drawn by Zipf's law, by sessions of 1 to 60 calls of one key and model: an agent's calls seconds
apart, a chat's up to a minute. The same seed makes the same events.
"""

import heapq
import random
import time
from collections.abc import Callable, Iterator
from itertools import accumulate, islice

from gateway.accounts.usage_stream import Entry
from gateway.clock import ManualClock
from gateway.pricing.book import Book, make_book
from gateway.pricing.units import UnitName
from gateway.settings.model import Prices
from gateway.values import Quantities, UsageLine
from tests.fakes.events import ORG

BEGINS = 1_798_761_600  # 2027-01-01, seconds since 1970
DAYS = 31
KEYS, PROJECTS, USERS, WORKERS = 2_000, 20, 600, 4
SEED = 6
SIZE = "1024x1024"  # of pictures
_DAY_US = 86_400_000_000
_LONGEST = 60  # calls in a session
_REST_US = 7_200_000_000  # of the last day, when no session begins any more
_CHATS = (
    "gpt-4.1-mini", "gpt-4o-mini", "gpt-4.1", "gpt-4o", "o4-mini", "gpt-4.1-nano", "o3", "gpt-5", "gpt-5-mini",
    "gpt-5-nano", "o3-mini", "gpt-oss-120b", "gpt-realtime-mini", "o1", "gpt-3.5-turbo", "gpt-4-turbo",
)  # fmt: skip
MODELS = (
    *_CHATS[:3],
    "text-embedding-3-small",
    *_CHATS[3:9],
    "dall-e-3",
    *_CHATS[9:],
    "text-embedding-3-large",
    "dall-e-2",
)

Body = Callable[[random.Random, bytes, int, int], bytes]
"""The JSON of a call: its id, its time in microseconds since 1970, how many calls of the session were before it."""


class _Session:
    """The calls of one key to one model, until `left` is 0."""

    def __init__(self, body: Body, left: int, pause: tuple[float, float]) -> None:
        self.body = body
        self.left = left
        self.pause = pause  # microseconds between calls, at least and at most
        self.done = 0


def key_id(rank: int) -> str:
    """Of a key by how busy it is, from 0."""
    return f"key_{rank:08x}"


def project_id(rank: int) -> str:
    """Of the project of a key."""
    return f"proj_{rank * 7 % PROJECTS:08x}"


def many_events(count: int, *, seed: int = SEED) -> Iterator[Entry]:
    """So many events of `DAYS` days, in order of time, as they are in a stream."""
    chance = random.Random(seed)
    book = make_book(Prices())
    ranks, key_weights, model_weights = range(KEYS), _zipf(KEYS), _zipf(len(MODELS))
    lengths = _lengths(chance, count)
    every_us = (DAYS * _DAY_US - _REST_US) / len(lengths)  # between beginnings of sessions
    workers = [b"req_%016x" % chance.getrandbits(64) for _ in range(WORKERS)]
    running: list[tuple[float, int, _Session]] = []
    begun = 0
    for number in range(count):
        while begun < len(lengths) and (not running or BEGINS * 1e6 + begun * every_us <= running[0][0]):
            (rank,) = chance.choices(ranks, cum_weights=key_weights)
            (model,) = chance.choices(MODELS, cum_weights=model_weights)
            pause = (2e6, 12e6) if chance.random() < 0.5 else (15e6, 60e6)
            session = _Session(_body(book, rank, model), lengths[begun], pause)
            heapq.heappush(running, (BEGINS * 1e6 + (begun + chance.random()) * every_us, begun, session))
            begun += 1
        at, order, session = running[0]
        id_ = b"%b%016x" % (workers[number % WORKERS], number // WORKERS + 1)
        at_us = int(at)
        json = session.body(chance, id_, at_us, session.done)
        session.done += 1
        session.left -= 1
        if session.left:
            least, most = session.pause
            heapq.heapreplace(running, (at + least + chance.random() * (most - least), order, session))
        else:
            heapq.heappop(running)
        yield Entry(f"{at_us // 1000}-{number}", id_.decode(), json)


class MadeStream:
    """The usage stream of many events, as `consumer.Stream` has it, made as it is read.

    clock: goes with the events. spent: seconds that it took to make them, and of CPU.
    """

    def __init__(self, entries: Iterator[Entry], clock: ManualClock) -> None:
        self._entries = entries
        self._clock = clock
        self._some: list[Entry] = []  # read, and not trimmed
        self.spent = 0.0, 0.0

    async def claim(self, ledger: str) -> str | None:
        return "one"

    async def read(self, after: str, most: int) -> list[Entry]:
        """Of a consumer that trims what it has folded before it reads on."""
        began, began_cpu = time.perf_counter(), time.process_time()
        self._some += islice(self._entries, most - len(self._some))
        if self._some:
            at = int(self._some[-1].position.partition("-")[0]) / 1000
            self._clock.advance(max(0.0, at - self._clock.wall()))
        self.spent = self.spent[0] + time.perf_counter() - began, self.spent[1] + time.process_time() - began_cpu
        return self._some[:most]

    async def trim(self, position: str) -> None:
        (number,) = [n for n, one in enumerate(self._some, 1) if one.position == position]
        del self._some[:number]

    async def waiting(self) -> int:
        return len(self._some)

    async def newest(self) -> str:
        return self._some[-1].position if self._some else ""


def _lengths(chance: random.Random, count: int) -> list[int]:
    """Of sessions that have so many calls together."""
    lengths = []
    while count:
        lengths.append(min(chance.randint(1, _LONGEST), count))
        count -= lengths[-1]
    return lengths


def _zipf(count: int) -> list[float]:
    return list(accumulate(1 / rank for rank in range(1, count + 1)))


def _body(book: Book, rank: int, model: str) -> Body:
    whose = (
        f'"organization_id":"{ORG}","project_id":"{project_id(rank)}","user_id":"user-{rank % USERS:08x}",'
        f'"key_id":"{key_id(rank)}"'
    )
    if model.startswith("text-embedding"):
        return _embedding(book, whose, model)
    return _picture(book, whose, model) if model.startswith("dall-e") else _chat(book, whose, model)


def _rates(book: Book, model: str, *units: UnitName) -> list[int]:
    """Nano-dollars for a million tokens of each unit."""
    cells = book.card(UsageLine(response_model=model), BEGINS).cells
    return [cells[unit].rate for unit in units]


def _head(whose: str, operation: str, category: str, model: str, more: str = "") -> str:
    return (
        f'{{"id":"%b","at_us":%d,{whose},"operation":"{operation}","category":"{category}","status":200,{more}"lines":'
        f'[{{"upstream":"openai","category":"{category}","request_model":"{model}","upstream_model":"{model}",'
    )


def _chat(book: Book, whose: str, model: str) -> Body:
    """The conversation grows, and most of it is read from the cache; half of the models think before they answer."""
    fresh_rate, cached_rate, written_rate = _rates(book, model, "input_tokens", "cached_tokens", "output_tokens")
    start = _head(whose, "createChatCompletion", "completions", model, '"stream":true,')
    start += f'"response_model":"{model}","service_tier":"default","quantities":{{"input_tokens":%d,'
    end = f'}},"nano_usd":%d,"costs":[["{model}, input_tokens","input_tokens",%d,%d],'
    cached_end = f'["{model}, cached_input_tokens","cached_tokens",%d,%d],'
    last = f'["{model}, output_tokens","output_tokens",%d,%d]]}}]}}'
    thinks = model.startswith(("o", "gpt-5"))
    written = '"output_tokens":%d' + (',"reasoning_tokens":%d' if thinks else "")
    first = (start + written + end + last).encode()
    later = (start + '"cached_tokens":%d,' + written + end + cached_end + last).encode()

    def body(chance: random.Random, id_: bytes, at_us: int, done: int) -> bytes:
        draw = chance.getrandbits(30)
        fresh, output = 80 + draw % 1_200, 20 + (draw >> 12) % 700
        tokens = (output, 1 + ((draw >> 22) * output >> 8)) if thinks else (output,)
        fresh_usd, output_usd = _charge(fresh, fresh_rate), _charge(output, written_rate)
        if not done:
            spent: tuple[int, ...] = (fresh, fresh_usd, output, output_usd)
            return first % (id_, at_us, fresh, *tokens, fresh_usd + output_usd, *spent)
        cached = 128 * (8 + done * 5)
        cached_usd = _charge(cached, cached_rate)
        spent = (fresh, fresh_usd, cached, cached_usd, output, output_usd)
        return later % (id_, at_us, fresh + cached, cached, *tokens, fresh_usd + cached_usd + output_usd, *spent)

    return body


def _embedding(book: Book, whose: str, model: str) -> Body:
    (rate,) = _rates(book, model, "input_tokens")
    text = _head(whose, "createEmbedding", "embeddings", model) + f'"response_model":"{model}","quantities":'
    text += f'{{"input_tokens":%d}},"nano_usd":%d,"costs":[["{model}, input_tokens","input_tokens",%d,%d]]}}]}}'
    form = text.encode()

    def body(chance: random.Random, id_: bytes, at_us: int, done: int) -> bytes:
        tokens = 20 + chance.getrandbits(11)
        nano_usd = _charge(tokens, rate)
        return form % (id_, at_us, tokens, nano_usd, tokens, nano_usd)

    return body


def _picture(book: Book, whose: str, model: str) -> Body:
    one = UsageLine(response_model=model, quantities=Quantities(images=1), image_size=SIZE)
    rate = book.price(one, BEGINS).nano_usd
    text = _head(whose, "createImage", "images", model) + '"quantities":{"images":%d},'
    text += f'"image_size":"{SIZE}","image_source":"image.generation","nano_usd":%d,'
    form = (text + f'"costs":[["{model}, images","images",%d,%d]]}}]}}').encode()

    def body(chance: random.Random, id_: bytes, at_us: int, done: int) -> bytes:
        images = 1 + chance.getrandbits(2)
        return form % (id_, at_us, images, images * rate, images, images * rate)

    return body


def _charge(tokens: int, rate: int) -> int:
    """Nano-dollars, rounded half up; rate: of a million tokens."""
    return (tokens * rate + 500_000) // 1_000_000
