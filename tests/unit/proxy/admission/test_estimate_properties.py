"""Whatever a request asks for, and whatever the API's limits allow its answer to use: `strict` covers it, to the last
nano-dollar, and `adaptive` never reserves more than `strict`, whatever it has learned."""

import math
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.values import Quantities, UsageLine, Used
from tests.fakes.estimates import Estimating

# Model, window, longest answer (0: all of the window): of each tier, step and kind of price one.
CHAT = {
    "gpt-4o": (128_000, 16_384), "gpt-4o-mini": (128_000, 16_384), "gpt-4.1-mini": (1_047_576, 32_768),
    "o4-mini": (200_000, 100_000), "o1": (200_000, 100_000), "gpt-5.4": (1_050_000, 128_000),
    "gpt-5.6-luna": (1_050_000, 0), "gpt-3.5-turbo-0125": (16_385, 4_096), "gpt-audio": (128_000, 16_384),
}  # fmt: skip
TIERS = ["", "auto", "default", "flex", "priority"]
IMAGE_TOOL = "gpt-image-2.6-sunburst"
ESTIMATING = Estimating()  # what it learns must not make a difference

texts = st.text(max_size=60) | st.sampled_from(
    ["", "many words " * 50, "\u00e9\u20ac\U0001f600" * 20, '"image_url":\\']
)


def picture_tokens(model: str, width: int, height: int, *, low: bool) -> int:
    """OpenAI's rules (guide: Images and vision, Calculating costs)."""
    if (factor := {"gpt-4.1-mini": 1.62, "o4-mini": 1.72}.get(model)) is not None:
        patches = min(1536, math.ceil(width / 32) * math.ceil(height / 32))
        return math.ceil(patches * factor)
    if model.startswith("gpt-5"):
        return min(10_000, math.ceil(width / 32) * math.ceil(height / 32))
    base, tile = {"gpt-4o-mini": (2833, 5667), "o1": (75, 150)}.get(model, (85, 170))
    if low:
        return base
    scale = min(1, 2048 / max(width, height))
    scale *= min(1, 768 / (min(width, height) * scale))
    return base + tile * math.ceil(round(width * scale, 6) / 512) * math.ceil(round(height * scale, 6) / 512)


class Drawn:
    """A request, and what an API that keeps its limits may say that it used."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.dearest = data.draw(st.booleans())  # all that there may be of all that costs most
        self.model = data.draw(st.sampled_from(sorted(CHAT)))
        self.window, longest = CHAT[self.model]
        self.longest = longest or self.window
        self.body: dict[str, Any] = {"model": self.model}
        if tier := data.draw(st.sampled_from(TIERS)):
            self.body["service_tier"] = tier
        self.tier = data.draw(st.sampled_from([tier if tier != "auto" else "default", "default", ""]))
        if tier in {"", "auto", "default"}:
            self.tier = data.draw(st.sampled_from(["default", ""]))
        elif not self.tier:
            self.tier = tier
        self.lines: list[UsageLine] = []

    def share(self, tokens: int) -> int:
        """Some of them, all if they are to be the dearest."""
        return tokens if self.dearest else int(tokens * self.data.draw(st.floats(0, 1)))

    def line(self, input_tokens: int, output_tokens: int, more: dict[str, int]) -> None:
        text = input_tokens - sum(more.values())
        written = self.share(text)
        cached = self.share(text - written)
        long = self.share(written)
        used = Quantities(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_tokens=cached,
            cache_write_tokens=written,
            cache_write_12h_tokens=long,
            **more,
        )
        self.lines.append(
            UsageLine(category="completions", request_model=self.model, service_tier=self.tier, quantities=used)
        )

    def check(self, operation: str) -> None:
        most = ESTIMATING.bounded("strict", operation, self.body)
        usual = ESTIMATING.bounded("adaptive", operation, self.body)
        assert usual.taking.tokens <= most.taking.tokens
        assert usual.taking.nano_usd <= most.taking.nano_usd
        assert sum(map(ESTIMATING.price, self.lines)) <= most.taking.nano_usd
        own = [line.quantities for line in self.lines if line.category == "completions"]
        assert sum(one.input_tokens + one.output_tokens for one in own) <= most.taking.tokens
        used = Used(model=self.model, input_tokens=own[0].input_tokens, output_tokens=own[0].output_tokens)
        ESTIMATING.estimator.settled("key_1", usual, used)


def content(drawn: Drawn, data: st.DataObject) -> tuple[Any, int, int]:
    """A message's content, how many tokens it is at most, and how many of these are sound."""
    text = data.draw(texts)
    tokens = len(text.encode("utf-8"))
    if drawn.model == "gpt-audio":
        sound = "A" * data.draw(st.integers(0, 3000))
        parts = [{"type": "text", "text": text}, {"type": "input_audio", "input_audio": {"data": sound}}]
        return parts, tokens + len(sound), len(sound)
    if data.draw(st.booleans()):
        return text, tokens, 0
    pictures = []
    for _ in range(data.draw(st.integers(0, 3))):
        low, width, height = data.draw(st.tuples(st.booleans(), st.integers(1, 5000), st.integers(1, 5000)))
        image = {"url": "https://x/y.png"} | ({"detail": "low"} if low else {})
        pictures.append({"type": "image_url", "image_url": image})
        tokens += picture_tokens(drawn.model, width, height, low=low)
    return [{"type": "text", "text": text}, *pictures], tokens, 0


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_chat(data: st.DataObject) -> None:
    drawn = Drawn(data)
    messages, read, sound = [], 3, 0
    for _ in range(data.draw(st.integers(1, 3))):
        said, tokens, heard = content(drawn, data)
        messages.append({"role": "user", "content": said})
        read, sound = read + tokens + 4, sound + heard
    drawn.body["messages"] = messages
    number = data.draw(st.none() | st.integers(1, 128))
    if number is not None:
        drawn.body["n"] = number
    limit = drawn.longest
    for name in ("max_tokens", "max_completion_tokens"):
        if (given_limit := data.draw(st.none() | st.integers(0, 20_000))) is not None:
            drawn.body[name] = given_limit
    given_limits = [drawn.body[name] for name in ("max_tokens", "max_completion_tokens") if name in drawn.body]
    if given_limits:
        limit = max(given_limits)
    written = drawn.share((number or 1) * limit)
    more = {"input_audio_tokens": drawn.share(sound)} if sound else {}
    drawn.line(read, written, more)
    if drawn.model == "gpt-audio":
        line = drawn.lines[0]
        used = msgspec.structs.replace(line.quantities, output_audio_tokens=drawn.share(written))
        drawn.lines[0] = msgspec.structs.replace(line, quantities=used)
    drawn.check("createChatCompletion")


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_responses(data: st.DataObject) -> None:
    drawn = Drawn(data)
    text = data.draw(texts)
    drawn.body["input"] = text
    read, turns = len(text.encode()) + 4, 1
    stored = data.draw(st.sampled_from(["", "previous_response_id", "conversation", "file"]))
    if stored == "file":
        drawn.body["input"] = [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]
    elif stored:
        drawn.body[stored] = "resp_1"
    tools = data.draw(
        st.sets(st.sampled_from(["function", "web_search", "file_search", "code_interpreter", "image_generation"]))
    )
    calls = 0
    if tools:
        drawn.body["tools"] = [{"type": name} for name in sorted(tools)]
        hosted = sorted(tools - {"function"})
        most_calls = data.draw(st.none() | st.integers(0, 40))
        if most_calls is not None:
            drawn.body["max_tool_calls"] = most_calls
        if hosted:
            calls = data.draw(st.integers(0, 16 if most_calls is None else most_calls))
            turns = calls + 1
            made = [data.draw(st.sampled_from(hosted)) for _ in range(calls)]
            drawn.lines = [tool_line(drawn, name) for name in made]
    if stored or calls:
        read = drawn.share(drawn.window * turns)
    limit = data.draw(st.none() | st.integers(0, 100_000))
    if limit is not None:
        drawn.body["max_output_tokens"] = limit
    written = drawn.share(drawn.longest * turns if limit is None else limit)
    tool_lines, drawn.lines = drawn.lines, []
    drawn.line(read, written, {})
    drawn.lines += tool_lines
    drawn.check("createResponse")


def tool_line(drawn: Drawn, name: str) -> UsageLine:
    """One call of a hosted tool, as `lines.py` makes a line of it."""
    if name == "image_generation":
        used = Quantities(input_tokens=7000, output_tokens=6240, output_image_tokens=6240, images=1)
        return UsageLine(category="images", upstream_model=IMAGE_TOOL, service_tier=drawn.tier, quantities=used)
    used = {
        "web_search": Quantities(web_searches=1),
        "file_search": Quantities(file_searches=1),
        "code_interpreter": Quantities(sessions=1),
    }[name]
    return UsageLine(category="x", request_model=drawn.model, service_tier=drawn.tier, quantities=used)
