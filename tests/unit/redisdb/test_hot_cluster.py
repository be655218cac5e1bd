"""Where a redirect leads."""

import pytest

from gateway.redisdb.address import Address
from gateway.redisdb.failures import HotReplyError
from gateway.redisdb.hot_cluster import redirected_to


@pytest.mark.parametrize(
    ("reply", "address"),
    [
        ("MOVED 3999 10.0.0.7:6381", Address("10.0.0.7", 6381)),
        ("ASK 3999 node.example:6381", Address("node.example", 6381)),
        ("MOVED 3999 2001:db8::1:6381", Address("2001:db8::1", 6381)),
        ("MOVED 3999 :6381", Address("owner", 6381)),
    ],
)
def test_redirects(reply: str, address: Address) -> None:
    assert redirected_to(HotReplyError.parse(reply), Address("owner", 1)) == address
