"""Recorded-like calls: what is asked, what an upstream answers byte by byte, and which event that makes.

They stand in tests/golden/calls, a folder for each operation: `cases.json`, and the answers' bodies as files beside it.
"""

import asyncio
import gzip
import random
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import brotli
import msgspec

from gateway.simulator import media
from gateway.values import UsageEvent
from tests.fakes.upstream import Exchange, Script, answer
from tests.fakes.wire import chunk
from tests.fakes.worker import request

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FOLDER = Path(__file__).parent.parent / "golden" / "calls"
PADDING = b"%PADDING%"
_SMALL = 6000  # bytes of a body that is also sent one by one
_BOUNDARY = b"golden"

Ends = Literal["whole", "left", "cut", "unanswered"]
ENCODERS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType({
    "gzip": partial(gzip.compress, mtime=0),  # or it would be another one each second
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
})  # fmt: skip


class Case(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """ask: a JSON body; or form: fields, with a sound of sound_s seconds as its file, or an image.

    body: the file with the answer. encoding: the content coding in which it is sent. padded: bytes that stand for
    PADDING in it. ends: `left` when the client goes, `cut` when the upstream breaks off, both after `at` bytes (half by
    default). client: the file with what the client gets, where that is another. The rest is of the event. lines: as in
    the event, without prices.
    """

    name: str
    path: str
    ask: dict[str, Any] = {}
    form: dict[str, str] | None = None
    sound_s: float = 0.0
    body: str = ""
    type: str = "application/json"
    status: int = 200
    encoding: str = ""
    padded: int = 0
    ends: Ends = "whole"
    at: int = 0
    client: str = ""
    operation: str = ""
    category: str | None = None
    events: int = 1
    pending: str = ""
    lines: list[dict[str, Any]] = []

    @property
    def folder(self) -> Path:
        return FOLDER / (self.operation or "unknown")

    @property
    def stream(self) -> bool:
        return self.type.startswith("text/event-stream")

    def request(self) -> bytes:
        if self.form is None:
            return request("POST", self.path, msgspec.json.encode(self.ask))
        kind = b"Content-Type: multipart/form-data; boundary=" + _BOUNDARY
        return request("POST", self.path, self._parts(self.form), kind)

    def _parts(self, fields: Mapping[str, str]) -> bytes:
        parts = [
            b'Content-Disposition: form-data; name="%b"\r\n\r\n%b' % (name.encode(), value.encode())
            for name, value in fields.items()
        ]
        name, data = (b"file", media.wav(self.sound_s)) if self.sound_s else (b"image", media.png(64, 64, 7))
        parts.append(b'Content-Disposition: form-data; name="%b"; filename="x"\r\n\r\n%b' % (name, data))
        mark = b"--" + _BOUNDARY
        return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"

    def sent(self) -> bytes:
        """The answer's body as it is sent, all of it."""
        if not self.body:
            return b""
        data = (self.folder / self.body).read_bytes().replace(PADDING, b"A" * self.padded)
        return ENCODERS[self.encoding](data) if self.encoding else data

    def got(self) -> bytes:
        """What the client must get."""
        if self.client:
            return (self.folder / self.client).read_bytes()
        return self.sent()[: self.size]

    @property
    def size(self) -> int:
        """How much of it is sent."""
        whole = len(self.sent())
        return whole if self.ends == "whole" else self.at or whole // 2

    def head(self) -> bytes:
        more = [(b"Content-Encoding", self.encoding.encode())] if self.encoding else []
        status = b"%d Whatever" % self.status
        whole = answer(b"", *more, status=status, chunks=[], kind=self.type.encode())
        return whole[: whole.index(b"\r\n\r\n") + 4]

    def script(self, pieces: list[int]) -> Script:
        """An upstream that answers so, in pieces of these sizes."""

        async def play(exchange: Exchange) -> None:
            await exchange.whole()
            if self.ends == "unanswered":
                exchange.wire.close()
                return
            exchange.send(self.head())
            left = memoryview(self.sent())[: self.size]
            for size in pieces:
                exchange.send(chunk(bytes(left[:size])))
                left = left[size:]
                await asyncio.sleep(0)  # whoever reads gets a chance
            if self.ends == "whole":
                exchange.send(b"0\r\n\r\n")
            elif self.ends == "cut":
                exchange.wire.close()
            else:
                await exchange.gone()

        return play

    def chunkings(self) -> Iterator[list[int]]:
        """Sizes of pieces: all at once, at random, one by one."""
        draw = random.Random(f"{self.operation} {self.name}")
        yield [self.size] if self.size else []
        for usual in ((1, 2, 3, 50), (7, 100, 1460), (3000, 20000, 65536)):
            if self.size // usual[-1] < 400:
                yield _sizes(self.size, partial(draw.choice, usual))
        if self.size <= _SMALL:
            yield [1] * self.size


def _sizes(total: int, draw: Callable[[], int]) -> list[int]:
    sizes = []
    while total > 0:
        sizes.append(min(total, draw()))
        total -= sizes[-1]
    return sizes


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """path, category: of all the operation's cases."""

    path: str
    cases: list[dict[str, Any]]
    category: str | None = None


def cases(operation: str) -> list[Case]:
    """The cases of an operation, `unknown` for paths that are none; empty if there are none."""
    file = FOLDER / operation / "cases.json"
    if not file.exists():
        return []
    said = msgspec.json.decode(file.read_bytes(), type=_File)
    common = {"path": "/v1" + said.path, "category": said.category, "operation": operation}
    return [msgspec.convert(common | case, Case) for case in said.cases]


def operations() -> list[str]:
    return sorted(file.parent.name for file in FOLDER.glob("*/cases.json"))


def shown(event: UsageEvent) -> list[dict[str, Any]]:
    """An event's lines as cases write them: without prices, and without what is the same in all."""
    left_out = {"nano_usd", "costs", "upstream"}
    return [
        {name: value for name, value in msgspec.to_builtins(line).items() if name not in left_out}
        for line in event.lines
    ]
