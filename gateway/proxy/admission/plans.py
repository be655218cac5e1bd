"""What limits a call has: the plan of its principal and model, made once for each version of the limits."""

from collections.abc import Mapping

import msgspec

from gateway.accounts.limits import LimitDocuments, permissions_of, reserve_mode, resolve
from gateway.accounts.plan import Plan, make_plan
from gateway.errors import LIMITS_UNAVAILABLE, GatewayError
from gateway.limits import CONCURRENT, Applied, RateLimit, Reserve, SpendLimit
from gateway.proxy.admission.permissions import Rules
from gateway.proxy.admission.provisional import as_text
from gateway.proxy.admission.told import name_of
from gateway.settings.limits import WhenRedisIsAway
from gateway.telemetry.logging import Logger
from gateway.values import Checked, Principal

_MOST_PLANS = 20_000
LONGEST_MODEL = 200  # characters of a client's model that make a difference


class Planned:
    """A plan with what the worker needs to know of it. heads: beginnings of provisional events, by operation.

    checked: its limits, as events have them. spend, rates, concurrency: whether it has limits of that kind that can
    refuse. rules: what the project may use; None if that is everything.
    """

    __slots__ = (
        "_more", "_question", "checked", "concurrency", "heads", "known", "mode", "plan", "rates", "rules", "spend"
    )  # fmt: skip

    def __init__(self, plan: Plan, mode: Reserve, *, known: bool, rules: Rules | None = None) -> None:
        limits = [applied.limit for applied in plan.entries if not applied.limit.shadow]
        self.plan = plan
        self.checked = tuple(map(checked_of, plan.entries))
        self.mode = mode
        self.known = known  # the documents have been read
        self.heads: dict[str, bytes] = {}
        self.spend = any(isinstance(limit, SpendLimit) for limit in limits)
        rates = [limit.kind for limit in limits if not isinstance(limit, SpendLimit)]
        self.concurrency = CONCURRENT in rates
        self.rates = any(kind != CONCURRENT for kind in rates)
        self.rules = rules
        self._more: Planned | None = None
        self._question: Plan | None = None

    def more(self) -> "Planned":
        """The same for what a call takes later on, while it runs: it is not one that runs besides."""
        if self._more is None:
            made = self._like(*(applied for applied in self.plan.entries if not _counts_running(applied)))
            self._more = Planned(made, self.mode, known=self.known)
        return self._more

    def question(self) -> Plan:
        """A plan to ask with whether this one is out of date: what is not is refused, and nothing is taken."""
        if self._question is None:
            self._question = self._like(Applied("key", self.plan.key_id, RateLimit(CONCURRENT, 0)))
        return self._question

    def _like(self, *applied: Applied) -> Plan:
        plan = self.plan
        return make_plan(
            organization_id=plan.organization_id,
            project_id=plan.project_id,
            user_id=plan.user_id,
            key_id=plan.key_id,
            limits_version=plan.limits_version,
            key_version=plan.key_version,
            applied=applied,
        )

    def local(self, away: WhenRedisIsAway) -> list[Applied]:
        """The limits that a worker applies by itself while Redis is away."""
        return [
            applied
            for applied in self.plan.entries
            if isinstance(applied.limit, RateLimit)
            and (away.concurrency if applied.limit.kind == CONCURRENT else away.rates) == "local"
        ]


def checked_of(applied: Applied) -> Checked:
    """A limit as events have it. The model, of a client's words, as text."""
    limit = applied.limit
    value = limit.limit if isinstance(limit, RateLimit) else limit.nano_usd
    return Checked(name_of(applied), applied.scope, value or 0, as_text(applied.model), limit.shadow)


def _counts_running(applied: Applied) -> bool:
    return isinstance(applied.limit, RateLimit) and applied.limit.kind == CONCURRENT


class Plans:
    """The plans of a worker, and the documents that they follow from."""

    def __init__(self, *, spend_closes: bool = True, log: Logger | None = None) -> None:
        """spend_closes: see `make_plan`. log: is told of documents that this version cannot use."""
        self._spend_closes = spend_closes
        self._log = log
        self._said = ""
        self._documents: dict[str, LimitDocuments] = {}
        self._plans: dict[tuple[str, int, str], Planned] = {}
        self._rules: dict[tuple[str, str], Rules | None] = {}  # by organization and project

    @property
    def organizations(self) -> tuple[str, ...]:
        """Those whose limits have been asked for."""
        return tuple(self._documents)

    def of(self, principal: Principal, model: str | None) -> Planned:
        """Raises GatewayError LIMITS_UNAVAILABLE if there is a limit that this version does not know."""
        model = (model or "")[:LONGEST_MODEL]
        planned = self._plans.get((principal.key_id, principal.version, model))
        if planned is not None:
            return planned
        try:
            return self._made(principal, model)
        except (KeyError, ValueError) as error:
            raise self._unusable(principal.organization_id, error) from None

    def update(self, organization_id: str, version: int, changes: Mapping[str, bytes | None], *, since: int) -> None:
        """What has changed in an organization's documents since the version `since`. Raises GatewayError
        LIMITS_UNAVAILABLE if this version cannot read them: a newer one may have written them.
        """
        documents = self._documents.get(organization_id) or LimitDocuments(organization_id)
        try:
            updated = documents.updated(version, changes, since=since)
        except msgspec.MsgspecError as error:
            raise self._unusable(organization_id, error) from None
        if updated is not documents:
            self._documents[organization_id] = updated
            self._plans.clear()
            self._rules.clear()

    def _unusable(self, organization_id: str, error: Exception) -> GatewayError:
        reason = f"{type(error).__name__}: {error}"[:300]
        if self._log is not None and reason != self._said:  # once a reason, not once a call
            self._said = reason
            self._log.error("limits_unusable", organization=organization_id, reason=reason)
        return GatewayError(LIMITS_UNAVAILABLE)

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
            closes=self._spend_closes,
        )
        if len(self._plans) >= _MOST_PLANS:  # models are named by clients
            self._plans.clear()
        known = organization_id in self._documents
        mode, rules = reserve_mode(documents, principal.project_id), self._rules_of(documents, principal.project_id)
        planned = Planned(plan, mode, known=known, rules=rules)
        self._plans[principal.key_id, principal.version, model] = planned
        return planned

    def _rules_of(self, documents: LimitDocuments, project_id: str) -> Rules | None:
        """The same for all plans of a project: lists of models may be long."""
        key = documents.organization_id, project_id
        if key not in self._rules:
            permissions = permissions_of(documents, project_id)
            self._rules[key] = Rules(project_id, permissions) if permissions is not None else None
        return self._rules[key]
