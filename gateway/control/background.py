"""What goes on in the background of a control process: makes the jobs, and starts them."""

from functools import partial

from gateway.accounts.prune import Prune
from gateway.accounts.refusals import Refusals
from gateway.accounts.reservations import Reservations
from gateway.accounts.scripts import AccountScripts
from gateway.accounts.spend import Spend
from gateway.accounts.spend_audit import Counters
from gateway.accounts.usage_stream import Outlet, UsageStream
from gateway.clock import Clock
from gateway.control.jobs.expired_keys import ExpiredKeys
from gateway.control.jobs.folding import Folding
from gateway.control.jobs.pruner import Pruner
from gateway.control.jobs.reconciliation import Reconciliation
from gateway.control.jobs.refused import Refused
from gateway.control.jobs.retention import Retention
from gateway.control.jobs.seen import Seen
from gateway.control.jobs.spend_alerts import SpendAlerts, tellers
from gateway.control.jobs.spend_audit import SpendAudit
from gateway.control.jobs.storage import Storage
from gateway.control.jobs.store_sizes import StoreSizes
from gateway.control.jobs.sweeper import Sweeper
from gateway.control.ledger.consumer import Consumer
from gateway.control.ledger.retention import kept, remove_old
from gateway.control.ledger.vector_stores import Stores
from gateway.control.registry.changes import Changes
from gateway.control.sql.database import Database
from gateway.keyspace import Keyspace
from gateway.pricing.book import make_book
from gateway.redisdb.client import Client
from gateway.redisdb.running import running
from gateway.settings.model import Settings
from gateway.tasks import Tasks
from gateway.telemetry.logging import Logger
from gateway.telemetry.metrics import Metrics

_DAY_S = 86_400


class Background:
    """The jobs of one control process. audit, reconciliation: operators may ask for them, too."""

    def __init__(  # noqa: PLR0917
        self, settings: Settings, database: Database, client: Client, clock: Clock, metrics: Metrics, log: Logger
    ) -> None:
        self._settings = settings
        self._database = database
        self._client = client
        self._clock = clock
        self._log = log
        self._organization_id = settings.organization_id
        self._keyspace = Keyspace(settings.redis.prefix)
        self._keep_s = settings.ledger.events_days * _DAY_S
        self._spend = Spend(client, self._keyspace)
        consumer = self._consumer(metrics)
        self.folding = Folding(consumer, self._stream, clock, metrics, log)
        self.audit = self._audit(consumer, metrics)
        self.reconciliation = Reconciliation(settings, database, clock, metrics, log)

    def start(self, tasks: Tasks) -> None:
        clock, log, organization_id = self._clock, self._log, self._organization_id
        tasks.spawn(self.folding.keep_folded(), "fold usage")
        tasks.spawn(self.audit.keep_right(), "check spend")
        tasks.spawn(self.reconciliation.keep_reconciled(), "reconcile days")
        old = partial(remove_old, self._database, kept(self._settings.ledger))
        tasks.spawn(Retention(old, self.folding, clock, log).keep_removed(), "remove old usage")
        tasks.spawn(self._storage().keep_charged(), "charge storage")
        refusals = Refusals(self._client, self._keyspace)
        refused = Refused(refusals, organization_id, self._database, clock, log, self._keep_s)
        tasks.spawn(refused.keep_taken(), "keep refusals")
        reservations = Reservations(self._client, self._keyspace, AccountScripts.load())
        tasks.spawn(Sweeper(reservations, organization_id, log).keep_swept(), "sweep reservations")
        pruner = Pruner(Prune(self._client, self._keyspace), organization_id, log)
        tasks.spawn(pruner.keep_pruned(), "prune counters")
        changes = Changes(self._database, clock)
        expired = ExpiredKeys(organization_id, changes, self._client, self._keyspace, clock, log)
        tasks.spawn(expired.keep_forgotten(), "forget expired keys")
        told = tellers(self._settings.alerts)
        alerts = SpendAlerts(organization_id, self._database, self._spend, told, clock, log)
        tasks.spawn(alerts.keep_told(), "tell spend alerts")

    async def close(self) -> None:
        """When none of them runs any more."""
        await self.folding.close()

    @property
    def _stream(self) -> Outlet:
        return Outlet(self._client, self._keyspace, self._organization_id)

    def _consumer(self, metrics: Metrics) -> Consumer:
        return Consumer(
            self._organization_id,
            self._database,
            self._stream,
            self._clock,
            self._log,
            metrics.counter("gateway_ledger_events_total"),
            keep_s=self._keep_s,
            after=Seen(self._organization_id, self._database, self._clock).note,
        )

    def _audit(self, consumer: Consumer, metrics: Metrics) -> SpendAudit:
        return SpendAudit(
            self._organization_id,
            self._database,
            consumer,
            Counters(self._client, self._keyspace),
            self._spend,
            partial(running, self._client),
            self._clock,
            metrics,
            self._log,
        )

    def _storage(self) -> Storage:
        return Storage(
            self._organization_id,
            Stores(self._organization_id, self._database),
            StoreSizes(self._settings.upstreams, self._log),
            UsageStream(self._client, self._keyspace, AccountScripts.load().settle).append,
            make_book(self._settings.prices),
            self.folding,
            self._clock,
            self._log,
            keep_s=self._keep_s,
        )
