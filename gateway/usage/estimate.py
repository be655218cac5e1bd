"""Estimates of tokens, for calls that end without a report: from the bytes of their text.

How many bytes a token has depends on model and language; both are learned from calls that did report. What is counted
are the texts alone, for JSON around them and media in them have nothing to do with tokens.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec

Side = Literal["input", "output"]
Exact = Callable[[str, Sequence[str]], int | None]  # of a model, and texts of one side

# Bytes of English prose a token of o200k, which tiktoken (OpenAI's tokenizers) says is 4.5 to 4.8 with its spaces.
_TYPICAL = 4.5
_MODELS = 1024  # models are named by clients, so what is remembered of them is bounded
_FIRST_WEIGHT = 200  # tokens' worth of trust in the typical value before anything was learned
_LONGEST_MEMORY = 200_000  # tokens; older calls fade
_UNSEEN_OUTPUT = 100.0  # tokens of an answer that nobody saw, before anything was learned
_NEWEST = 0.05  # how much the newest call moves a model's typical output

# Members that hold text that a model reads or writes, in requests and answers of all operations.
_TEXTS = frozenset({
    "content", "text", "input", "prompt", "instructions", "arguments", "output", "refusal", "reasoning_content",
    "summary", "delta", "transcript", "suffix", "description", "name", "partial_json", "reasoning", "thinking",
    "value",  # of messages in threads
})  # fmt: skip
# Members whose whole JSON a model reads in some form.
_SCHEMAS = frozenset({"tools", "functions", "response_format"})
_NOT_READ = frozenset({"name", "metadata", "user"}) | _SCHEMAS
_DEEPEST = 64
_PER_MESSAGE = 4  # tokens around each message of a chat (OpenAI's cookbook, "How to count tokens")

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class _Seen(msgspec.Struct):
    bytes: float
    tokens: float


class _Typical(msgspec.Struct):
    """Means over a model's calls, in tokens. thoughts: reasoning, which is a part of the output."""

    output: float
    thoughts: float


class Densities:
    """How many bytes a token has, by model and side, and what cannot be seen of an answer. One per worker.

    exact: counts the tokens of texts, None where it cannot: see `exact.py`.
    """

    def __init__(self, exact: Exact | None = None) -> None:
        self._exact = exact
        self._seen: dict[tuple[str, Side], _Seen] = {}
        self._outputs: dict[str, _Typical] = {}

    def learn(self, model: str, side: Side, size: int, tokens: int) -> None:
        """A call reported so many tokens for texts of so many bytes."""
        if size <= 0 or tokens <= 0 or not 0.5 <= size / tokens <= 20:
            return  # not text: an image, a call without content, another meaning of the number
        seen = self._seen.get((model, side))
        if seen is None:
            if len(self._seen) >= _MODELS:
                del self._seen[next(iter(self._seen))]
            seen = self._seen[model, side] = _Seen(_FIRST_WEIGHT * _TYPICAL, _FIRST_WEIGHT)
        seen.bytes += size
        seen.tokens += tokens
        if seen.tokens > _LONGEST_MEMORY:
            seen.bytes /= 2
            seen.tokens /= 2

    def learn_output(self, model: str, tokens: int, reasoning: int = 0) -> None:
        """A call reported so many tokens of output, of which so many are reasoning."""
        known = self._outputs.get(model)
        if known is not None:
            known.output += (tokens - known.output) * _NEWEST
            known.thoughts += (reasoning - known.thoughts) * _NEWEST
            return
        if len(self._outputs) >= _MODELS:
            del self._outputs[next(iter(self._outputs))]
        self._outputs[model] = _Typical(tokens, reasoning)

    def typical_output(self, model: str) -> int:
        """How many tokens a call to this model puts out, about: for one whose answer nobody saw. At least one."""
        known = self._outputs.get(model)
        return max(1, round(known.output if known is not None else _UNSEEN_OUTPUT))

    def typical_reasoning(self, model: str) -> int:
        """How many tokens a call to this model thinks before it answers, about: streams do not show them."""
        known = self._outputs.get(model)
        return round(known.thoughts) if known is not None else 0

    def tokens(self, model: str, side: Side, size: int, texts: Sequence[str] = ()) -> int:
        """About how many tokens texts of so many bytes are; at least one.

        texts: those of them that are at hand, to be counted exactly where there is a tokenizer.
        """
        counted = self._exact(model, texts) if self._exact is not None and texts else None
        if counted is None:
            return self._by_density(model, side, size)
        rest = size - size_of(texts)
        return max(1, counted + (self._by_density(model, side, rest) if rest > 0 else 0))

    def _by_density(self, model: str, side: Side, size: int) -> int:
        seen = self._seen.get((model, side))
        density = _TYPICAL if seen is None else seen.bytes / seen.tokens
        return max(1, round(size / density))


def texts_of_request(body: bytes | bytearray | memoryview) -> tuple[list[str], int, int]:
    """The texts in a JSON request, how many messages they stand in, and how many bytes a model reads of it in all: with
    schemas, and prompts that are given as tokens. Nothing if it cannot be read.
    """
    value = _plain(body)
    if not isinstance(value, dict):
        return [], 0, 0
    messages = value.get("messages", value.get("input"))
    number = len(messages) if isinstance(messages, list) and messages and isinstance(messages[0], dict) else 0
    texts = texts_in({name: inner for name, inner in value.items() if name not in _NOT_READ})
    size = size_of(texts) + sum(len(_encode(value[name])) for name in _SCHEMAS if value.get(name))
    size += round(_TYPICAL * sum(_tokens(value.get(name)) for name in ("input", "prompt")))
    return texts, number, size


def _tokens(value: Any) -> int:
    """How many tokens a prompt has that is given as their numbers: a list, or several."""
    if not isinstance(value, list) or not value:
        return 0
    if isinstance(value[0], int):
        return len(value)
    return sum(map(_tokens, value)) if isinstance(value[0], list) else 0


def overhead_tokens(messages: int) -> int:
    """Tokens that a chat's messages take besides their text."""
    return _PER_MESSAGE * messages


def texts_of_answer(data: bytes | bytearray | memoryview) -> list[str]:
    """The texts in an answer, or in one event of it."""
    value = _plain(data)
    if isinstance(value, dict) and isinstance(output := value.get("output"), list):
        return texts_in(output)  # a response repeats its instructions and tools, which were input
    return texts_in(value)


def texts_in(value: Any, depth: int = 0) -> list[str]:
    """The texts in a decoded value: strings in members that hold text, at any depth; media in them left out."""
    found: list[str] = []
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in _TEXTS:
                if isinstance(inner, dict | list) and depth < _DEEPEST:
                    found += texts_in(inner, depth + 1)
            elif isinstance(inner, str):
                found.append(inner)
            elif isinstance(inner, list):
                found += [item for item in inner if isinstance(item, str)]
                found += texts_in([item for item in inner if not isinstance(item, str)], depth + 1)
            elif isinstance(inner, dict):
                found += texts_in(inner, depth + 1)
    elif isinstance(value, list) and depth < _DEEPEST:
        for item in value:
            found += texts_in(item, depth + 1)
    return [text for text in found if text and not text.startswith("data:")]


def size_of(texts: Iterable[str]) -> int:
    """Bytes of texts, as UTF-8."""
    return sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts)


def _plain(data: bytes | bytearray | memoryview) -> Any:
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
