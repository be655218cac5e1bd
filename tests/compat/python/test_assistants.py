"""Assistants, threads and their messages."""

import openai
import pytest
from openai import AsyncOpenAI

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def test_assistants_are_kept(client: AsyncOpenAI) -> None:
    assistants = client.beta.assistants
    made = await assistants.create(
        model="gpt-4o",
        name="Helper",
        instructions="Be brief.",
        tools=[{"type": "file_search"}, {"type": "code_interpreter"}],
        metadata={"a": "1"},
    )
    assert [tool.type for tool in made.tools] == ["file_search", "code_interpreter"]
    assert (await assistants.update(made.id, name="Other")).name == "Other"
    assert (await assistants.retrieve(made.id)).name == "Other"
    second = await assistants.create(model="gpt-4o")
    page = await assistants.list(limit=1)
    assert [one.id for one in page.data] == [second.id]
    assert [one.id for one in (await page.get_next_page()).data] == [made.id]
    assert (await assistants.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await assistants.retrieve(made.id)


async def test_threads_are_kept(client: AsyncOpenAI) -> None:
    threads = client.beta.threads
    thread = await threads.create(messages=[{"role": "user", "content": "first"}], metadata={"x": "y"})
    assert (await threads.update(thread.id, metadata={"z": "1"})).metadata == {"z": "1"}
    assert (await threads.retrieve(thread.id)).metadata == {"z": "1"}
    assert (await threads.delete(thread.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await threads.retrieve(thread.id)


async def test_messages_are_kept(client: AsyncOpenAI) -> None:
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "first"}])
    messages = client.beta.threads.messages
    made = await messages.create(
        thread.id, role="user", content=[{"type": "text", "text": "second"}], metadata={"n": "2"}
    )
    listed = [one.id async for one in messages.list(thread.id, order="asc", limit=1)]
    assert (len(listed), listed[-1]) == (2, made.id)
    assert (await messages.retrieve(made.id, thread_id=thread.id)).metadata == {"n": "2"}
    assert (await messages.update(made.id, thread_id=thread.id, metadata={"n": "3"})).metadata == {"n": "3"}
    assert (await messages.delete(made.id, thread_id=thread.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await messages.retrieve(made.id, thread_id=thread.id)
