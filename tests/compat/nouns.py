"""What the suites of the admin API's nouns have in common."""

import secrets
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI


def fresh(name: str) -> str:
    """A name that nothing else has: the gateway is shared."""
    return f"{name} {secrets.token_hex(4)}"


async def a_project(client: AsyncOpenAI) -> str:
    return (await client.admin.organization.projects.create(name=fresh("project"))).id


async def a_user(client: AsyncOpenAI) -> str:
    """Somebody who was invited: in this gateway they are a user at once."""
    organization = client.admin.organization
    email = f"{secrets.token_hex(8)}@example.com"
    await organization.invites.create(email=email, role="reader")
    (user,) = [one async for one in organization.users.list(emails=[email])]
    return user.id


async def in_pages(
    listing: Callable[..., Any],
    wanted: Collection[str],
    *arguments: str,
    by: str = "id",
    limit: int = 1,
    **options: Any,
) -> list[Any]:
    """What a list has, by the client's own paging, in three pages or more. wanted: ids that must be among it."""
    pages = 0
    found: list[Any] = []
    page = await listing(*arguments, limit=limit, **options)
    while True:
        pages += 1
        found += page.data
        if not page.has_next_page():
            break
        page = await page.get_next_page()
    ids = [getattr(one, by) for one in found]
    assert pages >= 3
    assert len(ids) == len(set(ids))
    assert set(wanted) <= set(ids)
    assert [getattr(one, by) async for one in listing(*arguments, limit=limit, **options)] == ids
    return found


async def is_gone(asked: Awaitable[Any]) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await asked
    assert caught.value.type == "invalid_request_error"
