"""What a socket's messages ask for, as the estimator takes it."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from gateway.errors import DUPLICATE_MEMBER, GatewayError
from gateway.proxy.admission.bounds import SESSION_MS, USUAL_BYTES_A_S
from gateway.usage.asked import Asked
from gateway.usage.sockets.messages import Message, at, plain, short
from gateway.values import FormFacts, HeadFacts

# Of a JSON object: its model, and what else bounds it. Raises GatewayError (400) for what can be read in two ways.
ReadHead = Callable[[bytes], tuple[str | None, HeadFacts]]

CONFIGURES = frozenset({"session.update", "session.start", "transcription_session.update"})
_DECIDES = (b"response.create", b"session.update", b"session.start")
_ESCAPED = re.compile(rb"\\u00(?:2[eE]|[67])")  # letters and dots of a name that did not need it
_MS = 1000
_HEARD_MS = 100  # of sound a token (guide: Realtime costs)
_BYTES_A_TOKEN = 4
_NO_FACTS = FormFacts()
_NOTHING_SAID = HeadFacts()


class SocketRequest(msgspec.Struct, frozen=True):
    """A response or a piece of a session, as a request. size: bytes of what it reads, where that is not in `whole`."""

    model: str | None
    whole: bytes | bytearray | None = None
    head: HeadFacts = _NOTHING_SAID
    size: int = 0

    @property
    def length(self) -> int | None:
        return self.size if self.whole is None else len(self.whole)

    @property
    def facts(self) -> FormFacts:
        return _NO_FACTS


def of_message(data: bytes, read_head: ReadHead) -> SocketRequest:
    """A `response.create` of the Responses API, whose members are those of a request. Raises as `read_head`."""
    model, head = read_head(data)
    return SocketRequest(model, data, head)


def of_conversation(asked: Asked, model: str, head: HeadFacts | None = None) -> SocketRequest:
    """A response of a conversation. asked: what it reads. head: what was said of the response itself."""
    if head is None:
        head = HeadFacts(max_output_tokens=asked.most)
    heard = -(-asked.duration_ms // _HEARD_MS)
    return SocketRequest(model or None, None, head, asked.text_bytes + heard * _BYTES_A_TOKEN)


def said_of_response(message: Message, read_head: ReadHead) -> SocketRequest | None:
    """What a realtime `response.create` says of the response itself; None for nothing. Raises as `read_head`."""
    raw = bytes(message.response)
    if raw[:1] != b"{":
        return None
    model, head = read_head(raw)
    return SocketRequest(model, raw, head)


def of_upstream(model: str) -> SocketRequest:
    """A response of which the upstream alone knows what it reads."""
    return SocketRequest(model or None, None, HeadFacts(stored=True))


def of_sound(model: str) -> SocketRequest:
    """The next piece of a session that is billed by its length."""
    return SocketRequest(model or None, None, _NOTHING_SAID, SESSION_MS * USUAL_BYTES_A_S // _MS)


def said_of_session(message: Message, read_head: ReadHead) -> Iterator[SocketRequest]:
    """What a session is to have: a model that answers, and its tools; one that writes down what is heard. Raises as
    `read_head`, also for models whose names are none."""
    raw = bytes(message.session)
    if raw[:1] != b"{":
        return
    answers, head = read_head(raw)
    if answers or head.tools:
        yield SocketRequest(answers, raw, head)
    session = plain(message.session)
    for place in (at(session, "audio", "input", "transcription"), at(session, "input_audio_transcription")):
        hears = short(at(place, "model"))
        if hears:
            yield SocketRequest(hears)


def check_plain(kind: str, data: bytes) -> None:
    """Raises GatewayError DUPLICATE_MEMBER (400) for a message that one reader may take for another than the next one
    does. kind: what it was read as."""
    if kind in CONFIGURES or (kind != "response.create" and _may_decide(data)):
        try:
            json.loads(data, object_pairs_hook=_once)
        except (ValueError, RecursionError):
            return  # half of a character, at worst: it has been read otherwise


def _may_decide(data: bytes) -> bool:
    # The first look is many times as fast as the expression, and most messages have none.
    return any(name in data for name in _DECIDES) or (b"\\u00" in data and _ESCAPED.search(data) is not None)


def _once(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise GatewayError(DUPLICATE_MEMBER, param=next(name for name in names if names.count(name) > 1)[:100])
