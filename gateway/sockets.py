"""What can be asked of a socket beside its transport."""

import asyncio
import select


def unread(transport: asyncio.BaseTransport) -> bool:
    """Whether something has come that the loop has not read yet, be it the end. One system call."""
    peer = transport.get_extra_info("socket")
    if peer is None:
        return False
    descriptor = peer.fileno()
    if descriptor < 0:  # it is closed
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
