"""One socket's life: commands out in batches, replies back in order."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, cast

from hiredis import ProtocolError, Reader

from gateway.redisdb.command import Script
from gateway.redisdb.failures import HotError, HotLost, HotReplyError, HotTimeout, hot_reply_failure
from gateway.sockets import unread

Entry = tuple[bytes, "asyncio.Future[Any] | None", float, Script | None]
"""A packed command, who waits for its reply (None: nobody), the monotonic time by which they want it, and the script
that the command runs, if the server may have to be told what it is."""


class Wire(asyncio.Protocol):
    """Sends entries and gives each the reply that is its own, whatever became of those who wait.

    An entry stays in `_sent` until its reply has come, also when its caller was cancelled or its deadline passed: so
    the connection never falls out of step. The first `_expired` entries of `_sent` are those past their deadline.
    When the socket breaks, every caller that still waits gets HotLost.

    Its owner may set: `judge(ok)`, told once a batch of replies how the server does (late replies are no evidence);
    `flows(yes)`, told when the socket's buffer has filled or emptied; `unknown_script(entry)`, which takes over a call
    whose script the server did not know; `lost()`.
    """

    def __init__(self) -> None:
        self.paused = False
        self.closed = asyncio.Event()
        self.judge: Callable[[bool], None] | None = None
        self.flows: Callable[[bool], None] | None = None
        self.unknown_script: Callable[[Entry], None] | None = None
        self.lost: Callable[[], None] | None = None
        self._transport: asyncio.Transport | None = None
        self._sent: deque[Entry] = deque()
        self._expired = 0
        self._reader = Reader(replyError=hot_reply_failure)

    def __len__(self) -> int:
        """How many replies have not come yet."""
        return len(self._sent)

    def send(self, entries: Iterable[Entry]) -> None:
        """One write for all of them. Those whose caller has left already are not sent."""
        assert self._transport is not None
        batch = []
        sent = self._sent
        for entry in entries:
            future = entry[1]
            if future is None or not future.done():
                batch.append(entry[0])
                sent.append(entry)
        if batch:
            self._transport.write(batch[0] if len(batch) == 1 else b"".join(batch))

    def expire(self, now: float) -> int:
        """Fails what is past its deadline with HotTimeout; returns how many. Their replies are still awaited."""
        before = self._expired
        for _, future, due, _ in islice(self._sent, before, None):
            if due > now:
                break
            self._expired += 1
            if future is not None and not future.done():
                future.set_exception(HotTimeout("no answer within the deadline"))
        return self._expired - before

    def next_due(self) -> float | None:
        """When the next deadline passes; None if no call waits."""
        return self._sent[self._expired][2] if len(self._sent) > self._expired else None

    def oldest_due(self) -> float | None:
        """The deadline, passed or not, of the call whose reply comes next."""
        return self._sent[0][2] if self._sent else None

    @property
    def unread(self) -> bool:
        """Whether replies have come that the loop has not read yet. One system call."""
        return self._transport is not None and unread(self._transport)

    def abort(self) -> None:
        """Breaks the connection: nothing can be written any more, and `connection_lost` follows."""
        if self._transport is not None:
            self._transport.abort()
        self.pause_writing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        sent = self._sent
        ok = failing = False
        try:
            self._reader.feed(data)
            gets = self._reader.gets
            while (reply := gets()) is not False:  # not enough data; in RESP2 no reply is False
                entry = sent.popleft()
                if self._expired:
                    self._expired -= 1
                elif isinstance(reply, HotError):
                    ok, failing = self._failed(entry, reply, ok=ok, failing=failing)
                else:
                    ok = True
                    future = entry[1]
                    if future is not None and not future.done():
                        future.set_result(reply)
        except (ProtocolError, IndexError):
            # Not Redis' protocol, or a reply that nobody asked for (a server full of clients says so on connecting).
            self.abort()
            return
        if self.judge is not None and (ok or failing):
            self.judge(not failing)

    def _failed(self, entry: Entry, error: HotError, *, ok: bool, failing: bool) -> tuple[bool, bool]:
        _, future, _, script = entry
        answered = isinstance(error, HotReplyError)
        if isinstance(error, HotLost):
            self.abort()
        if future is not None and not future.done():
            unknown = script is not None and isinstance(error, HotReplyError) and error.code == "NOSCRIPT"
            if unknown and self.unknown_script is not None:
                self.unknown_script(entry)
            else:
                future.set_exception(error)
        return ok or answered, failing or not answered

    def pause_writing(self) -> None:
        self.paused = True
        if self.flows is not None:
            self.flows(False)

    def resume_writing(self) -> None:
        self.paused = False
        if self.flows is not None:
            self.flows(True)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        for _, future, _, _ in self._sent:
            if future is not None and not future.done():
                future.set_exception(HotLost("the connection broke"))
        self._sent.clear()
        self._expired = 0
        self.closed.set()
        if self.lost is not None:
            self.lost()
