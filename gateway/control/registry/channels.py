"""How spend alerts are told: the forms of `notification_channel`, in requests, in the table and in answers."""

from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"

EmailAddress = Annotated[str, Meta(max_length=254, pattern=rf"^{_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})*\Z")]
HttpsUrl = Annotated[
    str, Meta(max_length=2048, pattern=r"^https://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?][!-~]*)?\Z")
]


class _Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    pass


class EmailChannel(_Form, frozen=True, tag="email"):
    recipients: Annotated[list[EmailAddress], Meta(min_length=1, max_length=100)]
    subject_prefix: Annotated[str, Meta(max_length=256)] | None = None


class WebhookChannel(_Form, frozen=True, tag="webhook"):
    """Of this gateway. What signs it is a setting."""

    url: HttpsUrl

    def __post_init__(self) -> None:
        if urlsplit(self.url).port == 0:  # it raises ValueError for other ports that are none
            raise ValueError("Port out of range 1-65535")


Channel = EmailChannel | WebhookChannel


def read_channel(column: Any) -> Channel:
    """From the table's column."""
    channel: Channel = msgspec.convert(column, Channel)
    return channel
