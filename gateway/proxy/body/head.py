"""The few members of a JSON body that decide where a call goes and what it may cost.

Only these are decoded; the rest of the body, nearly all of it, is skipped over in C and goes upstream as the bytes
that came. Each of them may stand once: JSON does not say which of two a reader takes, and a gateway that reads the one
while the upstream reads the other is no gateway. msgspec keeps the last without a word, so every member is decoded into
a type of its own, and the hook that makes it notices the second time, however the name was spelled.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.errors import DUPLICATE_MEMBER, INVALID_JSON, INVALID_TYPE, GatewayError
from gateway.values import HeadFacts

# Documented at POST /chat/completions, /completions and /responses of the API description.
_MEMBERS = (
    "model", "stream", "stream_options", "n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens",
    "service_tier", "background", "store", "previous_response_id", "conversation", "prompt", "max_tool_calls",
)  # fmt: skip
# Long, and only looked at where there are any; a second one is found by whoever depends on there being one.
_RAW = ("tools", "web_search_options")
# Recorded, and nothing is decided by them: they may stand as often as they like.
_RECORDED = ("user", "safety_identifier")
_LONGEST_USER = 256
_SURROGATE = re.compile(rb"(?<!\\)((?:\\\\)*)\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_NO_FACTS = HeadFacts()
_LONGEST_TIER = 64
_SECOND_LOOK = 4 * 1024 * 1024  # bytes of a body that are worth it
_NAMES: Mapping[type, str] = MappingProxyType(
    {str: "a string", bool: "a boolean", int: "an integer", float: "a number", list: "an array", dict: "an object"}
)


class HeadDecoder:
    """Decodes heads. One per worker: it keeps note of the members seen while it decodes one body."""

    def __init__(self) -> None:
        # A type per member, with one instance to give back: what was decoded is kept in `_seen`.
        kinds = {name: type(name, (), {"__slots__": ()}) for name in _MEMBERS}
        self._given: dict[type, object] = {kind: kind() for kind in kinds.values()}
        self._model, self._stream, self._options = kinds["model"], kinds["stream"], kinds["stream_options"]
        self._seen: dict[type, Any] = {}
        self._head: Any = None
        self._bounds = {kinds[name]: bound for name, bound in _BOUNDS.items()}
        fields = [*kinds.items(), *((name, Any) for name in _RECORDED), *((name, msgspec.Raw) for name in _RAW)]
        head = msgspec.defstruct("Head", [(name, kind, None) for name, kind in fields])
        self._decoder: Any = msgspec.json.Decoder(head, dec_hook=self._once)

    def _once(self, kind: type, value: Any) -> object:
        if kind in self._seen:
            raise GatewayError(DUPLICATE_MEMBER, param=kind.__name__)
        self._seen[kind] = value
        return self._given[kind]

    @property
    def has_options(self) -> bool:
        """Whether the body decoded last has stream options, be they null."""
        return self._options in self._seen

    @property
    def options(self) -> Any:
        """The stream options of the body decoded last, None for none."""
        return self._seen.get(self._options)

    @property
    def end_user(self) -> str:
        """Whom the body decoded last names as the client's own user; empty for nobody."""
        head = self._head
        name = (head.safety_identifier or head.user) if head is not None else ""
        return name[:_LONGEST_USER] if isinstance(name, str) else ""

    @property
    def facts(self) -> HeadFacts:
        """What the body decoded last says of the most that its call may use."""
        head = self._head
        if head is None:
            return _NO_FACTS
        said: dict[str, Any] = {}
        for kind, value in self._seen.items():
            bound = self._bounds.get(kind)
            if bound is not None and value is not None:
                name, read = bound
                found = read(value)
                said[name] = _larger(said[name], found) if name in said else found
        if head.tools is not None:
            said["tools"] = bytes(head.tools)
        if head.web_search_options is not None:
            said["searches"] = True
        if not said:
            return _NO_FACTS
        if "prompt" in said:
            said |= _prompt(said.pop("prompt"))
        return HeadFacts(**said)

    def decode(self, body: bytes | bytearray | memoryview) -> tuple[str | None, bool]:
        """A body's model, None if it names none, and whether it asks for a stream.

        Raises GatewayError INVALID_JSON, INVALID_TYPE or DUPLICATE_MEMBER (400).
        """
        seen = self._seen
        seen.clear()
        self._head = None
        try:
            self._head = self._decoder.decode(body)
        except msgspec.ValidationError:
            raise GatewayError(INVALID_JSON, reason="it is not a JSON object") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if not self._without_surrogates(body):
                raise GatewayError(INVALID_JSON, reason=_reason(error)) from None
        except RecursionError:
            raise GatewayError(INVALID_JSON, reason="it is nested too deeply") from None
        model, stream = seen.get(self._model), seen.get(self._stream)
        if model is not None and type(model) is not str:
            raise _wrong_type("model", "a string", model)
        if stream is not None and type(stream) is not bool:
            raise _wrong_type("stream", "a boolean", stream)
        return model, stream is True

    def _without_surrogates(self, body: bytes | bytearray | memoryview) -> bool:
        """Decodes again with halves of surrogate pairs replaced; returns whether that helps.

        Clients that cut texts in the middle of an emoji send one half, `"\\ud83d"`. JSON's grammar allows it and other
        readers take it, so it is for the upstream to judge; in what is read here it is not welcome.
        """
        if len(body) > _SECOND_LOOK:
            return False
        text, number = _SURROGATE.subn(rb"\1\\u0001", body)
        if not number:
            return False
        self._seen.clear()
        try:
            self._head = self._decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        return "\x01" not in str(self._seen.get(self._model))


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _number(value: Any) -> int | None:
    return value if type(value) is int and value >= 1 else None


def _tier(value: Any) -> str:
    return value[:_LONGEST_TIER].lower() if isinstance(value, str) else ""


def _itself(value: Any) -> Any:
    return value


def _larger(one: int | None, other: int | None) -> int | None:
    """Of two members that bound the same; None if either of them does not."""
    return None if one is None or other is None else max(one, other)


def _prompt(prompt: Any) -> Mapping[str, Any]:
    """What a `prompt` says: a stored one is an object; a completion's is a text or its tokens, or a list of these."""
    if isinstance(prompt, dict):
        return {"stored": True, "template": True}
    if not isinstance(prompt, list) or not prompt or type(prompt[0]) is int:
        return {}
    return {"prompts": len(prompt)}


# Which members bound what a call may use: field of HeadFacts, and how the member is read.
_BOUNDS: Mapping[str, tuple[str, Callable[[Any], Any]]] = MappingProxyType({
    "n": ("number", _number),
    "best_of": ("number", _number),
    "max_tokens": ("max_tokens", _whole),
    "max_completion_tokens": ("max_completion_tokens", _whole),
    "max_output_tokens": ("max_output_tokens", _whole),
    "service_tier": ("service_tier", _tier),
    "previous_response_id": ("stored", bool),
    "conversation": ("stored", bool),
    "prompt": ("prompt", _itself),
    "max_tool_calls": ("tool_calls", _whole),
})  # fmt: skip


def _reason(error: Exception) -> str:
    """The decoder's words, which give a position and never the content."""
    text = str(error)
    if text.startswith("JSON is malformed: "):
        return text.removeprefix("JSON is malformed: ")
    return "it ends too early" if "truncated" in text else "a string in it is not valid"


def _wrong_type(name: str, expected: str, got: Any) -> GatewayError:
    reason = f"expected {expected}, but got {_NAMES.get(type(got), 'something else')} instead"
    return GatewayError(INVALID_TYPE, param=name, reason=reason)
