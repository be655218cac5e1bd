"""What is seen in bodies without decoding them."""

from typing import Any

import msgspec
import pytest

from gateway.proxy.admission.contents import TEXT, Contents, HostedTool, contents, hosted_tools, plainly


def seen(*parts: dict[str, Any]) -> Contents:
    return contents(msgspec.json.encode({"messages": [{"role": "user", "content": parts}]}), sounds=True)


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ([{"type": "text", "text": 'an "image_url": in "input_file", _data"'}], TEXT),
        ([{"type": "image_url", "image_url": {"url": "u"}}], Contents(images=1)),
        ([{"type": "image_url", "image_url": {"url": "u", "detail": "low"}}] * 3, Contents(images=3, low=3)),
        ([{"type": "input_image", "image_url": "u"}], Contents(images=1)),
        ([{"type": "input_image", "file_id": "file-1"}] * 2, Contents(images=2)),
        ([{"type": "computer_screenshot", "file_id": "file-1"}], Contents(images=1)),
        ([{"type": "input_file", "file_id": "file-1"}], Contents(files=1)),
        ([{"type": "input_file", "file_url": "https://x"}], Contents(files=1)),
        ([{"type": "file", "file": {"file_id": "file-1"}}], Contents(files=1)),
        ([{"type": "file", "file": {"file_data": "data:"}}], Contents(files=1)),
        ([{"type": "input_audio", "input_audio": {"data": "A"}}], Contents(sounds=2)),
        ([{"type": "item_reference", "id": "msg_1"}], Contents(referenced=True)),
        ([{"type": "image_generation_call", "id": "ig_1"}], Contents(referenced=True)),
        ([{"type": "web_search_call", "id": "ws_1"}], Contents(referenced=True)),
        ([{"type": "function_call", "name": "f", "arguments": "{}"}], TEXT),
        ([{"role": "assistant", "audio": {"id": "audio_1"}}], Contents(referenced=True)),
    ],
)
def test_what_stands_besides_text_is_seen(parts: list[dict[str, Any]], found: Contents) -> None:
    assert seen(*parts) == found
    assert (seen(*parts) is TEXT) == (found is TEXT)


def test_escapes_are_undone_where_letters_are_written_so_and_nowhere_else() -> None:
    plain = b'{"a":"\\u00e9 \\ud83d\\ude00 \\u0007"}'
    assert plainly(plain) is plain
    assert b'"image_url":' in plainly(rb'{"image\u005furl":1}')
    assert plainly(rb'"\\u0061 \u005c\u0061"') == rb'"\\u0061 \u005ca"'


def test_tools_are_those_that_the_upstream_runs() -> None:
    tools = msgspec.json.encode(
        [
            {"type": "function", "function": {"name": "web_search"}},
            {"type": "web_search_2025_08_26"},
            {"type": "image_generation", "model": "gpt-image-1"},
            {"type": "shell"},
            {"type": "mcp", "server_url": "https://x"},
            {"type": "custom", "name": "x"},
            {"type": 7},
        ]
    )
    assert hosted_tools(tools, b"{}", strict=True) == (
        HostedTool("web_search"),
        HostedTool("image", "gpt-image-1"),
        HostedTool("session"),
        HostedTool(""),
    )
    assert hosted_tools(b"7", b"{}", strict=True) == ()


def test_a_second_member_is_looked_for_only_to_be_strict() -> None:
    body = b'{"tools":[{"type":"web_search"}],"tools":[]}'
    assert hosted_tools(b"[]", body, strict=False) == ()
    assert hosted_tools(b"[]", body, strict=True) == (HostedTool("web_search"),)
    escaped = rb'{"to\u006fls":[{"type":"web\u005fsearch"}],"tools":[]}'
    assert hosted_tools(b"[]", escaped, strict=True) == (HostedTool("web_search"),)
