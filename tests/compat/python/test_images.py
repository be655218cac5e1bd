"""Images: generated, edited, varied; in JSON, in forms, as streams."""

import base64
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from gateway.simulator import media

PICTURE = ("a picture.png", media.png(64, 64, 9), "image/png")


async def test_generations(client: AsyncOpenAI) -> None:
    answer = await client.images.generate(model="gpt-image-1", prompt="a red kite", n=2, size="1024x1536")
    pictures = [base64.b64decode(one.b64_json or "") for one in answer.data or []]
    assert [media.picture_size(picture) for picture in pictures] == [(1024, 1536)] * 2
    assert answer.usage is not None
    by_url = await client.images.generate(model="dall-e-3", prompt="a red kite")
    assert (by_url.data or [])[0].url


async def test_edits_of_one_and_of_many(client: AsyncOpenAI) -> None:
    one = await client.images.edit(model="gpt-image-1", image=PICTURE, mask=PICTURE, prompt="make it blue: größer")
    many = await client.images.edit(model="gpt-image-1", image=[PICTURE, PICTURE, PICTURE], prompt="join them")
    assert one.usage is not None
    assert many.usage is not None
    assert many.usage.input_tokens_details.image_tokens > one.usage.input_tokens_details.image_tokens
    with pytest.raises(openai.BadRequestError):
        await client.images.edit(model="gpt-image-1", image=[], prompt="x")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_variations(client: AsyncOpenAI) -> None:
    varied = await client.images.create_variation(image=PICTURE, n=3, response_format="b64_json")
    assert len(varied.data or []) == 3


async def test_both_stream(client: AsyncOpenAI) -> None:
    made = await client.images.generate(model="gpt-image-1", prompt="a kite", stream=True, partial_images=2)
    events: list[Any] = [event async for event in made]
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert events[-1].usage.output_tokens
    edited = await client.images.edit(model="gpt-image-1", image=PICTURE, prompt="x", stream=True, partial_images=1)
    assert [event.type async for event in edited] == ["image_edit.partial_image", "image_edit.completed"]
