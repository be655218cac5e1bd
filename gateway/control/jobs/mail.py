"""Tells news by e-mail."""

import asyncio
import contextlib
import smtplib
import ssl
from collections.abc import Mapping
from email.message import EmailMessage

from gateway.control.jobs.news import News, NotToldError, email_of
from gateway.control.registry.channels import Channel, EmailChannel
from gateway.settings.model import Smtp

_STEP_S = 5.0  # for each step of the conversation
_ALL_S = 20.0
_LONGEST = 200


class Mail:
    """Hands e-mails to an SMTP server. tls: None trusts whom the system trusts."""

    def __init__(self, settings: Smtp, tls: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._tls = tls if tls is not None else ssl.create_default_context()

    async def tell(self, channel: Channel, news: News) -> str | None:
        assert isinstance(channel, EmailChannel)
        message = email_of(channel, news, self._settings.sender)
        try:
            async with asyncio.timeout(_ALL_S):
                refused = await asyncio.to_thread(self._send, message)
        except TimeoutError:
            raise NotToldError("the mail server takes too long") from None
        except smtplib.SMTPRecipientsRefused as error:
            raise NotToldError(_refusal(error.recipients)) from None
        except smtplib.SMTPResponseException as error:
            words = error.smtp_error if isinstance(error.smtp_error, str) else error.smtp_error.decode(errors="replace")
            raise NotToldError(f"the mail server answered {error.smtp_code} {words}"[:_LONGEST]) from None
        except (smtplib.SMTPException, OSError) as error:
            raise NotToldError(f"the mail server cannot be used: {error}"[:_LONGEST]) from None
        return _refusal(refused) if refused else None  # the others have it, and would get it again

    def _send(self, message: EmailMessage) -> dict[str, tuple[int, bytes]]:
        """In a thread. Returns the recipients that the server refused, if it took any."""
        settings = self._settings
        server = smtplib.SMTP(settings.host, settings.port, timeout=_STEP_S)
        try:
            if settings.starttls:
                server.starttls(context=self._tls)
            if settings.username is not None and settings.password is not None:
                server.login(settings.username, settings.password.reveal())
            refused = server.send_message(message)
            with contextlib.suppress(smtplib.SMTPException, OSError):
                server.quit()  # it has been taken, whatever is answered here
            return refused
        finally:
            server.close()


def _refusal(recipients: Mapping[str, tuple[int, bytes]]) -> str:
    codes = ", ".join(sorted({str(code) for code, _ in recipients.values()}))
    return f"the mail server refused {len(recipients)} recipients ({codes})"
