"""Lines of usage as calls may report them that are not made of text: pictures, speech, audio, videos, searches."""

from typing import Protocol

import msgspec

from gateway.proxy.admission.bounds import (
    MOST_EDITED,
    MOST_IMAGES,
    MOST_LOOKED_AT,
    MOST_VIDEO_MS,
    SESSION_MS,
    USUAL_BYTES_A_S,
    USUAL_LOOKED_AT,
    USUAL_SPOKEN_A_S,
    USUAL_TOKENS_A_S,
    WORST_BYTES_A_S,
    WORST_SPOKEN,
    WORST_TOKENS_A_S,
    drawn,
)  # fmt: skip
from gateway.usage.asked import Asked, of_form, of_json
from gateway.usage.kinds import Kind
from gateway.values import FormFacts, HeadFacts, Quantities, UsageLine

_MS = 1000
_HEARD_MS = 100  # of audio a token (guide: Realtime costs)
_SPOKEN_A_S = 20  # tokens (the same)
_USUAL_BYTES_A_TOKEN = 4


class Request(Protocol):
    """A request's body: see `body.outgoing`."""

    @property
    def whole(self) -> bytes | bytearray | None: ...
    @property
    def head(self) -> HeadFacts: ...
    @property
    def facts(self) -> FormFacts: ...


def line_for(kind: Kind, category: str | None, model: str, request: Request, size: int, *, strict: bool) -> UsageLine:
    """size: bytes of the body, of which a form has mostly gone by only after this."""
    body, facts = request.whole, request.facts
    asked = of_form(facts, kind.basis) if body is None else of_json(body, kind.basis) if body else Asked()
    line = UsageLine(
        category=category, request_model=model, upstream_model=model, source="estimated", batch=kind.batch,
        image_source=kind.image_source,
    )  # fmt: skip
    match kind.basis:
        case "images":
            return _pictures(line, asked, request, model, size, strict=strict)
        case "speech":
            used = _speech(asked, size, strict=strict)
        case "audio":
            used = _heard(size, strict=strict)
        case "video":
            played_ms = asked.duration_ms
            if strict and (body is None or b'"seconds"' not in body) and "seconds" not in facts.fields:
                played_ms = MOST_VIDEO_MS
            size_asked = _unseen(asked.size, request, strict=strict)
            return msgspec.structs.replace(line, quantities=Quantities(duration_ms=played_ms), image_size=size_asked)
        case "search":
            used = Quantities(file_searches=1)
        case "container":
            used = Quantities(sessions=1)
        case _:
            used = Quantities(duration_ms=SESSION_MS)
    return msgspec.structs.replace(line, quantities=used)


def _pictures(line: UsageLine, asked: Asked, request: Request, model: str, size: int, *, strict: bool) -> UsageLine:
    unsaid = MOST_IMAGES if strict else 1
    if request.whole is not None:
        number = request.head.number or unsaid
    else:
        number = asked.number if "n" in request.facts.fields else unsaid  # it may stand behind the file
    edited = line.image_source != "image.generation"
    usual, most = drawn(model, asked.size, asked.quality)
    looked_at = 0
    if edited:
        looked_at = MOST_EDITED * MOST_LOOKED_AT if strict else USUAL_LOOKED_AT
    text = min(size, 32_000) if strict else asked.text_bytes // _USUAL_BYTES_A_TOKEN + 1
    written = number * (most if strict else usual)
    return msgspec.structs.replace(
        line,
        quantities=Quantities(
            input_tokens=text + looked_at,
            input_image_tokens=looked_at,
            output_tokens=written,
            output_image_tokens=written,
            images=number,
        ),
        image_size=_unseen(asked.size, request, strict=strict),
        image_quality=asked.quality,
    )


def _unseen(said: str, request: Request, *, strict: bool) -> str:
    """A size; one that has no rate, which makes it the dearest, where a form may still name it."""
    return said or ("unseen" if strict and request.whole is None else "")


def _speech(asked: Asked, size: int, *, strict: bool) -> Quantities:
    characters = asked.characters
    spoken = characters * WORST_SPOKEN if strict else characters * _SPOKEN_A_S // USUAL_SPOKEN_A_S
    read = size if strict else asked.text_bytes // _USUAL_BYTES_A_TOKEN + 1
    return Quantities(input_tokens=read, output_tokens=spoken, output_audio_tokens=spoken, characters=characters)


def _heard(size: int, *, strict: bool) -> Quantities:
    """Audio of which nothing is known yet but how many bytes it comes in, with the rest of its form."""
    played_ms = -(-size * _MS // (WORST_BYTES_A_S if strict else USUAL_BYTES_A_S))
    heard = -(-played_ms // _HEARD_MS)
    written = -(-played_ms * (WORST_TOKENS_A_S if strict else USUAL_TOKENS_A_S) // _MS)
    return Quantities(input_tokens=heard, input_audio_tokens=heard, output_tokens=written, duration_ms=played_ms)
