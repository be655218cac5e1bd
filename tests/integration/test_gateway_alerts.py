"""A whole gateway tells of what is spent."""

from pathlib import Path

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import ADMIN_KEY
from tests.fakes.redis_servers import eventually
from tests.fakes.smtp import smtp_server
from tests.fakes.tls_front import self_signed


async def test_spend_is_told_by_email(start_gateway: StartGateway, tmp_path: Path) -> None:
    async with smtp_server(self_signed(tmp_path)) as smtp:
        server = {"host": "127.0.0.1", "port": smtp.port, "from": "gateway@example.com", "starttls": False}
        gateway = start_gateway(alerts={"smtp": server})
        assert gateway.chat().status == 200
        alert = {
            "threshold_amount": 0,
            "currency": "USD",
            "interval": "month",
            "notification_channel": {"type": "email", "recipients": ["ada@example.com"]},
        }
        for path in ("/v1/organization/spend_alerts", "/v1/organization/projects/proj_a/spend_alerts"):
            made = gateway.ask(path, alert, key=ADMIN_KEY)
            assert made.status == 200, made
        await eventually(lambda: len(gateway.events("spend_alert_told", channel="email")) == 2, within_s=30)
        subjects = sorted(received.message["Subject"].rpartition(" in ")[0] for received in smtp.received)
        assert subjects == ["Organization org-gateway has spent $0.00", "Project proj_a has spent $0.00"]
