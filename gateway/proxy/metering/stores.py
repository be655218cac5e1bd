"""Tells the ledger of vector stores that go by in answers: events without lines, which cost nothing."""

from collections.abc import Callable, Iterable

import msgspec

from gateway.proxy.metering.call import CallMeter
from gateway.usage.stores import named_in
from gateway.values import SeenStore, UsageEvent

_MOST_KNOWN = 10_000  # stores
_AGAIN_S = 3600.0  # what has not changed is told again after this: clients poll


class Stores:
    """One per worker."""

    def __init__(self, deliver: Callable[[UsageEvent], None]) -> None:
        self._deliver = deliver
        self._told: dict[str, tuple[SeenStore, float]] = {}  # and when, in seconds since 1970

    def settle(self, call: CallMeter, *, ended: str) -> None:
        """The call has ended: its event is on its way, if it tells anything new."""
        if not 200 <= call.status < 300:
            return
        seen, principal = call.seen, call.principal
        stores = tuple(self._new(call.answer(texts=False).stores, seen.upstream, seen.path, seen.wall))
        if not stores:
            return
        self._deliver(
            UsageEvent(
                id=seen.request_id,
                at_us=int(seen.wall * 1e6),
                organization_id=principal.organization_id,
                project_id=principal.project_id,
                user_id=principal.user_id,
                key_id=principal.key_id,
                operation=call.plan.operation,
                status=call.status,
                ended=ended,
                stores=stores,
            )
        )

    def _new(self, found: Iterable[SeenStore], upstream: str, path: str, at: float) -> Iterable[SeenStore]:
        for one in found:
            store = msgspec.structs.replace(one, id=one.id or named_in(path), upstream=upstream)
            told = self._told.get(store.id)
            if not store.id or (told is not None and told[0] == store and at < told[1] + _AGAIN_S):
                continue
            if store.bytes is None:  # what was put in or taken out: whatever was known is not, any more
                self._told.pop(store.id, None)
            else:
                if len(self._told) >= _MOST_KNOWN:
                    self._told.clear()
                self._told[store.id] = store, at
            yield store
