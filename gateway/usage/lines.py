"""From what an attempt reported, or else from what went by, to lines of usage without prices. Pure."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from gateway.usage.asked import Asked
from gateway.usage.estimate import Densities, overhead_tokens
from gateway.usage.extract import Report
from gateway.usage.kinds import Kind
from gateway.values import Quantities, SeenStore, UsageEvent, UsageLine, Used

# How fast speech is, for estimates: OpenAI counts a token for 100 ms of audio that it hears and for 50 ms that it
# speaks (guide: Realtime costs); English is read aloud at some 15 characters a second.
_HEARD_MS = 100
_SPOKEN_MS = 50
_CHARACTERS_PER_S = 15


class Answer(msgspec.Struct):
    """What went by of an answer, noted by its tap.

    reports: what it said of its usage, several times perhaps. text_bytes: of its texts; texts: those that were at hand
    at its end. model, service_tier, object_id,
    state: as it said first. calls: tools that were seen at work. failed: it said itself that it failed. began: any of
    it came; of one in one piece, all of it. ends_with_client: it said that it is not made any more once nobody waits
    for it. items: how many pictures. stores: vector stores that it told of.
    """

    reports: list[Report] = []
    text_bytes: int = 0
    texts: list[str] = []
    model: str = ""
    service_tier: str = ""
    object_id: str = ""
    state: str = ""
    calls: dict[str, int] = {}
    failed: bool = False
    began: bool = False
    ends_with_client: bool = False
    items: int = 0
    duration_ms: int = 0
    stores: list[SeenStore] = []


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that an upstream was sent and did not refuse. model names: see UsageLine."""

    kind: Kind
    category: str | None
    number: int = 1
    upstream: str = ""
    request_model: str = ""
    upstream_model: str = ""


_TOOLS: Mapping[str, str] = MappingProxyType({
    "web_search_calls": "web_searches",
    "file_search_calls": "file_searches",
    "code_interpreter_sessions": "sessions",
})  # fmt: skip


def lines_of(attempt: Attempt, asked: Asked, answer: Answer, densities: Densities) -> tuple[UsageLine, ...]:
    """The lines of an attempt: as reported, else estimated. Never none: an attempt that was made is never free."""
    reports = newest(answer.reports)
    if reports:
        return tuple([_reported(attempt, asked, answer, report) for report in reports])
    main = _estimated(attempt, asked, answer, densities)
    return (main, *_tools_seen(attempt, answer))


def used_of(event: UsageEvent) -> Used:
    """What an event amounts to."""
    tokens = nano_usd = 0
    own: UsageLine | None = None
    for line in event.lines:
        tokens += line.quantities.input_tokens + line.quantities.output_tokens
        nano_usd += line.nano_usd or 0
        if own is None and line.source == "reported" and line.category == event.category:
            own = line
    if own is None:
        return Used(tokens, nano_usd)
    used = own.quantities
    return Used(tokens, nano_usd, own.upstream_model or own.request_model, used.input_tokens, used.output_tokens)


def model_of(attempt: Attempt, answer: Answer) -> str:
    """The name under which something is learned of a model: the one that is known even if no answer comes."""
    return attempt.upstream_model or attempt.request_model or answer.model


def newest(reports: list[Report]) -> list[Report]:
    """Each of those that count beside others, and the last of each category of those that do not."""
    if len(reports) <= 1:
        return reports
    last: dict[tuple[str, str], Report] = {}
    for number, report in enumerate(reports):
        last[(report.category, str(number) if report.each else report.object_id if report.category else "")] = report
    return list(last.values())


def _reported(attempt: Attempt, asked: Asked, answer: Answer, report: Report) -> UsageLine:
    quantities, size, quality, source = report.quantities, "", "", ""
    if not report.category or report.category == attempt.category:
        quantities = _completed(attempt.kind, asked, answer, quantities)
    if attempt.kind.basis == "images":
        size, quality = report.size or asked.size, report.quality or asked.quality
        source = attempt.kind.image_source
    return UsageLine(
        attempt=attempt.number,
        upstream=attempt.upstream,
        category=report.category or attempt.category,
        request_model=attempt.request_model,
        # A tool's own model is what it was asked for: if it has no price, it has not the price of the one that used it.
        upstream_model=report.model if report.category == "images" else attempt.upstream_model,
        response_model=report.model or answer.model,
        service_tier=report.service_tier or answer.service_tier,
        batch=attempt.kind.batch,
        quantities=quantities,
        image_size=size,
        image_source=source,
        image_quality=quality,
        object_id=report.object_id or answer.object_id,
    )


def _completed(kind: Kind, asked: Asked, answer: Answer, said: Quantities) -> Quantities:
    """A report with what OpenAI counts and its answers do not say: pictures, characters, seconds of audio."""
    if kind.basis == "images":
        images = max(1, answer.items or asked.number)
        drawn = said.output_image_tokens or said.output_tokens  # without details all of it is the picture
        return msgspec.structs.replace(said, images=images, output_image_tokens=drawn)
    if kind.basis == "speech":
        spoken = said.output_audio_tokens or said.output_tokens
        return msgspec.structs.replace(said, characters=asked.characters, output_audio_tokens=spoken)
    if kind.basis == "audio" and not said.duration_ms:
        heard = said.input_audio_tokens or said.input_tokens
        return msgspec.structs.replace(said, duration_ms=asked.duration_ms or heard * _HEARD_MS)
    return said


def _estimated(attempt: Attempt, asked: Asked, answer: Answer, densities: Densities) -> UsageLine:
    model = model_of(attempt, answer)
    images = attempt.kind.basis == "images"
    return UsageLine(
        attempt=attempt.number,
        upstream=attempt.upstream,
        category=attempt.category,
        request_model=attempt.request_model,
        upstream_model=attempt.upstream_model,
        response_model=answer.model,
        service_tier=answer.service_tier,
        batch=attempt.kind.batch,
        source="estimated",
        quantities=_guess(attempt.kind, model, asked, answer, densities),
        image_size=asked.size if images or attempt.kind.basis == "video" else "",
        image_source=attempt.kind.image_source,
        image_quality=asked.quality if images else "",
        object_id=answer.object_id,
    )


def _guess(kind: Kind, model: str, asked: Asked, answer: Answer, densities: Densities) -> Quantities:
    match kind.basis:
        case "text":
            read = _read(model, asked, densities)
            if not answer.began:  # nothing came, but it may have been written, and is billed then
                written = densities.typical_output(model)
                if asked.most is not None:
                    written = min(written, asked.most)
                return Quantities(input_tokens=read, output_tokens=asked.number * written)
            thought = asked.number * densities.typical_reasoning(model)
            written = _written(model, answer, densities) if answer.text_bytes else 0
            return Quantities(input_tokens=read, output_tokens=written + thought, reasoning_tokens=thought)
        case "input":
            return Quantities(input_tokens=_read(model, asked, densities))
        case "speech":
            spoken = asked.characters * 1000 // _CHARACTERS_PER_S // _SPOKEN_MS
            tokens = densities.tokens(model, "input", asked.text_bytes, asked.texts)
            return Quantities(
                input_tokens=tokens, output_tokens=spoken, output_audio_tokens=spoken, characters=asked.characters
            )
        case "audio":
            duration_ms = answer.duration_ms or asked.duration_ms
            heard = duration_ms // _HEARD_MS
            written = _written(model, answer, densities)
            return Quantities(
                input_tokens=heard, input_audio_tokens=heard, output_tokens=written, duration_ms=duration_ms
            )
        case "talk":
            return _talked(model, asked, answer, densities)
        case _:
            return _counted(kind, asked, answer)


def _counted(kind: Kind, asked: Asked, answer: Answer) -> Quantities:
    """What has no tokens."""
    match kind.basis:
        case "session":
            return Quantities(duration_ms=max(1, asked.duration_ms, answer.duration_ms))
        case "images":
            return Quantities(images=max(1, answer.items or asked.number))
        case "video":
            return Quantities(duration_ms=asked.duration_ms)
        case "search":
            return Quantities(file_searches=1)
        case "container":
            return Quantities(sessions=1)
        case _:
            return Quantities()


def _talked(model: str, asked: Asked, answer: Answer, densities: Densities) -> Quantities:
    """A conversation's response: all of the conversation is its input."""
    heard, spoken = -(-asked.duration_ms // _HEARD_MS), -(-answer.duration_ms // _SPOKEN_MS)
    written = densities.tokens(model, "output", answer.text_bytes) if answer.text_bytes else 0
    if not answer.began:
        written = densities.typical_output(model)
    return Quantities(
        input_tokens=_read(model, asked, densities) + heard,
        input_audio_tokens=heard,
        output_tokens=written + spoken,
        output_audio_tokens=spoken,
    )


def _read(model: str, asked: Asked, densities: Densities) -> int:
    return (
        densities.tokens(model, "input", asked.text_bytes, asked.texts) + overhead_tokens(asked.messages) + asked.tokens
    )


def _written(model: str, answer: Answer, densities: Densities) -> int:
    return densities.tokens(model, "output", answer.text_bytes, ("".join(answer.texts),) if answer.texts else ())


def _tools_seen(attempt: Attempt, answer: Answer) -> Iterable[UsageLine]:
    for category, number in answer.calls.items():
        yield UsageLine(
            attempt=attempt.number,
            upstream=attempt.upstream,
            category=category,
            request_model=attempt.request_model,
            upstream_model=attempt.upstream_model,
            response_model=answer.model,
            service_tier=answer.service_tier,
            source="estimated",
            quantities=Quantities(**{_TOOLS[category]: number}),
            object_id=answer.object_id,
        )
