"""The memory that one worker spends on buffered bodies, all requests together."""

import asyncio
from collections import deque

from gateway.errors import OVERLOADED, GatewayError

_SMALL = 256 * 1024
_LARGE_PART = 0.875  # the rest is kept for small bodies, so that a few huge uploads do not stop everyone else

_Queue = deque[tuple[int, "asyncio.Future[None]"]]


class Share:
    """Bytes of the budget that one body has. To be released, once or more often."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: "Budget", size: int) -> None:
        self._budget = budget
        self.size = size

    def grow(self, size: int) -> None:
        """So many bytes more, now: who has a share may not wait for more, or all would wait for each other.

        Raises GatewayError OVERLOADED (503).
        """
        if not self._budget.fits(size):
            raise GatewayError(OVERLOADED)
        self._budget.used += size
        self.size += size

    def shrink(self, size: int) -> None:
        """Gives back what is more than so many bytes."""
        if size < self.size:
            given_back, self.size = self.size - size, size
            self._budget.give_back(given_back)

    def release(self) -> None:
        self.shrink(0)


class Budget:
    """Bytes that may be taken and given back.

    Who does not get what it wants waits its turn, with its socket left unread; after `wait_s` it is refused with
    OVERLOADED (503). Small bodies have a queue and a part of their own.
    """

    def __init__(self, size: int, wait_s: float) -> None:
        self.size = size
        self.used = 0
        self._wait_s = wait_s
        self._large_limit = int(size * _LARGE_PART)
        self._small: _Queue = deque()
        self._large: _Queue = deque()

    def fits(self, size: int) -> bool:
        return self.used + size <= (self.size if size <= _SMALL else self._large_limit)

    def take_now(self, size: int) -> Share | None:
        """A share without waiting, if there is room and nobody waits for it."""
        queue = self._small if size <= _SMALL else self._large
        if queue or not self.fits(size):
            return None
        self.used += size
        return Share(self, size)

    async def take(self, size: int) -> Share:
        """A share of `size` bytes, waiting if need be. Raises GatewayError OVERLOADED, or what `end_waits` is given."""
        share = self.take_now(size)
        if share is not None:
            return share
        if size > self._large_limit:
            raise GatewayError(OVERLOADED)
        queue = self._small if size <= _SMALL else self._large
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append((size, waiter))
        try:
            async with asyncio.timeout(self._wait_s):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give_back(size)  # it was ours already when we stopped waiting
            else:
                self._forget(queue, waiter)
            if isinstance(error, TimeoutError):
                raise GatewayError(OVERLOADED) from None
            raise
        return Share(self, size)

    def give_back(self, size: int) -> None:
        self.used -= size
        self._admit()

    def end_waits(self, error: GatewayError) -> None:
        """All who wait get this error."""
        for _, waiter in (*self._small, *self._large):
            if not waiter.done():
                waiter.set_exception(error)

    def _forget(self, queue: _Queue, waiter: "asyncio.Future[None]") -> None:
        for entry in queue:
            if entry[1] is waiter:
                queue.remove(entry)
                break
        self._admit()  # who stood behind it may fit

    def _admit(self) -> None:
        for queue in (self._small, self._large):
            while queue and (queue[0][1].done() or self.fits(queue[0][0])):
                size, waiter = queue.popleft()
                if not waiter.done():
                    self.used += size
                    waiter.set_result(None)
