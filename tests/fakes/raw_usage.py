"""Usage events of all kinds, and what OpenAI's usage and costs endpoints have to say of them, counted one by one.

Knows nothing of grains, dimensions or sums in between: the oracle of the ledger's endpoints.
"""

import bisect
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import msgspec

from gateway.values import Cost, Quantities, UsageEvent, UsageLine
from tests.fakes.events import AT_US, ORG

DAY_S, HOUR_S, MINUTE_S = 86_400, 3_600, 60
LENGTHS = {"1m": MINUTE_S, "1h": HOUR_S, "1d": DAY_S}
NOW = AT_US // 1_000_000
_KEYS = (("proj_1", "user_1", "key_1"), ("proj_1", "user_1", "key_2"), ("proj_1", "user_2", "key_3"), ("proj_2", "user_2", "key_4"))  # fmt: skip
_CALLS = ("completions", "decisions", "embeddings", "moderations", "images", "audio_speeches", "audio_transcriptions")
_TOOLS = ("web_search_calls", "file_search_calls", "code_interpreter_sessions", "images")
_KINDS = {"web_search_calls": "web_searches", "file_search_calls": "file_searches"}


_Counted = tuple[int, dict[str, Any], dict[Any, Any]]  # when, whose, how much


class Asking(msgspec.Struct, frozen=True):
    """A question as its parameters have it. category: None for costs."""

    category: str | None
    width: str
    start: int
    end: int
    group_by: Sequence[str] = ()
    filters: Mapping[str, Sequence[str]] = {}
    batch: bool | None = None


def made_up(number: int, seed: int) -> list[UsageEvent]:
    """Events of five days, half of them within two hours; some of them samples of vector stores."""
    draw = random.Random(seed)
    return [*(_call(draw, n) for n in range(number)), *_samples(draw)]


def _call(draw: random.Random, number: int) -> UsageEvent:
    near = draw.random() < 0.5
    at_s = NOW - (draw.randrange(2 * HOUR_S) if near else draw.randrange(5 * DAY_S))
    project_id, user_id, key_id = draw.choice(_KEYS)
    category = draw.choice(_CALLS)
    lines = [_line(draw, category)]
    if draw.random() < 0.2:
        lines.append(_line(draw, category))  # another attempt
    if category == "completions":
        lines += [_line(draw, draw.choice(_TOOLS)) for _ in range(draw.choice((0, 0, 1, 2)))]
    if draw.random() < 0.1:
        lines.append(_line(draw, None))
    return UsageEvent(
        id=f"req_{number}", at_us=at_s * 1_000_000 + draw.randrange(1_000_000), organization_id=ORG,
        project_id=project_id, user_id=user_id, key_id=key_id, category=category, lines=tuple(lines),
    )  # fmt: skip


def _samples(draw: random.Random) -> Iterator[UsageEvent]:
    for hour in range(5 * 24):
        for store, project_id in (("vs_1", "proj_1"), ("vs_2", "proj_1"), ("vs_3", "proj_2")):
            if draw.random() < 0.3:
                at_s = NOW - hour * HOUR_S - 7 * MINUTE_S
                line = UsageLine(category="vector_stores", quantities=Quantities(bytes=draw.randrange(1 << 30)))
                yield UsageEvent(
                    id=f"req_{store}_{hour}", at_us=at_s * 1_000_000, organization_id=ORG, project_id=project_id,
                    user_id="", key_id="", category="vector_stores", lines=(line,),
                )  # fmt: skip


def _line(draw: random.Random, category: str | None) -> UsageLine:
    model = draw.choice(("gpt-a", "gpt-b", "dall-c"))
    return UsageLine(
        category=category,
        request_model=model,
        response_model=draw.choice(("", f"{model}-2026")),
        service_tier=draw.choice(("", "default", "flex")) if category in {"completions", "decisions"} else "",
        batch=draw.random() < 0.2,
        quantities=_quantities(draw, category),
        image_size=draw.choice(("", "1024x1024", "512x512")) if category == "images" else "",
        image_source=draw.choice(("image.generation", "image.edit")) if category == "images" else "",
        context_level=draw.choice(("", "low", "high")) if category == "web_search_calls" else "",
        vector_store_id=draw.choice(("", "vs_1", "vs_2")) if category == "file_search_calls" else "",
        costs=tuple(
            Cost(f"{model}, {item}", unit, draw.randrange(5_000), draw.randrange(10**7))
            for item, unit in (("input_tokens", "output_tokens"), ("audio_seconds", "audio_ms"), ("storage", "bytes"))
            if draw.random() < 0.4
        ),
    )  # fmt: skip


def _quantities(draw: random.Random, category: str | None) -> Quantities:
    """Such as no part is more than what it is of."""
    some = [draw.randrange(50) for _ in range(9)]
    cached = some[0] + some[1] + some[2]
    return Quantities(
        input_tokens=cached + some[3] + some[4] + some[5] + some[6],
        cached_tokens=cached,
        cached_audio_tokens=some[1],
        cached_image_tokens=some[2],
        cache_write_tokens=some[3],
        cache_write_12h_tokens=some[3] // 2,
        input_audio_tokens=some[1] + some[4],
        input_image_tokens=some[2] + some[5],
        output_tokens=some[6] + some[7] + some[8],
        output_audio_tokens=some[7],
        output_image_tokens=some[8],
        images=draw.randrange(3),
        characters=draw.randrange(900),
        duration_ms=draw.randrange(90_000),
        sessions=draw.randrange(2) if category == "code_interpreter_sessions" else 0,
        web_searches=draw.randrange(3),
        file_searches=draw.randrange(3),
    )


def buckets_of(asking: Asking) -> list[tuple[int, int]]:
    """Aligned to UTC; the first one begins, and the last one ends, with the minute that was asked for. Of costs: with
    the hour."""
    edge, length = MINUTE_S if asking.category else HOUR_S, LENGTHS[asking.width]
    begin, end = asking.start // edge * edge, -(-asking.end // edge) * edge
    edges = [begin, *(at for at in range(begin // length * length, end, length) if at > begin), end]
    return list(itertools.pairwise(edges))


class Raw:
    """Events, by what each of their lines counts for."""

    def __init__(self, events: Iterable[UsageEvent]) -> None:
        self._counted: dict[str | None, list[_Counted]] = {}
        for event in events:
            for category, whose, used in _counted(event):
                self._counted.setdefault(category, []).append((event.at_us // 1_000_000, whose, used))

    def expected(self, asking: Asking) -> list[list[dict[str, Any]]]:
        """The results of each bucket, each with what is not null of it, in no order."""
        buckets = buckets_of(asking)
        starts, end = [start for start, _ in buckets], buckets[-1][1]
        found: list[dict[tuple[Any, ...], dict[Any, Any]]] = [{} for _ in buckets]
        for at_s, whose, used in self._counted.get(asking.category, ()):
            if starts[0] <= at_s < end and _fits(whose, asking):
                group = tuple((name, whose[name]) for name in asking.group_by)
                sums = found[bisect.bisect(starts, at_s) - 1].setdefault(group, {})
                for name, value in used.items():
                    sums[name] = sums.get(name, 0) + value
        return [
            [_result(asking, dict(group), sums, bucket) for group, sums in groups.items() if any(sums.values())]
            for groups, bucket in zip(found, buckets, strict=True)
        ]


def _counted(event: UsageEvent) -> Iterator[tuple[str | None, dict[str, Any], dict[Any, Any]]]:
    """For each line: its category, None for costs; whose it is, and how much."""
    whose = {"project_id": event.project_id, "user_id": event.user_id, "api_key_id": event.key_id}
    whose |= {"api_source": "unlabeled"}
    before: set[str] = set()
    for line in event.lines:
        for cost in line.costs:
            used: dict[Any, Any] = {("quantity", cost.unit): cost.quantity, "nano_usd": cost.nano_usd}
            yield None, {**whose, "line_item": cost.item}, used
        if line.category is None:
            continue
        one = {
            **whose, "model": line.response_model or line.request_model, "batch": line.batch,
            "service_tier": line.service_tier or None, "size": line.image_size or None,
            "source": line.image_source or None, "context_level": line.context_level or None,
            "vector_store_id": line.vector_store_id or None,
        }  # fmt: skip
        request = line.category not in before and line.category in {event.category, "web_search_calls"}
        before.add(line.category)
        yield line.category, one, {**_fields(line.category, line.quantities), "num_model_requests": int(request)}


def _fits(one: Mapping[str, Any], asking: Asking) -> bool:
    wanted = all(one[name.removesuffix("s")] in values for name, values in asking.filters.items())
    return wanted and (asking.batch is None or one["batch"] == asking.batch)


def _fields(category: str, used: Quantities) -> dict[str, Any]:
    match category:
        case "completions" | "decisions":
            return _token_fields(used)
        case "embeddings" | "moderations":
            return {"input_tokens": used.input_tokens}
        case "images":
            return {"images": used.images}
        case "audio_speeches":
            return {"characters": used.characters}
        case "audio_transcriptions":
            return {"seconds": used.duration_ms}
        case "vector_stores":
            return {"usage_bytes": used.bytes}
        case "code_interpreter_sessions":
            return {"num_sessions": used.sessions}
        case _:
            return {"num_requests": getattr(used, _KINDS[category])}


def _token_fields(used: Quantities) -> dict[str, int]:
    text_cached = used.cached_tokens - used.cached_audio_tokens - used.cached_image_tokens
    uncached = used.input_tokens - used.cached_tokens - used.cache_write_tokens
    audio = used.input_audio_tokens - used.cached_audio_tokens
    image = used.input_image_tokens - used.cached_image_tokens
    return {
        "input_tokens": used.input_tokens,
        "input_cached_tokens": used.cached_tokens,
        "input_cached_text_tokens": text_cached,
        "input_cached_audio_tokens": used.cached_audio_tokens,
        "input_cached_image_tokens": used.cached_image_tokens,
        "input_uncached_tokens": uncached,
        "input_text_tokens": uncached - audio - image,
        "input_audio_tokens": audio,
        "input_image_tokens": image,
        "input_cache_write_tokens": used.cache_write_tokens,
        "input_cache_write_12h_tokens": used.cache_write_12h_tokens,
        "input_cache_write_30m_tokens": used.cache_write_tokens - used.cache_write_12h_tokens,
        "output_tokens": used.output_tokens,
        "output_text_tokens": used.output_tokens - used.output_audio_tokens - used.output_image_tokens,
        "output_audio_tokens": used.output_audio_tokens,
        "output_image_tokens": used.output_image_tokens,
    }


_NAMES = {"web_search_calls": "web_searches", "file_search_calls": "file_searches"}
_UNITS: Mapping[str, tuple[int | Fraction, str]] = {"output_tokens": (1, "tokens"), "audio_ms": (1000, "duration_seconds"),
          "bytes": (Fraction(1 << 30, 24), "gibibyte_hours")}  # fmt: skip


def _result(asking: Asking, group: Mapping[str, Any], sums: dict[Any, Any], bucket: tuple[int, int]) -> dict[str, Any]:
    told = {name: value for name, value in group.items() if value is not None}
    if asking.category is None:
        amount = {"value": float(Fraction(sums["nano_usd"], 10**9)), "currency": "usd"}
        told |= {"object": "organization.costs.result", "amount": amount}
        if "line_item" in group:
            ((_, unit),) = [name for name in sums if isinstance(name, tuple)]
            per, shown = _UNITS[unit]
            quantity = Fraction(sums["quantity", unit]) / per
            told |= {
                "quantity": int(quantity) if quantity.denominator == 1 else float(quantity),
                "quantity_unit": shown,
            }
        return told
    told["object"] = f"organization.usage.{_NAMES.get(asking.category, asking.category)}.result"
    if asking.category in {"vector_stores", "code_interpreter_sessions", "file_search_calls"}:
        del sums["num_model_requests"]
    if "seconds" in sums:
        sums["seconds"] = round(sums["seconds"] / 1000)
    if "usage_bytes" in sums:
        hours = -(-(min(bucket[1], NOW) - bucket[0]) // HOUR_S)
        sums["usage_bytes"] = round(sums["usage_bytes"] / max(1, hours))
    return {**told, **sums}
