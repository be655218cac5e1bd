"""Which addresses are of the public internet, for what others may make us connect to: webhooks, keys of issuers."""

import errno
import ipaddress
import socket
from typing import Any


class NotPublicError(OSError):
    """An address that must not be connected to."""


def public_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket for the address that is about to be dialed, as aiohttp's connector asks for one: so it does not matter
    what a name resolves to before or after. Raises NotPublicError."""
    family, kind, protocol, _, address = info
    if not is_public(address[0]):
        raise NotPublicError(errno.EACCES, f"its address {address[0]} is not public")
    return socket.socket(family, kind, protocol)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, and not of this machine or of a network that it is in."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found in ipaddress.ip_network("64:ff9b::/96"):  # NAT64
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
        if found.sixtofour is not None or found.teredo is not None or found.is_site_local:
            return False
    inside = found.is_private or found.is_loopback or found.is_link_local or found.is_reserved
    return found.is_global and not (inside or found.is_multicast or found.is_unspecified)
