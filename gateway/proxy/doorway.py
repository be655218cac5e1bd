"""The outermost door: whatever happens to a request inside, here it gets an answer, a line in the log and a count."""

import asyncio

from gateway.clock import Clock
from gateway.errors import INTERNAL, OVERLOADED, GatewayError
from gateway.proxy.http.connection import ServerConnection
from gateway.proxy.http.cors import Cors
from gateway.proxy.http.downstream import Downstream
from gateway.proxy.http.headers import Named
from gateway.proxy.http.incoming import Head
from gateway.proxy.http.request import RequestIds, read_request
from gateway.proxy.http.target import Targets, as_text, shown_path
from gateway.proxy.http.visit import Observation, Visit
from gateway.proxy.ops import Recorder
from gateway.proxy.pipeline import Pipeline
from gateway.telemetry.logging import Logger


class Doorway:
    """Lets requests in, one call of `handle` each. Never raises but when the client has left."""

    def __init__(
        self,
        pipeline: Pipeline,
        recorder: Recorder,
        *,
        cors: Cors,
        ids: RequestIds,
        clock: Clock,
        log: Logger,
        max_in_flight: int,
    ) -> None:
        self._pipeline = pipeline
        self._recorder = recorder
        self._cors = cors
        self._clock = clock
        self._log = log
        self._max_in_flight = max_in_flight
        self._ids = ids
        self._targets = Targets()
        self.in_flight = 0

    async def handle(self, connection: ServerConnection, head: Head, down: Downstream) -> None:
        clock, method = self._clock, head.method
        target = self._targets.known(head.target)
        path = target.shown if target is not None else shown_path(as_text(head.target))
        seen = Observation(self._ids.new(), method, path, connection.client, clock.wall(), clock.monotonic())
        down.request_id = seen.request_id.encode()
        self.in_flight += 1
        try:
            if self._cors.enabled and self._preflight(head, down):
                return
            if self.in_flight > self._max_in_flight:
                raise GatewayError(OVERLOADED)
            request = read_request(head, target or self._targets.read(method, head.target))
            await self._pipeline.serve(Visit(request, head.body, connection, down, seen))
        except GatewayError as error:
            self._refuse(down, error, seen)
        except asyncio.CancelledError:
            if not down.complete:
                seen.ended = "client_left"
            raise
        except Exception:  # noqa: BLE001 - the outermost door, and structlog's logger is none that ruff knows
            self._log.exception("request_failed", request_id=seen.request_id)
            self._refuse(down, GatewayError(INTERNAL), seen)
        finally:
            self.in_flight -= 1
            seen.status = down.status
            seen.bytes_out = down.sent
            self._recorder.record(seen)

    def _preflight(self, head: Head, down: Downstream) -> bool:
        """Whether a browser only asked what it may do, which is answered here."""
        headers = Named(head.headers.named)
        preflight = self._cors.preflight(head.method, headers)
        if preflight is None:
            down.extra = self._cors.headers(headers)
            return False
        down.answer(204, preflight, b"")
        return True

    @staticmethod
    def _refuse(down: Downstream, error: GatewayError, seen: Observation) -> None:
        if not down.take_back():
            down.cut()
            seen.cut_short(error)
        else:
            down.fail(error)
            seen.refuse(error)
