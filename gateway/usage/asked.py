"""What a request asks for, as far as it tells what the call will use."""

import re
from typing import Any

import msgspec

from gateway.usage.audio import duration_ms
from gateway.usage.estimate import texts_of_request
from gateway.usage.kinds import Basis
from gateway.values import FormFacts

_LARGE = 256 * 1024  # bytes of a body beyond which its texts are not looked at one by one
_MOST = 100  # of anything that a request may want several of
_VIDEO_S = 4  # OpenAI's default length of a video (reference: Create video)
_MS = 1000
_BYTES_A_MS = 16  # of compressed speech at 128 kbit/s, for audio that does not tell how long it is
_LONG = 1024  # bytes of a string that may be media
_BASE64 = re.compile(rb"(?:data:[^,\"]{0,100},)?[A-Za-z0-9+/_-]{256}")
_MOST_PIECES = 20_000  # between quotes; what comes after them counts as text
MOST_TEXT = 4 * 1024 * 1024  # bytes; a million tokens
_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


class Asked(msgspec.Struct, frozen=True):
    """text_bytes: of the texts in the request; texts: they themselves, of bodies that are not large; messages: how many
    they stand in. plain: they are all that a model reads for it, as far as can be told: no tools, and nothing that is
    stored upstream. number: of answers or pictures. characters: to be spoken. duration_ms: of audio that came, or of
    video to be made. tokens: of what the upstream has already and is to read again, as far as that is known. most:
    tokens of one answer, as far as the request limits them.
    """

    text_bytes: int = 0
    texts: tuple[str, ...] = ()
    messages: int = 0
    number: int = 1
    size: str = ""
    quality: str = ""
    characters: int = 0
    duration_ms: int = 0
    plain: bool = False
    tokens: int = 0
    most: int | None = None


NOTHING = Asked()


class _Body(msgspec.Struct):
    n: Any = None
    size: Any = None
    quality: Any = None
    input: Any = None
    seconds: Any = None
    tools: Any = None
    functions: Any = None
    response_format: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    assistant_id: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def of_json(body: bytes | bytearray | memoryview, basis: Basis) -> Asked:
    """What a JSON body asks for; what it does not say is as by default. Nothing is raised.

    Answers wait for this, so a large one is not decoded where its text is all that matters.
    """
    large = len(body) > _LARGE
    if large and basis in {"text", "input"}:
        return Asked(rough_text_bytes(body))
    try:
        said = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Asked(text_bytes=len(body))
    texts, messages, size = ([], 0, rough_text_bytes(body)) if large else texts_of_request(body)
    more = said.tools or said.functions or said.response_format
    return Asked(
        size,
        tuple(texts),
        messages,
        _number(said.n),
        _text(said.size),
        _text(said.quality),
        len(said.input) if basis == "speech" and isinstance(said.input, str) else 0,
        _video_ms(said.seconds) if basis == "video" else 0,
        plain=not (large or more or _is_stored(said)),
        most=_most(said),
    )


def of_form(facts: FormFacts, basis: Basis) -> Asked:
    """What a form asks for that went by."""
    fields, played = facts.fields, 0
    if basis == "video":
        played = _video_ms(fields.get("seconds"))
    elif basis == "audio":
        played = _played_ms(facts)
        played = max(played or facts.file_size // _BYTES_A_MS, 1)
    return Asked(
        text_bytes=facts.prompt_bytes,
        number=_number(fields.get("n")),
        size=_text(fields.get("size")),
        quality=_text(fields.get("quality")),
        duration_ms=played,
    )


def _played_ms(file: FormFacts) -> int:
    return duration_ms(file.file_head, file.file_tail, file.file_size, file.file_middle_at, file.file_middle) or 0


def rough_text_bytes(body: bytes | bytearray | memoryview) -> int:
    """About how many bytes of a large JSON body a model reads as text: all that is not a long string of Base64.

    Fast, for it only goes from quote to quote: some 10 GB/s in media. No model reads more than MOST_TEXT.
    """
    data = body if isinstance(body, bytes | bytearray) else bytes(body)
    text = start = 0
    for _ in range(_MOST_PIECES):
        end = data.find(b'"', start)
        if end < 0:
            break
        if end - start < _LONG or not _BASE64.match(data, start):
            text += end - start
        start = end + 1
    return min(text + len(data) - start, MOST_TEXT)


def _is_stored(said: _Body) -> bool:
    """Whether the request goes on from something that the upstream has, or names a prompt there."""
    named = said.previous_response_id or said.conversation or said.assistant_id
    return bool(named) or isinstance(said.prompt, dict)


def _most(said: _Body) -> int | None:
    """The longest that an answer may be, the larger number where the request names two."""
    limits = (said.max_tokens, said.max_completion_tokens, said.max_output_tokens)
    return max((limit for limit in limits if type(limit) is int and limit >= 0), default=None)


def _number(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:6])
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST else 1


def _video_ms(value: Any) -> int:
    """Length of a video, which is asked for as text."""
    if isinstance(value, int | float | str) and _NUMBER.fullmatch(str(value)):
        return round(float(value) * _MS)
    return _VIDEO_S * _MS


def _text(value: Any) -> str:
    return value[:256] if isinstance(value, str) else ""
