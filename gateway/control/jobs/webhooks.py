"""Tells news by webhook, signed as Standard Webhooks has it (and OpenAI's own, so that its SDK can check them)."""

import base64
import hashlib
import hmac
import ssl

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway.control.jobs.news import News, NotToldError, event_of
from gateway.control.registry.channels import Channel, WebhookChannel
from gateway.public_addresses import public_socket
from gateway.settings.model import Alerts
from gateway.values import Secret

_ALL_S = 10.0


class Webhooks:
    """Posts events. Hosts that the settings do not list must have public addresses: each address is looked at when it
    is dialed, so that it does not matter what a name resolves to before or after. tls, resolver: None is the system's.
    """

    def __init__(
        self,
        settings: Alerts,
        secret: Secret,
        *,
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._allowed = {host.lower() for host in settings.webhook_allowed_hosts}
        self._key = base64.b64decode(secret.reveal().removeprefix("whsec_"))
        self._tls = tls if tls is not None else ssl.create_default_context()
        self._resolver = resolver

    async def tell(self, channel: Channel, news: News) -> str | None:
        assert isinstance(channel, WebhookChannel)
        body = msgspec.json.encode(event_of(news))
        try:
            status = await self._post(URL(channel.url), body, self._headers(news, body))
        except TimeoutError:
            raise NotToldError("it takes too long") from None
        except aiohttp.ClientConnectorError as error:  # the others quote URLs, whose paths may be secrets
            raise NotToldError(f"no connection to {error.host}: {error.os_error}") from None
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise NotToldError(f"it cannot be reached ({type(error).__name__})") from None
        if not 200 <= status < 300:
            raise NotToldError(f"it answered {status}")
        return None

    async def _post(self, url: URL, body: bytes, headers: dict[str, str]) -> int:
        """Returns the answer's status; of the rest nothing is read."""
        allowed = (url.host or "").lower() in self._allowed
        connector = aiohttp.TCPConnector(
            ssl=self._tls,
            force_close=True,
            use_dns_cache=False,
            resolver=self._resolver,
            socket_factory=None if allowed else public_socket,
        )
        timeout = aiohttp.ClientTimeout(total=_ALL_S)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as response,
        ):
            return response.status

    def _headers(self, news: News, body: bytes) -> dict[str, str]:
        signed = b"%s.%d.%s" % (news.id.encode(), news.at, body)
        signature = base64.b64encode(hmac.new(self._key, signed, hashlib.sha256).digest()).decode()
        return {
            "Content-Type": "application/json",
            "User-Agent": "openai-gateway",
            "webhook-id": news.id,
            "webhook-timestamp": str(news.at),
            "webhook-signature": f"v1,{signature}",
        }
