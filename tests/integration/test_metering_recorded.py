"""Recorded streams of OpenAI and others, through a worker: usage as their index states it, and the client's bytes.

Chat and legacy completions are said by an upstream that the gateway has asked for usage: what the client gets is what it
would have got unasked. What goes is worked out here again, by other means than in the gateway. Responses pass as they are.
"""

import asyncio
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.upstream import SSE_HEAD, Exchange, Script, upstream
from tests.fakes.wire import chunk, until
from tests.fakes.worker import gateway

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "sse"
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "responses": "/v1/responses"}
NUMBERS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_tokens": "input_cached_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
}
_EVENT = re.compile(rb".*?(?:\r\n\r\n|\n\n|\r\r)|.+\Z", re.DOTALL)


def streams() -> list[dict[str, Any]]:
    index = FOLDER / "index.json"
    return json.loads(index.read_text()) if index.exists() else []


def data_of(event: bytes) -> dict[str, Any] | None:
    """The chunk that an event holds on one line; None if it does not."""
    lines = [line for line in event.splitlines() if line.startswith(b"data:")]
    try:
        value = json.loads(lines[0][5:]) if len(lines) == 1 else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def check_event(event: bytes, got: bytes) -> bytes:
    """What is left of the client's bytes after what must be there of this event."""
    value = data_of(event)
    if value is None or "usage" not in value:
        assert got.startswith(event)
        return got[len(event) :]
    if value["usage"] is not None and value.get("choices") == []:
        return got  # it is there for its usage alone
    found = _EVENT.match(got)
    assert found is not None
    stripped = found[0]
    members = list(value.items())
    assert list((data_of(stripped) or {}).items()) == [member for member in members if member[0] != "usage"]
    kept = next(at for at in range(len(event)) if event[: at + 1] != stripped[: at + 1])
    gone = event[kept : kept + len(event) - len(stripped)]
    assert event[:kept] + event[kept + len(gone) :] == stripped, "more than one place has changed"
    return got[len(stripped) :]


def playing(data: bytes, draw: random.Random, sizes: tuple[int, ...]) -> Script:
    async def play(exchange: Exchange) -> None:
        asked = json.loads(await exchange.whole())
        wanted = None if exchange.target.endswith(b"/responses") else {"include_usage": True}
        assert asked.get("stream_options") == wanted
        exchange.send(SSE_HEAD)
        at = 0
        while at < len(data):
            size = draw.choice(sizes)
            exchange.send(chunk(data[at : at + size]))
            at += size
            await asyncio.sleep(0)  # whoever reads gets a chance
        exchange.send(b"0\r\n\r\n")

    return play


@pytest.mark.skipif(not FOLDER.exists(), reason="the recorded streams are not here")
@pytest.mark.parametrize("sizes", [(1, 7, 60), (100, 1460), (65536,)], ids=str)
async def test_the_client_gets_what_it_would_have_got(sizes: tuple[int, ...]) -> None:
    draw, stripped = random.Random(5), 0
    async with upstream() as up, gateway(up) as gw:
        for stream in streams():
            data = (FOLDER / stream["file"]).read_bytes()
            up.script = playing(data, draw, sizes)
            gw.events.clear()
            body = {"model": stream.get("model_requested") or "m", "stream": True}
            got = (await gw.ask(PATHS[stream["kind"]], json.dumps(body).encode())).body
            stripped += got != data
            if stream["kind"] == "responses":
                assert got == data, stream["file"]
            else:
                for event in _EVENT.findall(data):
                    got = check_event(event, got)
                assert got == b"", stream["file"]
            await until(lambda: gw.events)
            check_usage(stream, gw.events[0].lines[0] if gw.events[0].lines else None)
    assert len(streams()) == 111
    assert stripped > 30


def check_usage(stream: dict[str, Any], line: Any) -> None:
    expected = stream["expected_usage"] or stream["expected_usage_alt_x_groq"]
    if not expected:
        assert line is None or line.source == "estimated", stream["file"]
        return
    assert line.source == "reported", stream["file"]
    for ours, theirs in NUMBERS.items():
        assert getattr(line.quantities, ours) == (expected[theirs] or 0), (stream["file"], ours)
