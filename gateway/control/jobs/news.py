"""What is told when spend has reached an alert's threshold: as an e-mail and as a webhook's event."""

import hashlib
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any, Protocol

import msgspec

from gateway.control.registry.channels import Channel, EmailChannel
from gateway.limits import NANO_USD_IN_A_CENT, ORGANIZATION_FIELD, Window

_LINE = 900  # of headers: the usual 78 would break a subject before its first word; SMTP takes 998
_SECOND_US = 1_000_000


class NotToldError(Exception):
    """It could not be told, and is worth another try. The message is for logs: it holds no secret, and of a
    webhook's URL the host at most."""


class News(msgspec.Struct, frozen=True):
    """window: as `window_name` gives it. threshold, spent: nano-dollars; None if the window is over. at: seconds since
    1970. name: the project's.
    """

    alert_id: str
    organization_id: str
    subject: str
    interval: Window
    threshold: int
    window: str
    spent: int | None
    at: int
    name: str | None = None

    @property
    def id(self) -> str:
        """The same for all tries, so that who gets it twice can know: of the alert, its threshold and the window."""
        return "evt_" + hashlib.sha256(f"{self.alert_id} {self.threshold} {self.window}".encode()).hexdigest()[:24]

    @property
    def project_id(self) -> str | None:
        return None if self.subject == ORGANIZATION_FIELD else self.subject.partition(":")[2]


class Teller(Protocol):
    """Who tells news by one kind of channel."""

    async def tell(self, channel: Channel, news: News) -> str | None:
        """Returns what went wrong all the same, for the log. Raises NotToldError."""


def window_name(window: Window, at_us: int) -> str:
    """The window that an instant is in, as people write it: `2027-01-15`, `2027-W02`, `2027-01`, `total`."""
    day = datetime.fromtimestamp(at_us // _SECOND_US, UTC).date()
    match window:
        case "day":
            return day.isoformat()
        case "week":
            return f"{day.isocalendar().year}-W{day.isocalendar().week:02}"
        case "month":
            return f"{day:%Y-%m}"
        case "total":
            return "total"


def _usd(nano_usd: int) -> str:
    cents = nano_usd // NANO_USD_IN_A_CENT
    return f"${cents // 100:,}.{cents % 100:02}"


def email_of(channel: EmailChannel, news: News, sender: str) -> EmailMessage:
    who = f"project {news.project_id}" if news.project_id is not None else f"organization {news.organization_id}"
    when = "in total" if news.interval == "total" else f"in {news.window} (UTC)"
    subject = f"{who.capitalize()} has spent {_usd(news.threshold)} {when}"
    named = f" ({' '.join(news.name.split())})" if news.name else ""
    lines = [f"The {who}{named} has reached the threshold of {_usd(news.threshold)} {when}.", ""]
    if news.spent is not None:
        lines += [f"So far it has spent {_usd(news.spent)}, what its calls under way may cost included.", ""]
    lines += [f"This is spend alert {news.alert_id}. It refuses no calls."]
    message = EmailMessage(policy=SMTP.clone(max_line_length=_LINE))
    prefix = f"{channel.subject_prefix}: " if channel.subject_prefix else ""
    message["Subject"] = " ".join((prefix + subject).split())  # a line break there would be another header
    message["From"] = sender
    message["To"] = ", ".join(dict.fromkeys(channel.recipients))
    message["Date"] = format_datetime(datetime.fromtimestamp(news.at, UTC))
    message["Message-ID"] = f"<{news.id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # no answers by machines, please
    message.set_content("\n".join(lines) + "\n")
    return message


def event_of(news: News) -> dict[str, Any]:
    """In the form of OpenAI's webhook events."""
    kind = "project" if news.project_id is not None else "organization"
    return {
        "id": news.id,
        "object": "event",
        "created_at": news.at,
        "type": "spend_alert.reached",
        "data": {
            "id": news.alert_id,
            "object": f"{kind}.spend_alert",
            "organization_id": news.organization_id,
            "project_id": news.project_id,
            "threshold_amount": news.threshold // NANO_USD_IN_A_CENT,
            "currency": "USD",
            "interval": news.interval,
            "window": news.window,
            "spent_amount": news.spent // NANO_USD_IN_A_CENT if news.spent is not None else None,
        },
    }
