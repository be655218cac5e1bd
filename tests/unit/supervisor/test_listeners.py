"""The sockets on which a gateway listens."""

import socket

import pytest

from gateway.settings.model import Listener
from gateway.supervisor.listeners import ListenError, address_of, open_listeners


def test_several_on_one_port() -> None:
    sockets = open_listeners(Listener(port=0), 3)
    addresses = {address_of(each) for each in sockets}
    assert len(sockets) == 3
    assert len(addresses) == 1
    assert addresses.pop().startswith("127.0.0.1:")
    for each in sockets:
        assert not each.getblocking()
        each.close()


def test_ipv6_is_written_in_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        (opened,) = open_listeners(Listener(host="::1", port=0), 1)
    except ListenError:
        pytest.skip("this machine has no IPv6 address")
    with opened:
        assert address_of(opened) == f"[::1]:{opened.getsockname()[1]}"


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("first", [1, 2])
def test_a_port_that_is_taken(count: int, first: int) -> None:
    """By another gateway too, whose sockets would share it."""
    taken = open_listeners(Listener(port=0), first)
    port = taken[0].getsockname()[1]
    with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
        open_listeners(Listener(port=port), count)
    for each in taken:
        each.close()
    for each in open_listeners(Listener(port=port), count):
        each.close()
