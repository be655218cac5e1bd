"""Ten million events of a month on PostgreSQL: how fast they are folded, how large it gets, how fast it answers."""

from pathlib import Path

import pytest

from tests.fakes.measuring import Measured, Size
from tests.fakes.redis_servers import Server
from tests.proofs.ledger_size import answers, folded

pytestmark = [pytest.mark.proof, pytest.mark.timeout(3600)]


async def test_a_month_on_postgresql(
    postgresql_url: str, valkey: Server, tmp_path: Path, size: Size, measured: Measured
) -> None:
    count, least = size(small=4_000, full=10_000_000), size(small=50, full=5_000)
    await folded(postgresql_url, count, measured, least=least)
    await answers(valkey, postgresql_url, tmp_path, measured)
