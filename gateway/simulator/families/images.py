"""Images: generations, edits, variations.

gpt-image models answer in base64 and report tokens: out by quality and size as in OpenAI's price list (any other size
in proportion to its area), and 100 more for each partial image; in the prompt's tokens, and for each picture as in
`media.py`. dall-e models report nothing; their book record counts images.
"""

import base64
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.simulator import answers, catalog, errors, media, params, tokens
from gateway.simulator.book import Meta, Quantities
from gateway.simulator.call import Call, Event, EventReply, Handlers, Json, JsonReply, Reply
from gateway.simulator.sse import failure
from gateway.simulator.world import World

_TOKENS_OF_SQUARE = MappingProxyType({"low": 272, "medium": 1056, "high": 4160, "xhigh": 6240, "max": 8320})
_TOKENS_OF_OTHERS = MappingProxyType(
    {
        ("low", "1024x1536"): 408,
        ("low", "1536x1024"): 400,
        ("medium", "1024x1536"): 1584,
        ("medium", "1536x1024"): 1568,
        ("high", "1024x1536"): 6240,
        ("high", "1536x1024"): 6208,
    }
)
_PARTIAL_TOKENS = 100
_encode = msgspec.json.Encoder().encode


class Order(msgspec.Struct, frozen=True):
    """What was asked for, defaults filled in. `auto` becomes a medium square."""

    model: str
    prompt: str
    count: int
    size: str
    quality: str
    form: str
    background: str
    partials: int
    pictures: tuple[tuple[int, int], ...]

    @property
    def reports_tokens(self) -> bool:
        return not self.model.startswith("dall-e")

    def usage(self) -> Quantities:
        """Tokens for gpt-image models, and how many images for all."""
        if not self.reports_tokens:
            return Quantities(images=self.count)
        seen = sum(media.picture_tokens(size) for size in self.pictures)
        made = self.count * _output_tokens(self.quality, self.size) + self.partials * _PARTIAL_TOKENS
        return Quantities(
            input_tokens=tokens.count(self.prompt) + seen,
            input_image_tokens=seen,
            output_tokens=made,
            output_image_tokens=made,
            images=self.count,
        )


async def generate(_: World, call: Call) -> Reply:
    """POST /images/generations."""
    params.need_text(call.body, "prompt")
    return _reply(call, _order(call, "dall-e-2", ()), "image_generation")


async def edit(_: World, call: Call) -> Reply:
    """POST /images/edits, as a form with files or as JSON with references."""
    params.need_text(call.body, "prompt")
    pictures = _pictures(call, "image") + _pictures(call, "mask")
    if not pictures:
        raise errors.missing("image")
    return _reply(call, _order(call, "dall-e-2", pictures), "image_edit")


async def vary(_: World, call: Call) -> Reply:
    """POST /images/variations."""
    pictures = _pictures(call, "image")
    if not pictures:
        raise errors.missing("image")
    return _reply(call, _order(call, "dall-e-2", pictures), "image_variation")


def _pictures(call: Call, field: str) -> tuple[tuple[int, int], ...]:
    """The sizes of the pictures that came along."""
    found = []
    for upload in call.files.get(field, ()):
        with upload.path.open("rb") as source:
            found.append(media.picture_size(source.read(64)))
    for reference in params.items(call.body, field + "s") or ([call.body[field]] if call.body.get(field) else []):
        url = reference.get("image_url") if isinstance(reference, dict) else reference
        found.append(media.picture_size(media.head(str(url or ""))))
    return tuple(found)


def _order(call: Call, default: str, pictures: tuple[tuple[int, int], ...]) -> Order:
    body, model = call.body, params.model(call, default)
    size, quality = params.text(body, "size", "auto"), params.text(body, "quality", "auto")
    if size != "auto" and not all(part.isdigit() for part in size.split("x", 1)):
        raise errors.wrong_value("size", size, ("1024x1024", "1024x1536", "1536x1024", "auto"))
    known = (*_TOKENS_OF_SQUARE, "standard", "hd", "auto")
    if quality not in known:
        raise errors.wrong_value("quality", quality, known)
    return Order(
        model,
        params.text(body, "prompt"),
        params.integer(body, "n", 1, least=1, most=10) or 1,
        "1024x1024" if size == "auto" else size,
        "medium" if quality == "auto" else quality,
        params.text(body, "output_format", "png"),
        "opaque" if (background := params.text(body, "background", "auto")) == "auto" else background,
        params.integer(body, "partial_images", 0, most=3) or 0,
        pictures,
    )


def _output_tokens(quality: str, size: str) -> int:
    if (known := _TOKENS_OF_OTHERS.get((quality, size))) is not None:
        return known
    width, height = (int(part) for part in size.split("x"))
    return max(1, _TOKENS_OF_SQUARE.get(quality, 1056) * width * height // (1024 * 1024))


def _reply(call: Call, order: Order, kind: str) -> Reply:
    usage, served = order.usage(), catalog.resolve(order.model)
    meta = Meta(usage, served)
    if params.flag(call.body, "stream") and order.reports_tokens:
        if order.count > 1:
            raise errors.ApiError(400, "Streaming is only supported when 'n' is 1.", param="n")
        contents = order.count + order.partials
        return EventReply(_events(call, order, kind, usage), meta, contents, end=b"", failure=failure)
    value: Json = {"created": call.seen_at, "data": [_image(call, order, i) for i in range(order.count)]}
    if order.reports_tokens:
        value |= {
            "background": order.background,
            "output_format": order.form,
            "quality": order.quality,
            "size": order.size,
            "usage": _usage_object(usage),
        }
    return JsonReply(value, meta)


def _usage_object(usage: Quantities) -> Json:
    text = usage.input_tokens - usage.input_image_tokens
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"text_tokens": text, "image_tokens": usage.input_image_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": usage.output_image_tokens},
        "total_tokens": usage.total_tokens,
    }


def _image(call: Call, order: Order, number: int) -> Json:
    """One image: base64, or for dall-e a URL unless base64 is asked for."""
    if not order.reports_tokens and params.text(call.body, "response_format", "url") == "url":
        shade = _shade(order, number)
        value: Json = {
            "url": f"http://{call.headers.get('host', 'localhost')}/_simulator/images/{order.size}/{shade}.png"
        }
    else:
        value = {"b64_json": _png(order, number)}
    if order.model == "dall-e-3":
        value["revised_prompt"] = order.prompt
    return value


def _shade(order: Order, number: int) -> int:
    return answers.seed_of(order.model, order.prompt, number) % 256


def _png(order: Order, number: int) -> str:
    width, height = (int(part) for part in order.size.split("x"))
    return base64.b64encode(media.png(width, height, _shade(order, number))).decode()


def _events(call: Call, order: Order, kind: str, usage: Quantities) -> Iterator[Event]:
    head: dict[str, Any] = {
        "created_at": call.seen_at,
        "size": order.size,
        "quality": order.quality,
        "background": order.background,
        "output_format": order.form,
    }
    for i in range(order.partials):
        name = f"{kind}.partial_image"
        value = {"type": name, "b64_json": _png(order, i), "partial_image_index": i} | head
        yield Event(name, _encode(value), _PARTIAL_TOKENS)
    name, each = f"{kind}.completed", _output_tokens(order.quality, order.size)
    value = {"type": name, "b64_json": _png(order, 0)} | head
    if not call.faults.no_usage:
        value["usage"] = _usage_object(usage)
    yield Event(name, _encode(value), each, usage="usage" in value)


HANDLERS: Handlers = (("createImage", generate), ("createImageEdit", edit), ("createImageVariation", vary))
