"""News by e-mail, to a real SMTP server."""

from collections.abc import AsyncIterator

import pytest

from gateway.control.jobs import mail as module
from gateway.control.jobs.mail import Mail
from gateway.control.jobs.news import News, NotToldError
from gateway.control.registry.channels import EmailChannel
from gateway.settings.model import Smtp
from gateway.values import Secret
from tests.fakes.smtp import SmtpServer, smtp_server
from tests.fakes.tls_front import Certificate, self_signed

CHANNEL = EmailChannel(["ada@example.com", "bob@example.com", "ada@example.com"], "Spend\r\nBcc: eve@example.com")
NEWS = News(
    "alert_1", "org-gateway", "p:proj_1", "month", 1_234_56 * 10_000_000, "2027-01", 1_240_01 * 10_000_000 + 1,
    1_800_000_000, "Chat\nof all",
)  # fmt: skip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def server(certificate: Certificate) -> AsyncIterator[SmtpServer]:
    async with smtp_server(certificate) as server:
        yield server


def mail(server: SmtpServer, *, trusting: bool = True, starttls: bool = True) -> Mail:
    settings = Smtp("localhost", "gateway@example.com", server.port, starttls, "gateway", Secret("pass word"))
    return Mail(settings, server.certificate.trusting() if trusting else None)


async def test_what_is_sent(server: SmtpServer) -> None:
    assert await mail(server).tell(CHANNEL, NEWS) is None
    (received,) = server.received
    assert (received.encrypted, received.login) == (True, ("gateway", "pass word"))
    assert (received.sender, received.recipients) == ("gateway@example.com", ["ada@example.com", "bob@example.com"])
    message = received.message
    prefix = "Spend Bcc: eve@example.com: "
    assert message["Subject"] == prefix + "Project proj_1 has spent $1,234.56 in 2027-01 (UTC)"
    assert (message["From"], message["To"]) == ("gateway@example.com", "ada@example.com, bob@example.com")
    assert message["Bcc"] is None, "a line break in a prefix begins no header"
    assert message["Date"] == "Fri, 15 Jan 2027 08:00:00 +0000"
    assert message["Message-ID"] == f"<{NEWS.id}@example.com>"
    assert message.get_content().replace("\r\n", "\n") == (
        "The project proj_1 (Chat of all) has reached the threshold of $1,234.56 in 2027-01 (UTC).\n\n"
        "So far it has spent $1,240.01, what its calls under way may cost included.\n\n"
        "This is spend alert alert_1. It refuses no calls.\n"
    )


async def test_a_relay_without_tls_and_login(server: SmtpServer) -> None:
    plain = Mail(Smtp("127.0.0.1", "gateway@example.com", server.port, starttls=False))
    news = News("alert_2", "org-gateway", "o", "total", 0, "total", None, 1_800_000_000)
    await plain.tell(EmailChannel(["ada@example.com"], "Ausgaben für alle"), news)
    (received,) = server.received
    assert (received.encrypted, received.login) == (False, None)
    assert received.message["Subject"] == "Ausgaben für alle: Organization org-gateway has spent $0.00 in total"
    assert "So far" not in received.message.get_content()


async def test_a_server_that_is_not_trusted_hears_no_password(server: SmtpServer) -> None:
    with pytest.raises(NotToldError, match="certificate"):
        await mail(server, trusting=False).tell(CHANNEL, NEWS)
    assert (server.connections, server.received) == (1, [])


@pytest.mark.parametrize(
    ("command", "answer", "reason"),
    [
        ("EHLO", "554 go away", "the mail server cannot be used: "),
        ("STARTTLS", "454 no TLS", "the mail server answered 454 no TLS"),
        ("AUTH", "535 who are you", "the mail server answered 535 who are you"),
        ("MAIL", "550 not from you", "the mail server answered 550 not from you"),
        ("RCPT", "550 nobody here", "the mail server refused 2 recipients (550)"),
        ("DATA", "451 not now", "the mail server answered 451 not now"),
    ],
)
async def test_refusals(server: SmtpServer, command: str, answer: str, reason: str) -> None:
    server.refuse = {command: answer}
    with pytest.raises(NotToldError) as caught:
        await mail(server).tell(CHANNEL, NEWS)
    assert str(caught.value).startswith(reason)
    assert "pass word" not in str(caught.value)
    assert server.received == []


async def test_a_refused_recipient_does_not_keep_it_from_the_others(server: SmtpServer) -> None:
    server.refuse = {"RCPT TO:<ada": "550 nobody here"}
    assert await mail(server).tell(CHANNEL, NEWS) == "the mail server refused 1 recipients (550)"
    assert [received.recipients for received in server.received] == [["bob@example.com"]]


async def test_what_is_taken_is_told_however_the_conversation_ends(server: SmtpServer) -> None:
    server.refuse = {"QUIT": "421 too busy to say goodbye"}
    assert await mail(server).tell(CHANNEL, NEWS) is None
    assert len(server.received) == 1


async def test_no_server_and_a_silent_one(server: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotToldError, match="cannot be used"):
        await Mail(Smtp("127.0.0.1", "gateway@example.com", 1)).tell(CHANNEL, NEWS)
    server.silent_at = "DATA"
    monkeypatch.setattr(module, "_STEP_S", 0.2)
    with pytest.raises(NotToldError, match="timed out"):
        await mail(server).tell(CHANNEL, NEWS)
    monkeypatch.setattr(module, "_ALL_S", 0.1)
    with pytest.raises(NotToldError, match="takes too long"):
        await mail(server).tell(CHANNEL, NEWS)
