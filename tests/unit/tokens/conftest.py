from collections.abc import AsyncIterator

import pytest

from tests.fakes.issuer import Issuer, issuer


@pytest.fixture
async def idp() -> AsyncIterator[Issuer]:
    async with issuer() as made:
        yield made
