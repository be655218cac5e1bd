"""Calls that nobody but their worker knows of: what each is charged if it dies, on disk before the call goes upstream.

Redis knows a call from its reserve on, and charges it when its worker is heard of no more. One that is admitted while
Redis is away has no reservation. So its provisional event goes to a spool of its own (`spool.py`), which is removed
when its calls are over. Whoever adopts it of a dead worker delivers all of it; what has arrived before counts once, by
its id.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from gateway.proxy.metering.spool import Spool, Spools
from gateway.tasks import Tasks
from gateway.telemetry.logging import Logger

_PILE_BYTES = 1024 * 1024


class _Pile:
    """Calls whose events are in one spool, which goes when the last of them is over. coming: those that are not written
    yet, by call; size: bytes of all of it."""

    def __init__(self) -> None:
        self.calls: set[str] = set()
        self.coming: dict[str, bytes] = {}
        self.size = 0
        self.spool: Spool | None = None

    def write(self, spools: Spools, lines: Iterable[bytes]) -> None:
        """Blocks. OSError."""
        data = b"".join(lines)
        spools.check_room(len(data))
        if self.spool is None:
            self.spool = spools.open(intents=True)
        self.spool.write(data)

    def remove(self) -> None:
        """Blocks. OSError."""
        if self.spool is not None:
            try:
                self.spool.clear()
            finally:
                self.spool.release()


class Intents:
    """Those of one worker. Calls that come at once are written at once, with one wait for the disk."""

    def __init__(self, spools: Spools, log: Logger) -> None:
        self._spools = spools
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._working: asyncio.Task[None] | None = None
        self._piles: list[_Pile] = []  # the last one takes more
        self._pile_of: dict[str, _Pile] = {}
        self._written: asyncio.Future[None] | None = None  # resolves when what is coming now has been written
        self._said = ""

    def __len__(self) -> int:
        return len(self._pile_of)

    async def note(self, call_id: str, event: bytes) -> None:
        """Returns when the event, JSON of the call's id, is on disk; or if the disk does not take it, which the log
        says: the call is not to fail for that."""
        if not self._piles or self._piles[-1].size >= _PILE_BYTES:
            self._piles.append(_Pile())
        pile, line = self._piles[-1], event + b"\n"
        pile.calls.add(call_id)
        pile.coming[call_id] = line
        pile.size += len(line)
        self._pile_of[call_id] = pile
        if self._written is None:
            self._written = self._loop.create_future()
        written = self._written
        self._work()
        await asyncio.shield(written)  # whoever waits may be cancelled, and others wait too

    def over(self, call_ids: Iterable[str]) -> None:
        """These calls have used nothing, or what they used is in Redis or on disk."""
        for call_id in call_ids:
            pile = self._pile_of.pop(call_id, None)
            if pile is not None:
                pile.calls.discard(call_id)
                if not pile.calls:
                    self._work()

    async def close(self) -> None:
        """Leaves to others what is known of calls that are not over."""
        while self._working is not None:
            await asyncio.wait([self._working])
        for pile in self._piles:
            if pile.spool is not None:
                await asyncio.to_thread(pile.spool.release)
        self._piles.clear()

    def _work(self) -> None:
        if self._working is None:
            self._working = self._tasks.spawn(self._write_and_remove(), "keep intents")

    async def _write_and_remove(self) -> None:
        """One thing after the other, until nothing is left to be done."""
        try:
            while True:
                written, self._written = self._written, None
                if written is not None:
                    try:
                        await self._write()
                    finally:
                        written.set_result(None)
                    continue
                over = next((pile for pile in self._piles if not pile.calls), None)
                if over is None:
                    return
                self._piles.remove(over)
                await self._on_disk(over.remove)
        finally:
            self._working = None

    async def _write(self) -> None:
        for pile in self._piles:
            if pile.coming:
                lines, pile.coming = pile.coming, {}
                if await self._on_disk(partial(pile.write, self._spools, lines.values())):
                    self._said = ""
                else:
                    self.over(lines)

    async def _on_disk(self, do: Callable[[], None]) -> bool:
        try:
            await asyncio.to_thread(do)
        except OSError as error:
            if self._said != str(error):  # once a reason, not once a call
                self._said = str(error)
                self._log.error("usage_intents_not_kept", reason=self._said)
            return False
        return True
