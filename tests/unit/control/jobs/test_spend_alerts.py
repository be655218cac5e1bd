"""Spend alerts from the admin API to whom they are told: real counters, both databases, a real SMTP server and a real
receiver of webhooks."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import select
from structlog.testing import capture_logs

from gateway.accounts.answers import Stale
from gateway.accounts.spend import Spend
from gateway.control.jobs.mail import Mail
from gateway.control.jobs.news import News, Teller, window_name
from gateway.control.jobs.spend_alerts import SpendAlerts, tellers
from gateway.control.jobs.webhooks import Webhooks
from gateway.control.registry.channels import Channel
from gateway.control.sql.database import Database
from gateway.control.sql.tables import spend_alerts
from gateway.limits import WINDOWS
from gateway.settings.model import Alerts, Smtp
from gateway.values import Secret
from tests.fakes.admin_api import AdminApi, admin_api
from tests.fakes.events import KEYS, ORG
from tests.fakes.hooks import Hooks, hooks_server
from tests.fakes.redis_servers import Server
from tests.fakes.smtp import SmtpServer, smtp_server
from tests.fakes.tls_front import Certificate, self_signed
from tests.unit.accounts.stand import Accounts, plan_of

SECRET = Secret("whsec_" + "c2VjcmV0" * 4)
DAY_S = 86_400
ALL = "/organization/spend_alerts"


class Stand:
    """An admin API, what has been spent, and jobs that tell of it. The time is the admin API's."""

    def __init__(self, api: AdminApi, registry_url: str, certificate: Certificate, smtp: SmtpServer, hooks: Hooks):
        self.api = api
        self.registry_url = registry_url
        self.smtp = smtp
        self.hooks = hooks
        self._accounts = Accounts(api.server, epoch=False)
        self._calls = 0
        tls = certificate.trusting()
        self.told_by: dict[str, Teller] = {
            "email": Mail(Smtp("localhost", "gateway@example.com", smtp.port), tls),
            "webhook": Webhooks(Alerts(webhook_allowed_hosts=["localhost"]), SECRET, tls=tls),
        }

    def now_us(self) -> int:
        return int(self.api.clock.wall() * 1_000_000)

    def spend(self, cents: int, project_id: str = "proj_1") -> None:
        """A call that costs so much, and is over."""
        self._calls += 1
        self._accounts.now = self.now_us()
        plan, call, nano_usd = plan_of(project_id=project_id), f"req_{self._calls}", cents * 10_000_000
        stale = self._accounts.reserve(plan, call)
        assert isinstance(stale, Stale), "it says which limits are published"
        plan = plan_of(project_id=project_id, version=stale.limits_version)
        self._accounts.admitted(plan, call, nano_usd=nano_usd)
        self._accounts.settle(plan, call, self.now_us(), nano_usd)

    def job(self, told_by: dict[str, Teller] | None = None, database: Database | None = None) -> SpendAlerts:
        spend = Spend(self._accounts.redis, KEYS, now_us=self.now_us)
        told_by = self.told_by if told_by is None else told_by
        log = structlog.get_logger()
        return SpendAlerts(ORG, database or self.api.database, spend, told_by, self.api.clock, log)

    async def alert(self, cents: int, channel: dict[str, Any] | None = None, path: str = ALL, **more: Any) -> str:
        """Makes an alert, or changes the one at this path."""
        channel = channel or {"type": "email", "recipients": ["ada@example.com"]}
        body = {"threshold_amount": cents, "currency": "USD", "interval": "month", "notification_channel": channel}
        found = await self.api.ask("POST", path, {**body, **more})
        assert found.status == 200, found.body
        return str(found.body["id"])

    def webhook(self) -> dict[str, Any]:
        return {"type": "webhook", "url": f"https://localhost:{self.hooks.port}/"}

    def mails(self) -> list[str]:
        return [received.message["Subject"] for received in self.smtp.received]

    async def state(self, alert_id: str) -> tuple[str | None, int, int | None]:
        async with self.api.database.transaction() as connection:
            row = (await connection.execute(select(spend_alerts).where(spend_alerts.c.id == alert_id))).one()
        return row.told_window, row.attempts, row.next_at

    def close(self) -> None:
        self._accounts.redis.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def stand(valkey: Server, registry_url: str, tmp_path: Path, certificate: Certificate) -> AsyncIterator[Stand]:
    async with (
        smtp_server(certificate) as smtp,
        hooks_server(certificate) as hooks,
        admin_api(valkey, registry_url, tmp_path) as api,
    ):
        found = Stand(api, registry_url, certificate, smtp, hooks)
        spend = Spend(found._accounts.redis, KEYS)
        await spend.open_epoch(ORG, "epoch-1")
        yield found
        found.close()


async def test_once_for_each_threshold_and_window(stand: Stand) -> None:
    job = stand.job()
    low, high = await stand.alert(1_000), await stand.alert(2_000)
    stand.spend(999)
    await job.look()
    assert stand.mails() == []
    stand.spend(1)
    for _ in range(3):
        await job.look()
    first = "Organization org-gateway has spent $10.00 in 2027-01 (UTC)"
    assert stand.mails() == [first]
    assert await stand.state(low) == ("2027-01", 0, None)
    assert await stand.state(high) == (None, 0, None)
    await stand.job().look()
    assert stand.mails() == [first], "nor after a restart"
    stand.spend(5_000)
    await job.look()
    assert stand.mails() == [first, first.replace("$10", "$20")]
    stand.api.clock.advance(17 * DAY_S)
    await job.look()
    assert len(stand.mails()) == 2, "a new month begins at nothing"
    stand.spend(1_500)
    await job.look()
    await job.look()
    assert stand.mails()[2:] == [first.replace("2027-01", "2027-02")]


async def test_windows(stand: Stand) -> None:
    """It is Friday the 15th; a week begins on Monday."""
    job = stand.job()
    for interval in ("day", "week", "month", "total"):
        await stand.alert(100, interval=interval)
    told: list[str] = []

    async def newly_told() -> list[str]:
        await job.look()
        new = [subject.removeprefix("Organization org-gateway has spent $1.00 ") for subject in stand.mails()]
        before = len(told)
        told[:] = new
        return sorted(new[before:])

    stand.spend(100)
    assert await newly_told() == ["in 2027-01 (UTC)", "in 2027-01-15 (UTC)", "in 2027-W02 (UTC)", "in total"]
    stand.api.clock.advance(DAY_S)
    stand.spend(100)
    assert await newly_told() == ["in 2027-01-16 (UTC)"]
    stand.api.clock.advance(2 * DAY_S)
    stand.spend(99)
    assert await newly_told() == []
    stand.spend(1)
    assert await newly_told() == ["in 2027-01-18 (UTC)", "in 2027-W03 (UTC)"]
    stand.api.clock.advance(14 * DAY_S)
    stand.spend(100)
    assert await newly_told() == ["in 2027-02 (UTC)", "in 2027-02-01 (UTC)", "in 2027-W05 (UTC)"]


async def test_projects_by_webhook(stand: Stand) -> None:
    one = (await stand.api.ask("POST", "/organization/projects", {"name": "One"})).body["id"]
    other = (await stand.api.ask("POST", "/organization/projects", {"name": "Other"})).body["id"]
    paths = {project: f"/organization/projects/{project}/spend_alerts" for project in (one, other)}
    ids = {project: await stand.alert(500, stand.webhook(), path) for project, path in paths.items()}
    await stand.alert(500, path=paths[one])
    stand.spend(600, one)
    stand.spend(400, other)
    with capture_logs() as logs:
        await stand.job().look()
    (hook,) = stand.hooks.received
    assert f'"id":"{ids[one]}"'.encode() in hook.body
    assert b'"spent_amount":600' in hook.body
    assert stand.mails() == [f"Project {one} has spent $5.00 in 2027-01 (UTC)"]
    assert f"The project {one} (One) has" in stand.smtp.received[0].message.get_content()
    assert sorted((line["event"], line["channel"]) for line in logs) == [
        ("spend_alert_told", "email"), ("spend_alert_told", "webhook")
    ]  # fmt: skip
    assert "localhost" not in str(logs)


async def test_a_failure_is_tried_again_at_growing_pauses_until_it_is_given_up(stand: Stand) -> None:
    alert = await stand.alert(0, stand.webhook())
    stand.hooks.status = 503
    pauses = [30, 60, 120, 240, 480, 960, 1920, *[3600] * 12]
    for attempt, pause in enumerate(pauses, 1):
        with capture_logs() as logs:
            await stand.job().look()
            stand.api.clock.advance(pause - 1)
            await stand.job().look()
            stand.api.clock.advance(1)
        (line,) = logs
        assert (line["event"], line["attempt"], line["again_in_s"]) == ("spend_alert_not_told", attempt, pause)
        assert line["reason"] == "it answered 503"
        assert len(stand.hooks.received) == attempt
    with capture_logs() as logs:
        await stand.job().look()
    assert [(line["attempt"], line["again_in_s"]) for line in logs] == [(20, None)]
    assert await stand.state(alert) == ("2027-01", 20, None)
    assert len({hook.headers["webhook-id"] for hook in stand.hooks.received}) == 1, "who gets it twice can know"
    stand.hooks.status = 200
    stand.api.clock.advance(2 * DAY_S)
    await stand.job().look()
    assert len(stand.hooks.received) == 20
    await stand.alert(0, stand.webhook(), f"{ALL}/{alert}")
    await stand.job().look()
    await stand.job().look()
    assert len(stand.hooks.received) == 21, "whoever has mended it says so by a change"
    assert await stand.state(alert) == ("2027-01", 0, None)
    stand.api.clock.advance(15 * DAY_S)
    await stand.job().look()
    assert len(stand.hooks.received) == 22, "a new window"


async def test_what_could_not_be_told_in_time_is_told_after_the_window(stand: Stand) -> None:
    job = stand.job()
    stand.api.clock.advance(16 * 3600 - 10)  # ten seconds to midnight
    alert = await stand.alert(100, interval="day")
    stand.spend(150)
    stand.smtp.refuse = {"DATA": "451 not now"}
    await job.look()
    stand.smtp.refuse = {}
    stand.api.clock.advance(29)
    await job.look()
    assert stand.mails() == []
    stand.api.clock.advance(1)
    await job.look()
    await job.look()
    assert stand.mails() == ["Organization org-gateway has spent $1.00 in 2027-01-15 (UTC)"]
    assert "So far" not in stand.smtp.received[0].message.get_content()
    assert await stand.state(alert) == ("2027-01-15", 0, None)
    stand.spend(100)
    await job.look()
    assert stand.mails()[1:] == ["Organization org-gateway has spent $1.00 in 2027-01-16 (UTC)"]


async def test_several_at_once_tell_once(stand: Stand) -> None:
    for cents in range(12):
        await stand.alert(cents, stand.webhook())
    stand.spend(100)
    databases = [stand.api.database] * 3
    if stand.registry_url.startswith("postgresql"):  # of a SQLite file there is one process only
        databases = [await Database.open(stand.registry_url) for _ in range(3)]
    try:
        await asyncio.gather(*(stand.job(database=database).look() for database in databases))
    finally:
        for database in set(databases) - {stand.api.database}:
            await database.close()
    assert len(stand.hooks.received) == 12
    assert len({hook.headers["webhook-id"] for hook in stand.hooks.received}) == 12


class Hanging:
    """Tells nobody; says when it was asked to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def tell(self, channel: Channel, news: News) -> str | None:
        self.asked.set()
        await asyncio.Event().wait()
        return None


async def test_what_a_process_did_not_live_to_tell_is_told_by_another(stand: Stand) -> None:
    alert = await stand.alert(0)
    hanging = Hanging()
    dying = asyncio.get_running_loop().create_task(stand.job({"email": hanging}).look())
    await asyncio.wait_for(hanging.asked.wait(), 10)
    await stand.job().look()
    assert stand.mails() == [], "somebody is at it"
    dying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dying
    stand.api.clock.advance(29)
    await stand.job().look()
    assert stand.mails() == []
    stand.api.clock.advance(1)
    await stand.job().look()
    assert len(stand.mails()) == 1
    assert await stand.state(alert) == ("2027-01", 0, None)


async def test_a_higher_threshold_is_told_again_and_a_lower_one_is_not(stand: Stand) -> None:
    job = stand.job()
    alert = await stand.alert(1_000)
    stand.spend(3_000)
    await job.look()
    for cents in (1_000, 999, 500):
        await stand.alert(cents, path=f"{ALL}/{alert}")
        await job.look()
    assert len(stand.mails()) == 1
    await stand.alert(3_001, path=f"{ALL}/{alert}")
    await job.look()
    assert len(stand.mails()) == 1
    await stand.alert(3_000, path=f"{ALL}/{alert}", interval="total")
    await job.look()
    assert stand.mails()[1:] == ["Organization org-gateway has spent $30.00 in total"]


async def test_a_change_while_it_is_told_is_not_lost(stand: Stand) -> None:
    alert = await stand.alert(100)
    stand.spend(1_000)

    class Changing:
        """The alert is changed while it is being told."""

        async def tell(self, channel: Channel, news: News) -> str | None:
            await stand.alert(200, stand.webhook(), f"{ALL}/{alert}")
            return None

    await stand.job({"email": Changing()}).look()
    assert await stand.state(alert) == (None, 0, None)
    await stand.job().look()
    assert (len(stand.mails()), len(stand.hooks.received)) == (0, 1)


async def test_what_nobody_can_tell_is_logged_once_and_keeps_nothing_else(stand: Stand) -> None:
    await stand.alert(0)
    await stand.alert(0, stand.webhook())
    assert tellers(Alerts()) == {}
    job = stand.job({"webhook": stand.told_by["webhook"]})
    with capture_logs() as logs:
        await job.look()
        await job.look()
    assert [line["event"] for line in logs] == ["spend_alerts_cannot_be_told", "spend_alert_told"]
    assert (logs[0]["channel"], logs[0]["reason"]) == ("email", "alerts.smtp is not set")
    await stand.job().look()
    assert len(stand.mails()) == 1, "told as soon as somebody can"


async def test_nothing_is_said_while_it_is_not_known_what_was_spent(stand: Stand) -> None:
    await stand.alert(0)
    stand.api.server.command("HDEL", "gateway:{org-gateway}:versions", "epoch")
    await stand.job().look()
    assert stand.mails() == []


async def test_a_bug_with_one_alert_does_not_end_the_others(stand: Stand) -> None:
    class Broken:
        async def tell(self, channel: Channel, news: News) -> str | None:
            raise KeyError(news.alert_id)

    broken = await stand.alert(0, stand.webhook())
    await stand.alert(0)
    with capture_logs() as logs:
        await stand.job({**stand.told_by, "webhook": Broken()}).look()
    assert sorted(line["event"] for line in logs) == ["spend_alert_not_told", "spend_alert_told"]
    assert len(stand.mails()) == 1
    assert (await stand.state(broken))[1] == 1


@pytest.mark.parametrize("day", ["2026-12-31", "2027-01-01", "2028-02-29", "2029-12-31"])
def test_a_windows_name_is_the_same_from_its_begin_to_its_end(day: str) -> None:
    begin = int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp() * 1_000_000)
    for window in WINDOWS:
        assert window_name(window, begin) == window_name(window, begin + DAY_S * 1_000_000 - 1)
    assert window_name("day", begin - 1) != window_name("day", begin) == day
