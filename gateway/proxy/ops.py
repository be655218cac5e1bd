"""What is noted about each request, and where it goes: metrics and the access line."""

from collections import deque

import msgspec

from gateway.clock import Clock
from gateway.errors import GatewayError, without_keys
from gateway.proxy.http.visit import Observation
from gateway.telemetry.logging import LineWriter
from gateway.telemetry.metrics import Counted, Metrics

_SHOWN = 300  # characters of a client's text in an access line
_PLAIN = 1024  # bytes of a line below which nothing in it is too long
_THEIRS = ("path", "model", "upstream_request_id", "client_request_id")  # what others choose freely
_ATOMIC = 4096  # bytes of a line that a pipe takes at once, and does not mix with other processes'
_TOGETHER = 32  # observations that are worked off together, which costs half of one by one


class AccessLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line a request. Times in microseconds; sizes in bytes of bodies; no content, no query, no key."""

    ts: float
    event: str
    process: str
    slot: str
    request_id: str
    client: str
    method: str
    path: str
    status: int
    ended: str
    duration_us: int
    bytes_in: int
    bytes_out: int
    operation: str = ""
    project: str = ""
    key: str = ""
    user: str = ""
    model: str = ""
    upstream: str = ""
    upstream_model: str = ""
    upstream_request_id: str = ""
    client_request_id: str = ""
    own_us: int = 0
    upstream_head_us: int = 0
    stream: bool = False
    attempts: int = 0
    error: str = ""


class Tally:
    """What is counted of the requests that have operation, status, ending and upstream in common."""

    __slots__ = ("bytes_in", "bytes_out", "number", "seconds", "upstream_head")

    def __init__(self, seconds: Counted, upstream_head: Counted) -> None:
        self.number = self.bytes_in = self.bytes_out = 0
        self.seconds = seconds
        self.upstream_head = upstream_head


class Recorder:
    """Turns observations into metrics and access lines. One per worker.

    Observations are gathered, and worked off some at a time; a request is then counted in one tally. `flush`, a few
    times a second, carries the tallies over to the metrics.
    """

    def __init__(self, metrics: Metrics, lines: LineWriter | None, clock: Clock, slot: str) -> None:
        self._clock = clock
        self._lines = lines
        self._slot = slot
        self._encode = msgspec.json.Encoder().encode
        self._requests = metrics.counter("gateway_requests_total")
        self._seconds = metrics.histogram("gateway_request_seconds")
        self._own = metrics.histogram("gateway_own_seconds")
        self._upstream_head = metrics.histogram("gateway_upstream_head_seconds")
        self._bytes_in = metrics.counter("gateway_request_bytes_total")
        self._bytes_out = metrics.counter("gateway_response_bytes_total")
        self._errors = metrics.counter("gateway_errors_total")
        self._tallies: dict[tuple[str, int, str, str], Tally] = {}
        self._own_seconds = self._own.counted()
        self._gathered: deque[tuple[Observation, float]] = deque()

    def record(self, seen: Observation) -> None:
        """The request has ended."""
        self._gathered.append((seen, self._clock.monotonic() - seen.started_at))
        if len(self._gathered) >= _TOGETHER:
            self._work_off()

    def _work_off(self) -> None:
        gathered, tallies, lines = self._gathered, self._tallies, self._lines
        while gathered:
            seen, duration = gathered.popleft()
            key = (seen.operation, seen.status, seen.ended, seen.upstream)
            tally = tallies.get(key)
            if tally is None:
                tally = tallies[key] = Tally(self._seconds.counted(), self._upstream_head.counted())
            tally.number += 1
            tally.seconds.add(duration)
            tally.bytes_in += seen.bytes_in
            tally.bytes_out += seen.bytes_out
            if seen.sent_at:
                self._own_seconds.add(seen.sent_at - seen.started_at)
                if seen.head_at:
                    tally.upstream_head.add(seen.head_at - seen.sent_at)
            if seen.error:
                self._errors.add((seen.error,))
            if lines is not None:
                lines.add(self._written(seen, duration))

    def flush(self) -> None:
        """Carries over what was counted, and hands on all lines."""
        self._work_off()
        if self._lines is not None:
            self._lines.flush()
        tallies, self._tallies = self._tallies, {}
        for (operation, status, ended, upstream), tally in tallies.items():
            self._requests.add((operation, str(status), ended), tally.number)
            self._seconds.carry_over(tally.seconds, (operation,))
            if tally.bytes_in:
                self._bytes_in.add((operation,), tally.bytes_in)
            if tally.bytes_out:
                self._bytes_out.add((operation,), tally.bytes_out)
            if upstream:
                self._upstream_head.carry_over(tally.upstream_head, (upstream,))
        if tallies:
            own, self._own_seconds = self._own_seconds, self._own.counted()
            self._own.carry_over(own)

    def _written(self, seen: Observation, duration: float) -> bytes:
        """The access line, with its line feed. Clients' texts are cut where they are long, and lose what looks like a
        key: people put them everywhere."""
        sent_at, head_at = seen.sent_at, seen.head_at
        line = AccessLine(
            seen.wall, "request", "worker", self._slot, seen.request_id, seen.client, seen.method, seen.path,
            seen.status, seen.ended, int(duration * 1e6), seen.bytes_in, seen.bytes_out, seen.operation, seen.project,
            seen.key, seen.user, seen.model, seen.upstream, seen.upstream_model, seen.upstream_request_id,
            seen.client_request_id, int((sent_at - seen.started_at) * 1e6) if sent_at else 0,
            int((head_at - sent_at) * 1e6) if head_at else 0, seen.stream, seen.attempts, seen.error,
        )  # fmt: skip
        try:
            written = self._encode(line)
            if len(written) < _PLAIN and b"sk-" not in written:
                return written + b"\n"
        except UnicodeEncodeError:  # bytes in a header that are no text
            pass
        return self._censored(line) + b"\n"

    def _censored(self, line: AccessLine) -> bytes:
        theirs = {name: _shown(getattr(line, name)) for name in _THEIRS}
        try:
            written = self._encode(msgspec.structs.replace(line, **theirs))
            if len(written) < _ATOMIC:
                return written
        except UnicodeEncodeError:
            pass
        texts = {
            name: text.encode("ascii", "replace").decode()[: _SHOWN // 4]
            for name, text in (msgspec.structs.asdict(line) | theirs).items()
            if isinstance(text, str)
        }
        return self._encode(msgspec.structs.replace(line, **texts))

    def refused(self, error: GatewayError, request_id: str, client: str) -> None:
        """What came on a connection was no request, and was answered with this error."""
        seen = Observation(
            request_id, method="", path="", client=client, wall=self._clock.wall(), started_at=self._clock.monotonic()
        )
        seen.status = error.kind.status
        seen.refuse(error)
        self.record(seen)


def _shown(text: str) -> str:
    return without_keys(text)[:_SHOWN]
