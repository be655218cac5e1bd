"""What a request's input amounts to.

Rules. Each message is 3 tokens, its role, its name and its texts; the conversation is 3 more. Tools, functions and a
response format are the tokens of their compact JSON. Pictures and sounds as in `media.py`; a file is a token for every
4 bytes. The text, rendered in order, is also what seeds the answer and what the prompt cache knows.
"""

from typing import Any

import msgspec

from gateway.simulator import errors, media, tokens
from gateway.simulator.call import Json

_encode = msgspec.json.Encoder(order="sorted").encode


class Prompt(msgspec.Struct, frozen=True):
    """text: everything textual, rendered. tokens: of all kinds; audio_tokens and image_tokens are parts of it."""

    text: str
    tokens: int
    audio_tokens: int = 0
    image_tokens: int = 0


class Reading:
    """Adds up a prompt part by part."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.tokens = self.audio_tokens = self.image_tokens = 0

    def text(self, value: str) -> None:
        self._texts.append(value)
        self.tokens += tokens.count(value)

    def json(self, value: object) -> None:
        self.text(_encode(value).decode())

    def message(self, role: str, name: str | None = None) -> None:
        self.tokens += 3
        self.text(role)
        if name:
            self.text(name)

    def picture(self, url: str, detail: str) -> None:
        self._texts.append(url[-256:])
        found = media.picture_tokens(media.picture_size(media.head(url)), detail)
        self.image_tokens += found
        self.tokens += found

    def sound(self, data: str) -> None:
        self._texts.append(data[-256:])
        found = media.sound_tokens_in(media.sound_seconds(media.head(data), len(data) * 3 // 4))
        self.audio_tokens += found
        self.tokens += found

    def file(self, size: int, name: str) -> None:
        self._texts.append(name)
        self.tokens += size // 4

    def done(self, overhead: int = 3) -> Prompt:
        return Prompt("\n".join(self._texts), self.tokens + overhead, self.audio_tokens, self.image_tokens)


def of_chat(body: Json, messages: list[Any]) -> Prompt:
    """The prompt of a chat completion. Raises ApiError for messages that are none."""
    reading = Reading()
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise errors.wrong_type(f"messages[{i}]", "an object", message)
        role = message.get("role")
        if not isinstance(role, str) or role not in {"system", "developer", "user", "assistant", "tool", "function"}:
            if role is None:
                raise errors.missing(f"messages[{i}].role")
            known = ("system", "assistant", "user", "function", "tool", "developer")
            raise errors.wrong_value(f"messages[{i}].role", role, known)
        reading.message(role, message.get("name"))
        _content(reading, message.get("content"), f"messages[{i}].content")
        for called in message.get("tool_calls") or ():
            function = called.get("function") or called.get("custom") or {}
            reading.text(str(function.get("name", "")))
            reading.text(str(function.get("arguments") or function.get("input") or ""))
        if called := message.get("function_call"):
            reading.json(called)
    for member in ("tools", "functions", "response_format"):
        if (value := body.get(member)) and value != {"type": "text"}:
            reading.json(value)
    return reading.done()


def _content(reading: Reading, content: object, param: str) -> None:
    if isinstance(content, str):
        reading.text(content)
        return
    if content is None:
        return
    if not isinstance(content, list):
        raise errors.wrong_type(param, "one of a string or array of objects", content)
    for i, part in enumerate(content):
        if not isinstance(part, dict):
            raise errors.wrong_type(f"{param}[{i}]", "an object", part)
        add_part(reading, part, f"{param}[{i}]")


def add_part(reading: Reading, part: Json, param: str) -> None:
    """One part of a message's content, in the shapes of chat, Responses, threads and realtime."""
    kind = part.get("type")
    if not isinstance(kind, str):
        raise errors.missing(f"{param}.type")
    if kind in {"text", "input_text", "output_text", "refusal"}:
        value = part.get("text", part.get("refusal", ""))
        reading.text(str(value.get("value", "")) if isinstance(value, dict) else str(value))
    elif kind in {"image_url", "input_image", "image_file"}:
        image = part.get("image_url") or part.get("image_file") or part.get("file_id") or ""
        url, detail = (image, part.get("detail")) if isinstance(image, str) else (image.get("url"), image.get("detail"))
        reading.picture(str(url or ""), str(detail or "auto"))
    elif kind == "input_audio":
        sound = part.get("input_audio") or part.get("audio") or ""
        reading.sound(str(sound.get("data", "")) if isinstance(sound, dict) else str(sound))
    elif kind in {"file", "input_file"}:
        file = part.get("file") if kind == "file" else part
        data = str((file or {}).get("file_data") or "")
        reading.file(len(data) * 3 // 4, str((file or {}).get("filename") or (file or {}).get("file_id") or ""))
    elif kind in {"audio", "output_audio"}:
        reading.text(str(part.get("transcript") or ""))
    else:
        known = ("text", "image_url", "input_audio", "refusal", "audio", "file")
        raise errors.wrong_value(f"{param}.type", kind, known)
