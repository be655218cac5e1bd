"""What a body holds besides text, found without decoding it: pictures, files, sound, and tools."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.proxy.admission.bounds import CLIENTS_TOOLS, TOOL_UNITS

# One look for all of them, as most bodies have none. In a text its quotes would be escaped.
_ANY = re.compile(
    rb'_(?:url"|image"|file"|audio"|data"|screenshot"|reference"|(?<=file_)id"'
    rb'|(?:(?<=generation_)|(?<=search_)|(?<=interpreter_))call")'
)
_LONGEST_BEFORE = 16  # that it looks back, for `code_interpreter`
_ELSEWHERE = re.compile(rb'"(?:item_reference|(?:image_generation|file_search|web_search|code_interpreter)_call)"')
_IMAGE_MEMBER = re.compile(rb'"image_url"[ \t\r\n]*:')
_FILE_MEMBER = re.compile(rb'"file"[ \t\r\n]*:')
_LOW = re.compile(rb'"detail"[ \t\r\n]*:[ \t\r\n]*"low"')
_SPOKEN_BEFORE = re.compile(rb'"audio"[ \t\r\n]*:[ \t\r\n]*\{[ \t\r\n]*"id"')
# A letter that did not need it, but for the backslash itself; the one before it must not be escaped.
_ESCAPED = re.compile(rb"(?<!\\)((?:\\\\)*)\\u00((?!5[cC])[4-7][0-9a-fA-F])")
_MAYBE_ESCAPED = re.compile(rb"\\u00[4-7]")
_TOOL_TYPE = re.compile(rb'"type"[ \t\r\n]*:[ \t\r\n]*"([a-z_0-9]{1,64})"')


class Contents(msgspec.Struct, frozen=True):
    """images, files, sounds: how many, never too few; low: of the images, with `detail: low`. referenced: there is
    input that the upstream has and the body only names.
    """

    images: int = 0
    low: int = 0
    files: int = 0
    sounds: int = 0
    referenced: bool = False


TEXT = Contents()


class HostedTool(msgspec.Struct, frozen=True):
    """unit: a value of TOOL_UNITS. model: of a tool that has one of its own."""

    unit: str
    model: str = ""


class _Tool(msgspec.Struct):
    type: Any = None
    model: Any = None


_decode_tools = msgspec.json.Decoder(list[_Tool]).decode


def plainly(body: bytes | bytearray) -> bytes | bytearray:
    """A body whose names can be searched for: without letters that are written as escapes, of which texts have none."""
    return _ESCAPED.sub(_letter, body) if _MAYBE_ESCAPED.search(body) is not None else body


def contents(body: bytes | bytearray, *, sounds: bool) -> Contents:
    """sounds: whether the model may have spoken before, and the body may say so by reference."""
    at = body.find(b"_")  # all of these names have one: looking for that alone is ten times as fast
    if (at < 0 or _ANY.search(body, max(0, at - _LONGEST_BEFORE)) is None) and not (
        sounds and _SPOKEN_BEFORE.search(body)
    ):
        return TEXT
    images = max(len(_IMAGE_MEMBER.findall(body)), body.count(b'"input_image"') + body.count(b'"computer_screenshot"'))
    found = Contents(
        images,
        min(images, len(_LOW.findall(body))) if images else 0,
        max(body.count(b'"input_file"'), len(_FILE_MEMBER.findall(body))),
        body.count(b'"input_audio"'),
        _ELSEWHERE.search(body) is not None or (sounds and _SPOKEN_BEFORE.search(body) is not None),
    )
    return TEXT if found == TEXT else found


def hosted_tools(tools: bytes, body: bytes | bytearray, *, strict: bool) -> tuple[HostedTool, ...]:
    """The tools among a body's that the upstream runs, by the member `tools`. strict: also if there are two of it, of
    which the upstream may read the other.
    """
    try:
        declared = _decode_tools(tools)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        declared = []
    if strict and plainly(body).count(b'"tools"') > 1:
        declared += [_Tool(name.decode()) for name in set(_TOOL_TYPE.findall(plainly(body)))]
    return tuple(_hosted(declared))


def _letter(found: re.Match[bytes]) -> bytes:
    return found[1] + bytes.fromhex(found[2].decode())


def _hosted(declared: Iterable[_Tool]) -> Iterable[HostedTool]:
    for tool in declared:
        if isinstance(tool.type, str) and tool.type not in CLIENTS_TOOLS:
            unit = next((unit for name, unit in TOOL_UNITS.items() if tool.type.startswith(name)), None)
            if unit is not None:
                yield HostedTool(unit, tool.model if isinstance(tool.model, str) else "")
