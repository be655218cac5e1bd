"""Ports for servers of tests."""

import random
import socket

# Below those that systems give to outgoing connections (from 32768 on), which would take one away between its choice and
# its use; and so low that a cluster's second port, 10,000 higher, is too.
_FIRST, _LAST = 10_000, 22_000


def free_port() -> int:
    """A port on which nobody listens."""
    choose = random.SystemRandom()
    while True:
        port = choose.randint(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
