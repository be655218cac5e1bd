"""The listening sockets. The supervisor opens them, keeps them for its life and hands them to the processes."""

import contextlib
import socket

from gateway.settings.model import Listener

_BACKLOG = 4096


class ListenError(Exception):
    """An address cannot be listened on; the message names it."""


def open_listeners(listener: Listener, count: int) -> list[socket.socket]:
    """`count` sockets on one address, among which the system spreads connections (SO_REUSEPORT).

    While a socket is open its queue takes connections, whether a process accepts from it or not: that is what lets a
    worker be replaced, or die, without a connection being refused.
    """
    sockets: list[socket.socket] = []
    try:
        if count > 1 and listener.port:
            # With SO_REUSEPORT a second gateway would get a share of the first one's clients instead of an error.
            _open(listener.host, listener.port, shared=False).close()
        for _ in range(count):
            port = sockets[0].getsockname()[1] if sockets else listener.port
            sockets.append(_open(listener.host, port, shared=count > 1))
    except (OSError, UnicodeError) as error:
        for opened in sockets:
            opened.close()
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "that is no host's name"
        raise ListenError(f"cannot listen on {listener.host}:{listener.port}: {reason}") from None
    return sockets


def _open(host: str, port: int, *, shared: bool) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            with contextlib.suppress(OSError):  # :: is to mean IPv4 too, where the system can
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.bind(address)
        opened.listen(_BACKLOG)
        opened.setblocking(False)
    except BaseException:
        opened.close()
        raise
    return opened


def address_of(listening: socket.socket) -> str:
    """host:port as people write it, with the port that the system chose."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
