"""Calls of many kinds, and clients that make them: some leave in the middle, some are cut off or refused on purpose.

What goes wrong is the simulator's doing, asked for by header; who leaves is decided here. The same seed gives the same
calls.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import aiohttp
import msgspec

from gateway.simulator import media, tokens
from gateway.simulator.text import Prose

Ends = Literal["whole", "leaves", "cut", "refused"]
Json = dict[str, Any]

CHATS = ("gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-4.1-nano", "gpt-3.5-turbo", "gpt-5-mini", "gpt-6-luna")
RESPONDERS = ("gpt-4o", "gpt-4.1-mini", "gpt-5-mini", "gpt-6-astra", "o4-mini")
INSTRUCTED = ("gpt-3.5-turbo-instruct", "davinci-002", "babbage-002")
EMBEDDERS = ("text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002")
TIERS = (None, None, None, "default", "flex", "priority")
EVENT_END = b"\n\n"
_PROMPTS = 80  # few enough that long ones come again, and are cached


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A call that is to be made. body: JSON; or else fields and a file of a form. fault: for the simulator.

    leaves_after: the client goes when it has so many events; -1 for as soon as it has asked.
    """

    number: int
    path: str
    ends: Ends
    body: Json | None = None
    fields: Mapping[str, str] = MappingProxyType({})
    file: bytes = b""
    fault: str = ""
    leaves_after: int = 0

    @property
    def name(self) -> str:
        """By which the book knows it."""
        return f"call-{self.number}"

    @property
    def stream(self) -> bool:
        return bool((self.body or {}).get("stream")) or self.fields.get("stream") == "true"


class Outcome(msgspec.Struct):
    """What a client saw. status: 0 for no answer. written: tokens of the text that it got. broken: it ended too early.
    began, ended: seconds on a clock that only goes forward."""

    status: int = 0
    written: int = 0
    broken: bool = False
    began: float = 0.0
    ended: float = float("inf")


class Mix:
    """Makes calls up. Shares: 30 % streams; 10 % of all leave, 5 % are cut, 2 % are refused."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        prose, draw = Prose(), self._draw
        sizes = [draw.choice((30, 120, 300, 700)) + draw.randrange(40) for _ in range(_PROMPTS * 3 // 4)]
        sizes += [1100 + draw.randrange(1500) for _ in range(_PROMPTS // 4)]
        self._prompts = [prose.text(1000 + i, size) for i, size in enumerate(sizes)]

    def asks(self, count: int) -> list[Ask]:
        return [self._ask(number) for number in range(count)]

    def _ask(self, number: int) -> Ask:
        share = self._draw.random()
        if share < 0.09:
            return self._leaving(number)
        if share < 0.10:
            body = self._chat() | {"n": 1}
            return Ask(
                number=number, path="/chat/completions", ends="leaves", body=body, fault="stall=0", leaves_after=-1
            )
        if share < 0.15:
            return self._cut(number)
        if share < 0.17:
            path, body = self._text(stream=self._draw.random() < 0.3)
            fault = self._draw.choice(("status=429", "status=500"))
            return Ask(number=number, path=path, ends="refused", body=body, fault=fault)
        if share < 0.34:
            path, body = self._text(stream=True)
            return Ask(number=number, path=path, ends="whole", body=body, fault=self._harmless())
        return self._plain(number)

    def _leaving(self, number: int) -> Ask:
        """Half of them stand still when the client goes, so that it has got all that was sent; half go on."""
        path, body = self._text(stream=True, tools=False)
        after = self._draw.randrange(3, 200)
        fault = f"chunks={after + 50}, " + (f"stall={after}" if number % 2 else "pace=1ms")
        return Ask(number=number, path=path, ends="leaves", body=_endless(body), fault=fault, leaves_after=after)

    def _cut(self, number: int) -> Ask:
        kind, how = self._draw.randrange(10), self._draw.choice(("cut", "reset"))
        path, body = self._text(stream=kind < 8, tools=False)
        if kind == 9:
            fault = "cut_head"
        else:
            size = 40 + self._draw.randrange(300) if kind == 8 else 1000 + self._draw.randrange(30_000)
            fault = f"chunks=300, {how}={size}"
        return Ask(number=number, path=path, ends="cut", body=_endless(body), fault=fault)

    def _harmless(self) -> str:
        return self._draw.choice(("", "", "", "gzip", "chunks=7", "drip=777:0"))

    def _text(self, *, stream: bool, tools: bool = True) -> tuple[str, Json]:
        draw = self._draw
        path, body = draw.choices(
            (
                ("/chat/completions", self._chat()),
                ("/responses", self._response(tools=tools)),
                ("/completions", self._legacy()),
            ),
            (5, 3, 1),
        )[0]
        if stream:
            body["stream"] = True
            if path != "/responses" and draw.random() < 0.3:
                body["stream_options"] = {"include_usage": draw.random() < 0.7}
        return path, body

    def _chat(self) -> Json:
        draw = self._draw
        messages = [{"role": "user", "content": draw.choice(self._prompts)}]
        if draw.random() < 0.4:
            messages.insert(0, {"role": "system", "content": self._prompts[draw.randrange(8)]})
        body: Json = {"model": draw.choice(CHATS), "messages": messages}
        if (tier := draw.choice(TIERS)) is not None:
            body["service_tier"] = tier
        if draw.random() < 0.1:
            body["n"] = 2
        return body

    def _response(self, *, tools: bool) -> Json:
        draw = self._draw
        body: Json = {"model": draw.choice(RESPONDERS), "input": draw.choice(self._prompts), "store": False}
        if (tier := draw.choice(TIERS)) is not None:
            body["service_tier"] = tier
        known = (
            {"type": "web_search"},
            {"type": "file_search", "vector_store_ids": ["vs_none"]},
            {"type": "code_interpreter", "container": {"type": "auto"}},
            {"type": "image_generation", "model": "gpt-image-1.5"},
        )
        if tools and draw.random() < 0.5:
            body["tools"] = draw.sample(known, draw.randrange(1, 5))
        return body

    def _legacy(self) -> Json:
        return {
            "model": self._draw.choice(INSTRUCTED),
            "prompt": self._draw.choice(self._prompts),
            "max_tokens": self._draw.randrange(20, 200),
        }

    def _plain(self, number: int) -> Ask:
        draw = self._draw
        kind = draw.choices(
            ("text", "embeddings", "images", "speech", "transcription", "translation", "moderations"),
            (60, 20, 6, 8, 8, 2, 10),
        )[0]
        if kind in {"transcription", "translation"}:
            return self._heard(number, kind)
        path = ""
        body: Json = {}
        if kind == "text":
            path, body = self._text(stream=False)
        elif kind == "embeddings":
            path = "/embeddings"
            texts = draw.choices(self._prompts, k=draw.randrange(1, 4))
            body = {
                "model": draw.choice(EMBEDDERS),
                "input": texts if draw.random() < 0.5 else texts[0],
                "dimensions": 8,
            }
        elif kind == "images":
            path, body = "/images/generations", self._picture()
        elif kind == "speech":
            path = "/audio/speech"
            model = draw.choice(("gpt-4o-mini-tts", "tts-1", "tts-1-hd"))
            body = {
                "model": model,
                "voice": "alloy",
                "input": draw.choice(self._prompts)[:4000],
                "response_format": "opus",
            }
            if model == "gpt-4o-mini-tts" and draw.random() < 0.5:
                body["stream_format"] = "sse"
        else:
            path, body = "/moderations", {"input": draw.choice(self._prompts)}
        return Ask(number=number, path=path, ends="whole", body=body)

    def _picture(self) -> Json:
        draw = self._draw
        prompt = draw.choice(self._prompts)[:800]
        match draw.randrange(4):
            case 0:
                return {"model": "dall-e-2", "prompt": prompt, "size": draw.choice(("256x256", "512x512")), "n": 2}
            case 1:
                quality = draw.choice(("standard", "hd"))
                return {"model": "dall-e-3", "prompt": prompt, "size": "1024x1792", "quality": quality}
            case 2:
                return {"model": "gpt-image-1", "prompt": prompt, "quality": "low", "n": draw.randrange(1, 3)}
        return {"model": "gpt-image-1-mini", "prompt": prompt, "size": "1024x1536", "stream": True, "partial_images": 1}

    def _heard(self, number: int, kind: str) -> Ask:
        draw = self._draw
        fields = {"model": "whisper-1", "response_format": draw.choice(("json", "verbose_json", "text", "srt", "vtt"))}
        if kind == "transcription" and draw.random() < 0.5:
            fields = {"model": "gpt-4o-transcribe", "response_format": draw.choice(("json", "text"))}
            if fields["response_format"] == "json" and draw.random() < 0.5:
                fields["stream"] = "true"
        sound = media.wav(draw.randrange(2, 30) + 0.25)
        return Ask(number=number, path=f"/audio/{kind}s", ends="whole", fields=fields, file=sound)


def _endless(body: Json) -> Json:
    """Without what would end it early; legacy completions have 16 tokens if they do not ask for more."""
    body = {name: value for name, value in body.items() if name not in {"max_tokens", "n"}}
    return body | {"max_tokens": 1000} if "prompt" in body else body


class Callers:
    """Makes calls through a gateway, several at a time."""

    def __init__(self, url: str, key: str, session: aiohttp.ClientSession) -> None:
        """url: with /v1."""
        self._url = url
        self._key = key
        self._session = session
        self.outcomes: dict[str, Outcome] = {}

    async def run(self, asks: Sequence[Ask], at_once: int) -> None:
        waiting = iter(asks)

        async def work() -> None:
            for ask in waiting:
                self.outcomes[ask.name] = outcome = Outcome(began=time.monotonic())
                try:
                    await self._call(ask, outcome)
                except (aiohttp.ClientError, ConnectionError):
                    outcome.broken = True
                except TimeoutError:
                    raise AssertionError(f"a hang: {ask}") from None
                finally:
                    outcome.ended = time.monotonic()

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())

    async def _call(self, ask: Ask, outcome: Outcome) -> None:
        headers = {"Authorization": f"Bearer {self._key}", "X-Client-Request-Id": ask.name}
        if ask.fault:
            headers["X-Simulator-Fault"] = ask.fault
        data: Any = json.dumps(ask.body) if ask.body is not None else _form(ask)
        if ask.body is not None:
            headers["Content-Type"] = "application/json"
        async with self._session.post(self._url + ask.path, data=data, headers=headers) as response:
            outcome.status = response.status
            if ask.leaves_after < 0:
                response.close()
                return
            body, seen = bytearray(), 0
            try:
                async for piece in response.content.iter_any():
                    body += piece
                    if ask.leaves_after:
                        seen = body.count(EVENT_END)
                        if seen >= ask.leaves_after:
                            response.close()
                            break
            finally:
                if ask.stream and response.status == 200:
                    outcome.written = tokens.count("".join(texts_of(bytes(body))))


def _form(ask: Ask) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in ask.fields.items():
        form.add_field(name, value)
    form.add_field("file", ask.file, filename="sound.wav", content_type="audio/wav")
    return form


_TEXT_OF: tuple[Callable[[Json], Any], ...] = (
    lambda event: event["choices"][0]["delta"]["content"],
    lambda event: event["choices"][0]["text"],
    lambda event: event["delta"] if event["type"] == "response.output_text.delta" else None,
)


def texts_of(stream: bytes) -> list[str]:
    """The pieces of text in a stream of the simulator's, as far as it came."""
    found = []
    for event in stream.split(EVENT_END)[:-1]:
        data = event[event.find(b"data: ") + 6 :]
        if not data.startswith(b"{"):
            continue
        value = json.loads(data)
        for text_of in _TEXT_OF:
            try:
                text = text_of(value)
            except (KeyError, IndexError, TypeError):
                continue
            if isinstance(text, str):
                found.append(text)
                break
    return found
