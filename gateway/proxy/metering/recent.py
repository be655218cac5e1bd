"""What Redis acknowledged lately, in case that it turns out to have lost it."""

from collections import deque

import msgspec

from gateway.accounts.usage_stream import MARKER_S, Packed

RECENT_S = 60.0
"""What Redis has acknowledged is on its disk or with its replica after a second or a few; this is for slow ones."""
_MOST_EVENTS = 20_000
_MOST_BYTES = 32 * 1024 * 1024
_KNOWN_S = MARKER_S - 60.0  # so long after it was sent Redis certainly knows an event's id, unless it has lost it
_OF_NO_EPOCH = "-"


class Sent(msgspec.Struct, frozen=True):
    """A batch of one organization. at: when it was sent, by the monotonic clock. size: bytes of JSON. epoch: of the
    counters at that time, None if it is not known."""

    at: float
    events: list[Packed]
    size: int
    epoch: str | None = None

    @property
    def organization_id(self) -> str:
        return self.events[0].organization_id

    def epoch_to_say(self, now: float) -> str | None:
        """With which epoch it is sent again: see `Settlement`. What Redis may have forgotten that it knows must not be
        charged a second time, unless it has forgotten all it knew."""
        return self.epoch if now - self.at < _KNOWN_S else _OF_NO_EPOCH


class Recent:
    """The batches of the last `RECENT_S`, the newest of them if they are many or large."""

    def __init__(self, *, most_events: int = _MOST_EVENTS, most_bytes: int = _MOST_BYTES) -> None:
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._batches: deque[Sent] = deque()
        self._epochs: dict[str, str | None] = {}  # by organization
        self._events = self._bytes = 0

    def __len__(self) -> int:
        return self._events

    def keep(self, events: list[Packed], at: float) -> None:
        """Redis has acknowledged these, of one organization, which were sent at `at`. They are not to be changed."""
        size = 0
        for event in events:
            size += len(event.json)
        self._batches.append(Sent(at, events, size))
        self._events += len(events)
        self._bytes += size
        while self._events > self._most_events or self._bytes > self._most_bytes:
            self._forget_first()
        if self._batches and self._batches[0].at < at - RECENT_S:
            self.forget_before(at - RECENT_S)

    def forget_before(self, at: float) -> None:
        """Forgets what was sent before that."""
        while self._batches and self._batches[0].at < at:
            self._forget_first()

    def _forget_first(self) -> None:
        first = self._batches.popleft()
        self._events -= len(first.events)
        self._bytes -= first.size

    def take(self, organization_id: str = "") -> list[Sent]:
        """Takes out what is kept, of one organization or of all, in order."""
        taken: list[Sent] = []
        left: list[Sent] = []
        for one in self._batches:
            ours = organization_id in {"", one.organization_id}
            (taken if ours else left).append(one)
        self._batches = deque(left)
        self._events = sum(len(one.events) for one in left)
        self._bytes = sum(one.size for one in left)
        return [msgspec.structs.replace(one, epoch=self._epochs.get(one.organization_id)) for one in taken]

    def epoch_is(self, organization_id: str, epoch: str | None) -> list[Sent]:
        """The epoch of an organization's counters as it is now. Takes out what Redis took in an earlier one, for it has
        lost that with the counters."""
        before = self._epochs.get(organization_id)
        lost = self.take(organization_id) if before is not None and before != epoch else []
        self._epochs[organization_id] = epoch
        return lost
