from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.admin_api import DECLARED_HASH, AdminApi, admin_api
from tests.fakes.redis_servers import Server


@pytest.fixture
async def api(valkey: Server, registry_url: str, tmp_path: Path) -> AsyncIterator[AdminApi]:
    """An admin API over each kind of database in turn."""
    async with admin_api(valkey, registry_url, tmp_path) as made:
        yield made


@pytest.fixture
async def declared(valkey: Server, registry_url: str, tmp_path: Path) -> AsyncIterator[AdminApi]:
    """The same with settings that declare the project `proj_declared`, and in it a key of the user `ada@example.com`."""
    key = {"name": "laptop", "hash": f"sha256:{DECLARED_HASH}", "user": "ada@example.com"}
    async with admin_api(valkey, registry_url, tmp_path, projects=[{"id": "proj_declared", "keys": [key]}]) as made:
        yield made
