"""What limits a call has: the plan of its principal and model, made once for each version of the limits."""

from collections.abc import Mapping

from gateway.accounts.limits import LimitDocuments, reserve_mode, resolve
from gateway.accounts.plan import Plan, make_plan
from gateway.limits import CONCURRENT, Applied, RateLimit, Reserve, SpendLimit
from gateway.settings.limits import WhenRedisIsAway
from gateway.values import Principal

_MOST_PLANS = 20_000
LONGEST_MODEL = 200  # characters of a client's model that make a difference


class Planned:
    """A plan with what the worker needs to know of it. heads: beginnings of provisional events, by operation.

    spend, rates, concurrency: whether it has limits of that kind that can refuse.
    """

    __slots__ = ("concurrency", "heads", "known", "mode", "plan", "rates", "spend")

    def __init__(self, plan: Plan, mode: Reserve, *, known: bool) -> None:
        limits = [applied.limit for applied in plan.entries if not applied.limit.shadow]
        self.plan = plan
        self.mode = mode
        self.known = known  # the documents have been read
        self.heads: dict[str, bytes] = {}
        self.spend = any(isinstance(limit, SpendLimit) for limit in limits)
        rates = [limit.kind for limit in limits if not isinstance(limit, SpendLimit)]
        self.concurrency = CONCURRENT in rates
        self.rates = any(kind != CONCURRENT for kind in rates)

    def local(self, away: WhenRedisIsAway) -> list[Applied]:
        """The limits that a worker applies by itself while Redis is away."""
        return [
            applied
            for applied in self.plan.entries
            if isinstance(applied.limit, RateLimit)
            and (away.concurrency if applied.limit.kind == CONCURRENT else away.rates) == "local"
        ]


class Plans:
    """The plans of a worker, and the documents that they follow from."""

    def __init__(self) -> None:
        self._documents: dict[str, LimitDocuments] = {}
        self._plans: dict[tuple[str, int, str], Planned] = {}

    @property
    def organizations(self) -> tuple[str, ...]:
        """Those whose limits have been asked for."""
        return tuple(self._documents)

    def of(self, principal: Principal, model: str | None) -> Planned:
        model = (model or "")[:LONGEST_MODEL]
        planned = self._plans.get((principal.key_id, principal.version, model))
        return planned if planned is not None else self._made(principal, model)

    def update(self, organization_id: str, version: int, changes: Mapping[str, bytes | None], *, since: int) -> None:
        """What has changed in an organization's documents since the version `since`."""
        documents = self._documents.get(organization_id) or LimitDocuments(organization_id)
        updated = documents.updated(version, changes, since=since)
        if updated is not documents:
            self._documents[organization_id] = updated
            self._plans.clear()

    def _made(self, principal: Principal, model: str) -> Planned:
        organization_id = principal.organization_id
        documents = self._documents.get(organization_id) or LimitDocuments(organization_id)
        applied = resolve(
            documents,
            project_id=principal.project_id,
            user_id=principal.user_id,
            key_id=principal.key_id,
            model=model or None,
        )
        plan = make_plan(
            organization_id=organization_id,
            project_id=principal.project_id,
            user_id=principal.user_id,
            key_id=principal.key_id,
            limits_version=documents.version,
            key_version=principal.version,
            applied=applied,
        )
        if len(self._plans) >= _MOST_PLANS:  # models are named by clients
            self._plans.clear()
        known = organization_id in self._documents
        planned = Planned(plan, reserve_mode(documents, principal.project_id), known=known)
        self._plans[principal.key_id, principal.version, model] = planned
        return planned
