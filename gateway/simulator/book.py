"""The book: what was served, exactly. The oracle against which usage, ledger and limits are checked.

One record for each request; besides, one for each response on a WebSocket, each line of a batch and each job that
finished in the background. A request that only starts a job carries no usage; the job's own record does. So the sum of
all records is what OpenAI would have on its bill.
"""

import array
import asyncio
import contextlib
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

Ended = Literal["complete", "client_left", "cut", "refused", "error"]
Transport = Literal["http", "websocket", "batch", "background"]

_SPILL_BYTES = 1 << 18


class Quantities(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one answer amounts to, by unit. Zeros are left out of the record.

    input_tokens contains cached, cache-written, audio and image tokens; output_tokens contains reasoning, audio, image
    and rejected prediction tokens. cached_* are parts of cached_tokens. tool_image_tokens are those of pictures that a
    response's tool made: billed apart and not in output_tokens. seconds is of audio (or video), characters of
    speech input, bytes what is stored, searches and sessions how many.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cached_audio_tokens: int = 0
    cache_write_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    tool_image_tokens: int = 0
    images: int = 0
    characters: int = 0
    seconds: float = 0.0
    bytes: int = 0
    web_searches: int = 0
    file_searches: int = 0
    sessions: int = 0
    trained_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Quantities") -> "Quantities":
        return Quantities(*map(operator.add, msgspec.structs.astuple(self), msgspec.structs.astuple(other)))


NOTHING = Quantities()


class Record(msgspec.Struct, frozen=True):
    """One record. Times are wall-clock seconds; request_model is as the client wrote it, faults and all.

    sequence: 1, 2, 3, ... in the order in which they ended. request: the number of the request that it came from.
    usage: of the whole answer, also if the client did not get all of it. output_tokens_sent: how many of its output
    tokens (with the reasoning that came before them) had been handed to the network when it ended; of an answer in one
    piece, all or none. usage_sent: whether the answer's usage went out. ended: `cut` is the simulator's doing,
    `client_left` the client's. parent: the batch, thread or session that object_id belongs to. key: the first 12
    hexadecimal digits of the upstream key's SHA-256.
    """

    sequence: int
    request: int
    request_id: str
    incoming_request_id: str | None
    client_request_id: str | None
    key: str | None
    transport: Transport
    method: str
    path: str
    operation: str | None
    request_model: str | None
    response_model: str | None
    service_tier: str | None
    batch: bool
    stream: bool
    status: int | None
    ended: Ended
    error: str | None
    faults: tuple[str, ...]
    usage: Quantities
    usage_sent: bool
    output_tokens_sent: int
    events_sent: int
    bytes_received: int
    bytes_sent: int
    object_id: str | None
    parent: str | None
    started_at: float
    ended_at: float


class Meta(msgspec.Struct, frozen=True):
    """What the book notes of an answer. See Record."""

    usage: Quantities = NOTHING
    model: str | None = None
    tier: str | None = None
    object_id: str | None = None
    parent: str | None = None


PLAIN = Meta()


class Entry:
    """A record in the making. Fields as in Record."""

    __slots__ = (
        "batch", "bytes_received", "bytes_sent", "client_request_id", "ended", "error", "events_sent", "faults",
        "incoming_request_id", "key", "method", "object_id", "operation", "output_tokens_sent", "parent", "path",
        "request", "request_id", "request_model", "response_model", "service_tier", "started_at", "status", "stream",
        "transport", "usage", "usage_sent",
    )  # fmt: skip

    def __init__(self, request: int, request_id: str, method: str, path: str, started_at: float) -> None:
        self.request, self.request_id, self.method, self.path = request, request_id, method, path
        self.started_at = started_at
        self.incoming_request_id: str | None = None
        self.client_request_id: str | None = None
        self.key: str | None = None
        self.transport: Transport = "http"
        self.operation: str | None = None
        self.request_model: str | None = None
        self.response_model: str | None = None
        self.service_tier: str | None = None
        self.batch = False
        self.stream = False
        self.status: int | None = None
        self.ended: Ended = "complete"
        self.error: str | None = None
        self.faults: tuple[str, ...] = ()
        self.usage = NOTHING
        self.usage_sent = False
        self.output_tokens_sent = 0
        self.events_sent = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.object_id: str | None = None
        self.parent: str | None = None

    def take(self, meta: Meta) -> None:
        """What an answer says about itself."""
        self.usage, self.response_model, self.service_tier = meta.usage, meta.model, meta.tier
        self.object_id, self.parent = meta.object_id, meta.parent

    def child(self, request: int, request_id: str, transport: Transport, started_at: float) -> "Entry":
        """A record of something that this request caused: same key, ids and operation, nothing else."""
        entry = Entry(request, request_id, self.method, self.path, started_at)
        entry.incoming_request_id, entry.client_request_id = self.incoming_request_id, self.client_request_id
        entry.key, entry.operation, entry.transport = self.key, self.operation, transport
        return entry


class Page(msgspec.Struct, frozen=True):
    """Records after a cursor: `next` is the cursor to go on with. in_flight: requests that have no record yet."""

    data: list[msgspec.Raw]
    next: int
    more: bool
    in_flight: int


class Book:
    """All records, on disk, with their places in memory: eight bytes a record.

    `requests` counts the requests that came, `in_flight` those without a record.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._encoder = msgspec.json.Encoder()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._start()

    def _start(self) -> None:
        self._out = self._file.open("w+b", buffering=_SPILL_BYTES)
        self._ends = array.array("Q", [0])
        self.requests = 0
        self.in_flight = 0
        self._ended: dict[str, int] = {}
        self._statuses: dict[str, int] = {}
        self._operations: dict[str, int] = {}
        self._total = NOTHING

    def __len__(self) -> int:
        return len(self._ends) - 1

    def number(self) -> int:
        """The next request's number; it is in flight from now on."""
        self.requests += 1
        self.in_flight += 1
        self._quiet.clear()
        return self.requests

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Something is in flight meanwhile that has no record of its own."""
        self.in_flight += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self._quiet.set()

    async def quiet(self, timeout_s: float) -> None:
        """Waits until nothing is in flight, or for so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), timeout_s)

    def write(self, entry: Entry, ended_at: float) -> None:
        """Ends an entry that came from `number()`."""
        self._release()
        record = Record(
            sequence=len(self._ends),
            request=entry.request,
            request_id=entry.request_id,
            incoming_request_id=entry.incoming_request_id,
            client_request_id=entry.client_request_id,
            key=entry.key,
            transport=entry.transport,
            method=entry.method,
            path=entry.path,
            operation=entry.operation,
            request_model=entry.request_model,
            response_model=entry.response_model,
            service_tier=entry.service_tier,
            batch=entry.batch,
            stream=entry.stream,
            status=entry.status,
            ended=entry.ended,
            error=entry.error,
            faults=entry.faults,
            usage=entry.usage,
            usage_sent=entry.usage_sent,
            output_tokens_sent=entry.output_tokens_sent,
            events_sent=entry.events_sent,
            bytes_received=entry.bytes_received,
            bytes_sent=entry.bytes_sent,
            object_id=entry.object_id,
            parent=entry.parent,
            started_at=entry.started_at,
            ended_at=ended_at,
        )
        line = self._encoder.encode(record) + b"\n"
        self._out.write(line)
        self._ends.append(self._ends[-1] + len(line))
        self._count(record)

    def _count(self, record: Record) -> None:
        status, operation = str(record.status), record.operation or "unknown"
        self._ended[record.ended] = self._ended.get(record.ended, 0) + 1
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self._operations[operation] = self._operations.get(operation, 0) + 1
        if record.usage is not NOTHING:
            self._total += record.usage

    def since(self, cursor: int, limit: int) -> Page:
        """At most `limit` records with a sequence above `cursor`."""
        first = min(max(cursor, 0), len(self))
        last = min(first + limit, len(self))
        self._out.flush()
        with self._file.open("rb") as source:
            source.seek(self._ends[first])
            lines = source.read(self._ends[last] - self._ends[first]).split(b"\n")[:-1]
        return Page([msgspec.Raw(line) for line in lines], last, last < len(self), self.in_flight)

    def stats(self) -> dict[str, object]:
        return {
            "records": len(self),
            "requests": self.requests,
            "in_flight": self.in_flight,
            "ended": self._ended,
            "statuses": self._statuses,
            "operations": self._operations,
            "usage": self._total,
        }

    def reset(self) -> None:
        """Forgets everything; what is in flight now is written into the new book."""
        in_flight = self.in_flight
        self._out.close()
        self._start()
        self.in_flight = in_flight

    def close(self) -> None:
        self._out.close()
