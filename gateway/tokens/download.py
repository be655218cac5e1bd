"""Fetching a key set: little, in little time, and only from where it may come."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from gateway.public_addresses import is_public, public_socket

LONGEST = 512 * 1024
_TOTAL_S = 5.0
_LOOPBACK_NAMES = frozenset({"localhost", "localhost."})


class DownloadError(Exception):
    """It was not fetched. The message is for people."""


def wrong_url(url: str, *, private: bool) -> str | None:
    """What is wrong with a URL to fetch keys from. private: it may point into private networks and at this machine."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "it is not a URL"
    if not host or port == 0 or parts.username is not None or any(ord(letter) <= 32 for letter in url):
        return "it is not a URL with a host and without a user"
    address = _literal(host)
    loopback = address.is_loopback if address is not None else host.lower() in _LOOPBACK_NAMES
    if parts.scheme != "https" and not (parts.scheme == "http" and private and loopback):
        return "it does not begin with https://"
    if not private and (loopback or (address is not None and not is_public(host))):
        return "its host is not public"
    return None


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


async def download(url: str, *, private: bool) -> bytes:
    """What is at a URL; redirections are not followed. private: as for `wrong_url`. Raises DownloadError."""
    if (wrong := wrong_url(url, private=private)) is not None:
        raise DownloadError(wrong)
    connector = aiohttp.TCPConnector(force_close=True, socket_factory=None if private else public_socket)
    options: dict[str, Any] = {"allow_redirects": False, "headers": {"Accept": "application/json"}}
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=_TOTAL_S),
                skip_auto_headers=("Accept-Encoding",),
                auto_decompress=False,  # a small answer must not become a large one
            ) as session,
            session.get(url, **options) as response,
        ):
            if response.status != 200:
                raise DownloadError(f"the answer is {response.status}")
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > LONGEST:
                    raise DownloadError(f"the answer is longer than {LONGEST} bytes")
            return bytes(body)
    except TimeoutError:
        raise DownloadError(f"there was no whole answer within {_TOTAL_S:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise DownloadError(str(error) or type(error).__name__) from None
