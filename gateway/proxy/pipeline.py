"""The life of a request, in order. Each step is a room of its own; what it does is written there."""

import asyncio

import msgspec

from gateway.clock import Clock
from gateway.errors import ADMIN_UNAVAILABLE, UPSTREAM_UNREACHABLE, GatewayError
from gateway.operations.table import Operation
from gateway.proxy.admission.permitted import Permitted
from gateway.proxy.admission.reserve import Admits, Grant, KeyChangedError, Wanted, reserve_anew
from gateway.proxy.admission.socket import SocketGate, SocketGates
from gateway.proxy.auth.identify import Caller, Identify
from gateway.proxy.body.intake import Intake, Taken
from gateway.proxy.http.exchanges import Exchanges
from gateway.proxy.http.visit import Visit
from gateway.proxy.metering.call import CallMeter
from gateway.proxy.metering.meter import Meter
from gateway.proxy.ownership import Ownership
from gateway.proxy.relay import relay_for
from gateway.proxy.upstream.forward import Forwarder
from gateway.proxy.upstream.router import Attempt, Router, served_by
from gateway.proxy.websocket.serve import WebSockets
from gateway.values import Principal


class Pipeline(msgspec.Struct, frozen=True):
    """The rooms that a request passes, made by `app.py`. One per worker."""

    clock: Clock
    loop: asyncio.AbstractEventLoop
    identify: Identify
    permitted: Permitted
    intake: Intake
    ownership: Ownership
    admission: Admits
    gates: SocketGates
    router: Router
    forwarder: Forwarder
    meter: Meter
    websockets: WebSockets
    exchanges: Exchanges
    control: tuple[Attempt, ...]

    async def serve(self, visit: Visit) -> None:
        """From head to answer. Raises GatewayError only while nothing has been written to the client."""
        request, seen = visit.request, visit.seen
        if request.target.admin:
            return await self._hand_over(visit)
        principal, key = self.identify.known(visit)
        if principal is None:
            principal, key = await self.identify.ask(request, seen)
        operation = self.permitted.operation(request, seen)
        if principal.scopes:
            self.permitted.scopes.check(principal, operation, request)
        if request.websocket:
            return await self._serve_socket(visit, principal, operation, key)
        taken = self.intake.at_once(request, operation, visit.payload)
        if taken is None:
            taken = await self._take(visit, operation)
        seen.model, seen.stream = taken.model or "", taken.stream
        try:
            self.ownership.check(principal, operation, request)
            attempts = self.router.route(taken.model)
            self.permitted.priced(operation, taken.model, attempts)
            models = [attempt.upstream_model or taken.model for attempt in attempts] if taken.model else []
            wanted = Wanted(operation, taken, seen, visit.down, models)
            try:
                grant = await self.admission.reserve(principal, wanted)
            except KeyChangedError:
                caller = self._caller(visit, operation, key)
                principal, grant = await reserve_anew(caller, principal, self.admission, wanted)
            call = None
            try:
                if grant is not None and grant.tier:
                    self.intake.say_tier(taken, grant.tier)
                call = self.meter.begin(principal, operation, seen, taken)
                await self._exchange(visit, operation, taken, attempts, key, call)
            finally:
                if grant is not None:
                    self._end(grant, call, sent=seen.attempts > 0)
        finally:
            seen.bytes_in = taken.size
            taken.release()

    def _end(self, grant: Grant, call: CallMeter | None, *, sent: bool) -> None:
        """Gives back what the call has not used. sent: an upstream may have seen it."""
        if call is not None and sent and not call.settled:
            self.admission.abandon(grant)
        else:
            self.admission.end(grant, call.used if call is not None else None, sent)

    async def _serve_socket(self, visit: Visit, principal: Principal, operation: Operation | None, key: bytes) -> None:
        model = self.websockets.model(visit.request, operation)
        visit.seen.model = model or ""
        attempts = self.router.route(model)
        self.permitted.priced(operation, model, attempts)
        gate = self._gate(visit, principal, operation, key)
        if gate is not None and model is not None:
            await gate.permit([attempt.upstream_model or model for attempt in attempts])
        await self.websockets.serve(visit, attempts, key, gate)

    def _caller(self, visit: Visit, operation: Operation | None, key: bytes) -> Caller:
        """The caller, for as long as its scopes allow what it has begun."""

        def check(principal: Principal) -> None:
            self.permitted.scopes.check(principal, operation, visit.request)

        return Caller(self.identify, visit.request, key, visit.seen, check)

    def _gate(self, visit: Visit, principal: Principal, operation: Operation | None, key: bytes) -> SocketGate | None:
        """What admits a socket's responses one by one, and meters them; None if it is free."""
        seen = visit.seen
        meter = self.meter.begin_socket(principal, operation, seen)
        if meter is None or operation is None:
            return None

        def models(model: str) -> list[str]:
            attempts = served_by(self.router.route(model), seen.upstream, model)
            self.permitted.priced(operation, model, attempts)
            return [attempt.upstream_model or model for attempt in attempts]

        caller = self._caller(visit, operation, key)
        return self.gates.gate(meter, operation, caller, models, request_id=seen.request_id, named=seen.model)

    async def _take(self, visit: Visit, operation: Operation | None) -> Taken:
        """Takes in a body that has to be waited for, after which the key must still be good."""
        taken = await self.intake.take(visit.request, operation, visit.payload, visit.connection.wait_for_body)
        try:
            await self.identify.ask(visit.request, visit.seen)
        except BaseException:
            taken.release()
            raise
        return taken

    async def _hand_over(self, visit: Visit) -> None:
        """Passes an administrative request to the control process as it is."""
        visit.seen.operation = "admin"
        taken = self.intake.untouched(visit.request, visit.payload, visit.connection.wait_for_body)
        try:
            await self._exchange(visit, None, taken, self.control, b"")
        except GatewayError as error:
            raise GatewayError(ADMIN_UNAVAILABLE) if error.kind is UPSTREAM_UNREACHABLE else error from None

    async def _exchange(  # noqa: PLR0917
        self,
        visit: Visit,
        operation: Operation | None,
        taken: Taken,
        attempts: tuple[Attempt, ...],
        key: bytes,
        call: CallMeter | None = None,
    ) -> None:
        """Sends the request up and its answer down; whatever way that ends, it is metered."""
        seen, down, connection = visit.seen, visit.down, visit.connection
        relay = relay_for(taken, down, self.clock, self.loop, key, operation)
        if call is not None:
            relay.meter = call.opened
        connection.writer = relay
        self.exchanges.add(relay)
        ended = "client_left"
        try:
            ending = await self.forwarder.forward(visit, attempts, taken, self.intake.outgoing, relay)
            ended = "complete" if ending.error is None else "cut"
            if ending.error is not None:
                seen.note_failed(ending.error, self.clock.monotonic())
        except GatewayError:
            ended = "refused"
            raise
        finally:
            self.exchanges.discard(relay)
            connection.writer = None
            seen.answered(relay.head_at, relay.upstream_request_id)
            if call is not None:
                self.meter.settle(call, sent=relay.sent and ended != "refused", ended=ended)
        if ending.error is not None:
            if not down.started:
                raise ending.error
            seen.cut_short(ending.error)
