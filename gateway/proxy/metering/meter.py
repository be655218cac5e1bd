"""Makes of each billable call, and of each response on a socket, one usage event: lines as reported or estimated, with
their prices."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import msgspec

from gateway.accounts.usage_stream import Packed
from gateway.clock import Clock
from gateway.errors import without_keys
from gateway.operations.table import Operation
from gateway.pricing.book import Book
from gateway.proxy.http.visit import Observation
from gateway.proxy.metering.call import CallMeter, Held, Request, head_ms
from gateway.proxy.metering.counters import UsageCounters
from gateway.proxy.metering.plain_calls import PlainCalls
from gateway.proxy.metering.socket import SocketMeter
from gateway.proxy.metering.stores import Stores
from gateway.telemetry.logging import Logger
from gateway.usage.asked import NOTHING, Asked
from gateway.usage.estimate import Densities, overhead_tokens
from gateway.usage.exact import Tokenizers
from gateway.usage.extract import rules_of
from gateway.usage.kinds import KINDS, UNKNOWN, Kind
from gateway.usage.lines import Answer, Attempt, lines_of, model_of, used_of
from gateway.usage.rules import UNKNOWN_RULES, Rule
from gateway.usage.sockets.session import SESSIONS
from gateway.usage.sockets.turns import Finished, Ticket
from gateway.usage.stores import OPERATIONS as STORE_RULES
from gateway.usage.stores import SEEN
from gateway.usage.tools_asked import completed, of_tools
from gateway.values import Checked, Principal, Taking, Tried, UsageEvent, UsageLine, Used

_LEARN_FIRST, _LEARN_EVERY = 16, 64  # so many reported calls are measured, then one in so many: how long tokens are
_LEARN_EVERY_LARGE = 1024  # of those whose request takes a while to be looked at
_LEARN_OUTPUT_EVERY = 4  # how much it puts out costs less to learn
_TOLD = frozenset({"text", "input"})  # bases whose reports need nothing of the request besides
_UNFINISHED = frozenset({"queued", "in_progress", "requires_action", "validating", "validating_files", "running"})
_SWITCHED = 101  # status of what happens on a socket, as in its access line
_MOST_NAMED = 1000  # models of which the log has said that they have no price


class Plan(msgspec.Struct, frozen=True):
    """How the calls of an operation are metered."""

    operation: str
    category: str | None
    kind: Kind
    rules: tuple[Rule, ...]


class Reserved(msgspec.Struct, frozen=True):
    """What was reserved for a call, against which limits. at_us: when, by Redis' clock; 0 without Redis."""

    at_us: int
    taking: Taking | None
    limits: tuple[Checked, ...]


class Meter:
    """Meters calls. One per worker."""

    def __init__(
        self,
        operations: Iterable[Operation],
        book: Book,
        counters: UsageCounters,
        deliver: Callable[[UsageEvent | Packed], None],
        log: Logger,
        *,
        clock: Clock,
    ) -> None:
        self._book = book
        self._counters = counters
        self._deliver = deliver
        self._plain = PlainCalls(book, counters, deliver)
        self._stores = Stores(deliver)
        self._log = log
        self._clock = clock
        self._tokenizers = Tokenizers()
        self._densities = Densities(self._tokenizers.tokens)
        self._plans = plans(operations)
        self._held = Held()
        self._unknown = Plan("", None, UNKNOWN, UNKNOWN_RULES)
        self._unpriced: set[str] = set()
        self._reported = 0

    async def load_tokenizers(self) -> None:
        """Makes estimates of text exact where the optional tokenizers are there. May take a while; raises nothing."""
        trouble = await self._tokenizers.load()
        self._log.info("tokens_are_estimated_by_bytes" if trouble else "tokens_are_counted", reason=trouble)

    def begin(
        self, principal: Principal, operation: Operation | None, seen: Observation, request: Request
    ) -> CallMeter | None:
        """A call is about to go upstream; None if it is free."""
        if operation is None:
            plan = self._unknown if seen.method == "POST" else None
        else:
            plan = self._plans.get(operation.id)
        return None if plan is None else CallMeter(plan, principal, seen, request, self._held)

    def begin_socket(self, principal: Principal, operation: Operation | None, seen: Observation) -> SocketMeter | None:
        """A socket is about to be opened upstream; None if it is free."""
        plan = self._plans.get(operation.id) if operation is not None else None
        make = SESSIONS.get(plan.operation) if plan is not None else None
        if plan is None or make is None:
            return None
        session = make(self._clock.wall, plan.rules, plan.kind)
        return SocketMeter(plan, principal, seen, session, self.settle_response)

    def settle(self, call: CallMeter, *, sent: bool, ended: str) -> None:
        """The call has ended; `call.used` is what its event says, which is on its way. None if there is none: no
        upstream has seen the call, or it is of an unknown kind and says nothing of usage.

        sent: whether an upstream may have taken it on. ended: as in the access line.
        """
        try:
            call.used = self._settle(call, sent=sent, ended=ended)
            call.settled = True
        finally:
            call.done()

    def _settle(self, call: CallMeter, *, sent: bool, ended: str) -> Used | None:
        seen, plan = call.seen, call.plan
        if plan.kind is SEEN:
            self._stores.settle(call, ended=ended)
            return None
        sent = sent and call.sent_whole and call.status < 400
        if not seen.attempts or (plan is self._unknown and not call.status):
            return None
        at_us = seen.admitted_us or int(seen.wall * 1e6)
        lines: tuple[UsageLine, ...] = ()
        pending = ""
        if sent:
            if (used := self._plainly(call, ended, at_us)) is not None:
                return used
            lines, pending = self._lines(call)
            if plan is self._unknown and not lines:
                return None
            if of_tools(lines):
                lines = tuple(completed(lines, call.tools()))
        event = self._hand_over(
            call,
            seen.request_id,
            at_us,
            lines,
            Reserved(seen.admitted_us, seen.taking, seen.checked),
            category=plan.category,
            status=call.status,
            ended=ended,
            end_user=call.end_user,
            pending=pending,
        )
        return used_of(event)

    def _plainly(self, call: CallMeter, ended: str, at_us: int) -> Used | None:
        """The short way; None if the call has to go the long one, or something is to be learned from it."""
        basis, reported = call.plan.kind.basis, self._reported
        if basis not in _TOLD or self._learns(call) or (short := call.plain()) is None or not short.model:
            return None
        used = self._plain.settle(call, short, ended, at_us)
        if used is not None:
            self._reported += 1
            if basis == "text" and reported % _LEARN_OUTPUT_EVERY == 0:
                details = short.usage.completion_tokens_details
                thought = details.reasoning_tokens or 0 if details is not None else 0
                self._densities.learn_output(used.model or short.model, used.output_tokens, thought)
        return used

    def _learns(self, call: CallMeter) -> bool:
        """Whether this call's texts are measured."""
        reported, every = self._reported, _LEARN_EVERY if call.small else _LEARN_EVERY_LARGE
        return call.plan.kind.basis == "text" and (reported < _LEARN_FIRST or reported % every == 0)

    def settle_response(self, socket: SocketMeter, done: Finished, ticket: Ticket) -> UsageEvent:
        """A response on a socket has ended, or something else there that is an event of its own; gives that."""
        seen = socket.seen
        lines: tuple[UsageLine, ...] = ()
        if not done.refused:
            attempt = Attempt(
                kind=done.kind,
                category=done.category,
                number=max(1, seen.attempts),
                upstream=seen.upstream,
                request_model=done.model if done.apart else seen.model or done.model,
                upstream_model="" if done.apart else seen.upstream_model,
            )
            lines = lines_of(attempt, done.asked, done.answer, self._densities)
            if done.kind.basis == "text":
                self._learn(attempt, done.answer, NOTHING)  # what it was asked has not been measured
        return self._hand_over(
            socket,
            f"{seen.request_id}/{ticket.number}",
            ticket.at_us or int(done.begun_at * 1e6),
            lines,
            Reserved(ticket.at_us, ticket.reserved, ticket.limits),
            category=done.category,
            status=done.status or _SWITCHED,
            ended="complete" if done.complete else socket.ended,
            end_user=done.end_user,
        )

    def _lines(self, call: CallMeter) -> tuple[tuple[UsageLine, ...], str]:
        """What an attempt used, and the id of the object that will tell more."""
        seen, plan = call.seen, call.plan
        basis, reported, learning = plan.kind.basis, self._reported, self._learns(call)
        answer = call.answer(texts=learning)
        attempt = Attempt(
            kind=plan.kind,
            category=plan.category,
            number=max(1, seen.attempts),
            upstream=seen.upstream,
            request_model=seen.model,
            upstream_model=seen.upstream_model,
        )
        if answer.reports:
            self._reported += 1
            if learning or (basis == "text" and reported % _LEARN_OUTPUT_EVERY == 0):
                self._learn(attempt, answer, call.asked() if learning else NOTHING)
        elif basis == "unknown" or (answer.failed and not answer.text_bytes):
            return (), ""
        pending = ""
        if plan.kind.deferred and not answer.reports and _unfinished(plan.kind, answer):
            pending = answer.object_id
        if basis == "later" and not answer.reports:
            return (), pending
        asked = NOTHING if answer.reports and basis in _TOLD else call.asked()
        return lines_of(attempt, asked, answer, self._densities), pending

    def _learn(self, attempt: Attempt, answer: Answer, asked: Asked) -> None:
        """A call that reported what it used shows what this model puts out, and, where all that it read and wrote was
        measured, how long its tokens are."""
        own = [report for report in answer.reports if not report.category]  # the others are of tools
        if not own:
            return
        used, model, densities = own[-1].quantities, model_of(attempt, answer), self._densities
        densities.learn_output(model, used.output_tokens, used.reasoning_tokens)
        if not asked.plain:
            return
        densities.learn(model, "output", answer.text_bytes, used.output_tokens - used.reasoning_tokens)
        if not (used.input_image_tokens or used.input_audio_tokens):
            densities.learn(model, "input", asked.text_bytes, used.input_tokens - overhead_tokens(asked.messages))

    def flush(self) -> None:
        """Carries over what was counted to the metrics."""
        self._plain.flush()
        self._counters.flush()

    def priced(self, lines: tuple[UsageLine, ...], at: float) -> tuple[UsageLine, ...]:
        """The lines with their prices at a time (seconds since 1970)."""
        if len(lines) == 1:
            return (self._price(lines[0], at),)
        return tuple([self._price(line, at) for line in lines])

    def _price(self, line: UsageLine, at: float) -> UsageLine:
        priced, stand_in = self._book.priced(line, at)
        if stand_in is not None:
            self._no_price(stand_in.model, stand_in.note)
        return priced

    def _no_price(self, model: str, note: str) -> None:
        self._counters.unpriced(self._book.label(model))
        if model not in self._unpriced and len(self._unpriced) < _MOST_NAMED:
            self._unpriced.add(model)
            self._log.warning("model_without_price", model=without_keys(model)[:200], note=without_keys(note)[:300])

    def _hand_over(
        self,
        of: CallMeter | SocketMeter,
        event_id: str,
        at_us: int,
        lines: tuple[UsageLine, ...],
        held: Reserved,
        *,
        category: str | None,
        status: int,
        ended: str,
        end_user: str,
        pending: str = "",
    ) -> UsageEvent:
        """Makes the event, counts it and delivers it. at_us: µs since 1970."""
        principal = of.principal
        event = UsageEvent(
            id=event_id,
            at_us=at_us,
            organization_id=principal.organization_id,
            project_id=principal.project_id,
            user_id=principal.user_id,
            key_id=principal.key_id,
            operation=of.plan.operation,
            category=category,
            status=status,
            ended=ended,
            stream=of.seen.stream,
            end_user=end_user,
            pending=pending,
            reserved=held.taking,
            limits=held.limits,
            locally=held.taking is not None and not held.at_us,
            attempts=attempts_of(of.seen, status),
            lines=self.priced(lines, at_us / 1e6),
        )
        self._counters.count(event)
        self._deliver(event)
        return event


def plans(operations: Iterable[Operation]) -> Mapping[str, Plan]:
    """The plans of all operations that are metered, or tell of vector stores, by their ids."""
    proxied = [operation for operation in operations if operation.plane == "proxied"]
    found = {
        operation.id: Plan(operation.id, operation.category, KINDS[operation.id], rules_of(operation.id))
        for operation in proxied
        if operation.id in KINDS
    }
    for operation in proxied:
        if (rules := STORE_RULES.get(operation.id)) is not None:
            found[operation.id] = Plan(operation.id, None, SEEN, rules)
    return MappingProxyType(found)


def attempts_of(seen: Observation, status: int) -> tuple[Tried, ...]:
    """All that were made. status: of the answer to the last one."""
    tried = seen.tried
    if seen.attempts <= max((one.attempt for one in tried), default=0):
        return tried  # none after these has reached anybody
    error, ms = seen.failed if seen.failed[0] else ("", head_ms(seen))
    return (*tried, Tried(seen.attempts, seen.upstream, status, error, ms, seen.upstream_request_id))


def _unfinished(kind: Kind, answer: Answer) -> bool:
    """Whether the answer is of an object that goes on after it, also if its client has not waited for it."""
    return (
        bool(answer.object_id)
        and not answer.ends_with_client
        and (answer.state in _UNFINISHED or kind.basis == "later")
    )
