"""The pruner goes on whatever Redis says."""

import asyncio

import pytest
import structlog

from gateway.control.jobs import pruner
from gateway.control.jobs.pruner import Pruner
from gateway.redisdb.failures import RedisFailure, RedisLost
from tests.fakes.events import ORG
from tests.fakes.redis_servers import eventually


class Counters:
    def __init__(self) -> None:
        self.outcomes: list[RedisFailure | int] = [RedisLost("away"), RedisFailure("no"), RedisFailure("no"), 3, 0]
        self.asked: list[str] = []

    async def prune(self, organization_id: str) -> int:
        self.asked.append(organization_id)
        outcome = self.outcomes[min(len(self.asked), len(self.outcomes)) - 1]
        if isinstance(outcome, RedisFailure):
            raise outcome
        return outcome


async def test_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruner, "_EVERY_S", 0.0)
    counters = Counters()
    with structlog.testing.capture_logs() as logs:
        task = asyncio.ensure_future(Pruner(counters, ORG, structlog.get_logger()).keep_pruned())
        await eventually(lambda: len(counters.asked) > 5)
        task.cancel()
    assert set(counters.asked) == {ORG}
    assert [entry["event"] for entry in logs] == ["counters_not_pruned"], "once a reason"
