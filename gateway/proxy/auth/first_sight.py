"""Tokens that Redis knows nothing of: the control process is asked to make them known."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec

from gateway.errors import INVALID_TOKEN, KEYS_UNAVAILABLE, ErrorEnvelope, GatewayError
from gateway.settings.model import Settings
from gateway.settings.places import control_socket

MakeKnown = Callable[[str], Awaitable[None]]
"""Makes a token known. Raises GatewayError: INVALID_TOKEN (401), or KEYS_UNAVAILABLE (503) if nobody can tell."""

_PATH = "/v1/organization/access_tokens"
_TOTAL_S = 5.0
_AT_ONCE = 16  # of one worker: after a start many may come at the same time, and each takes a transaction


class AskControl:
    """Asks over the control process's socket, or `control_url`. It checks the token on its own."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.control_url
        self._socket = str(control_socket(settings))
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def make_known(self, token: str) -> None:
        """As MakeKnown."""
        url = (self._url or "http://control").rstrip("/") + _PATH
        try:
            async with (
                self._at_once,
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(self._socket) if self._url is None else None,
                    timeout=aiohttp.ClientTimeout(total=_TOTAL_S),
                ) as session,
                session.post(url, headers={"Authorization": f"Bearer {token}"}, allow_redirects=False) as response,
            ):
                status, body = response.status, await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            raise GatewayError(KEYS_UNAVAILABLE) from None
        if status == INVALID_TOKEN.status:
            raise GatewayError(INVALID_TOKEN, reason=_reason(body))
        if status != 200:
            raise GatewayError(KEYS_UNAVAILABLE)


def _reason(body: bytes) -> str:
    """Why it is refused, out of the answer that says so."""
    try:
        message = msgspec.json.decode(body, type=ErrorEnvelope).error.message
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "the control process refuses it"
    return message.removeprefix(INVALID_TOKEN.message.partition("{")[0]).rstrip(".")
