"""What makes a server unfit, from what it says of itself."""

import pytest

from gateway.redisdb.server_check import mode_problem, version_problem, volatility

REDIS_7 = {"redis_version": "7.0.15"}


@pytest.mark.parametrize(
    ("info", "old"),
    [
        ({"redis_version": "6.2.14"}, True),
        ({"redis_version": "7.0.0"}, False),
        ({"redis_version": "10.1"}, False),
        ({"redis_version": "7.2.4", "valkey_version": "8.0.1"}, False),
        ({"redis_version": "odd"}, True),
        ({}, True),
    ],
)
def test_version(info: dict[str, str], old: bool) -> None:
    assert (version_problem(info) is not None) == old


def test_a_replica() -> None:
    assert mode_problem({"cluster_enabled": "0", "role": "slave"}, cluster=False) is not None


@pytest.mark.parametrize(("enabled", "cluster", "wrong"), [("1", False, True), ("0", True, True), ("1", True, False)])
def test_mode(enabled: str, cluster: bool, wrong: bool) -> None:
    assert (mode_problem({"cluster_enabled": enabled}, cluster=cluster) is not None) == wrong


@pytest.mark.parametrize(
    ("policy", "aof", "save", "problems", "unknown"),
    [
        ("noeviction", "1", None, 0, 0),
        ("noeviction", "0", "3600 1", 0, 0),
        ("noeviction", "0", "", 1, 0),
        ("noeviction", "0", None, 0, 1),
        ("allkeys-lru", "1", "", 1, 0),
        ("volatile-ttl", "0", "", 2, 0),
        (None, "1", None, 0, 1),
    ],
)
def test_volatility(policy: str | None, aof: str, save: str | None, problems: int, unknown: int) -> None:
    info = {"aof_enabled": aof} | ({} if policy is None else {"maxmemory_policy": policy})
    found = volatility(info, save)
    assert (len(found[0]), len(found[1])) == (problems, unknown)
