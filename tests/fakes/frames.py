"""WebSockets in bytes: handshakes and frames (RFC 6455), for fakes of both sides."""

import base64
import hashlib
import os
import struct

import msgspec

from tests.fakes.upstream import Exchange, Script
from tests.fakes.wire import Wire
from tests.fakes.worker import KEY, Client, Gateway, Response

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONTINUATION = 0
NONCE = base64.b64encode(b"0123456789abcdef")


def accept_for(nonce: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(nonce + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


class Frame(msgspec.Struct, frozen=True):
    kind: int
    data: bytes
    fin: bool = True
    masked: bool = False

    @property
    def code(self) -> int:
        """Of a close frame; 0 for none."""
        assert self.kind == CLOSE
        return int.from_bytes(self.data[:2], "big")


def frame(kind: int, data: bytes = b"", *, fin: bool = True, mask: bool = False) -> bytes:
    size = len(data)
    head = bytes([kind | (0x80 if fin else 0)])
    bit = 0x80 if mask else 0
    if size < 126:
        head += bytes([size | bit])
    elif size < 65536:
        head += bytes([126 | bit]) + struct.pack("!H", size)
    else:
        head += bytes([127 | bit]) + struct.pack("!Q", size)
    if not mask:
        return head + data
    key = os.urandom(4)
    return head + key + masked(data, key)


def masked(data: bytes, key: bytes) -> bytes:
    size = len(data)
    whole = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


async def read_frame(wire: Wire) -> Frame:
    """The next frame. Raises EOFError."""
    first, second = await wire.exactly(2)
    size = second & 0x7F
    if size == 126:
        size = int.from_bytes(await wire.exactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await wire.exactly(8), "big")
    key = await wire.exactly(4) if second & 0x80 else b""
    data = await wire.exactly(size)
    assert not first & 0x70, "a reserved bit is set: nothing was negotiated that allows it"
    return Frame(first & 0x0F, masked(data, key) if key else data, bool(first & 0x80), bool(key))


def close_frame(code: int, reason: bytes = b"", *, mask: bool = False) -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason if code else b"", mask=mask)


def handshake(
    target: str, *headers: bytes, key: str | None = KEY, nonce: bytes = NONCE, version: bytes = b"13"
) -> bytes:
    lines = [b"GET " + target.encode() + b" HTTP/1.1", b"Host: h", b"Connection: Upgrade", b"Upgrade: websocket"]
    lines += [b"Sec-WebSocket-Version: " + version, b"Sec-WebSocket-Key: " + nonce]
    if key is not None:
        lines.append(b"Authorization: Bearer " + key.encode())
    return b"\r\n".join([*lines, *headers]) + b"\r\n\r\n"


def agreeing(exchange: Exchange, *headers: bytes) -> bytes:
    """The answer to a client's handshake."""
    nonce = exchange.header(b"sec-websocket-key")
    assert nonce is not None
    assert len(base64.b64decode(nonce)) == 16
    assert exchange.header(b"upgrade") == b"websocket"
    assert (exchange.header(b"connection") or b"").lower() == b"upgrade"
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    lines += [b"Sec-WebSocket-Accept: " + accept_for(nonce), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def switching(talk: Script, *headers: bytes) -> Script:
    """Accepts a WebSocket, then talks on its bare connection."""

    async def script(exchange: Exchange) -> None:
        exchange.send(agreeing(exchange, *headers))
        await talk(exchange)

    return script


async def echo(exchange: Exchange) -> None:
    """Gives back each message, ping and close frame."""
    while True:
        found = await read_frame(exchange.wire)
        assert found.masked
        exchange.send(frame(PONG if found.kind == PING else found.kind, found.data))
        if found.kind == CLOSE:
            exchange.wire.close()
            return


async def opened(gw: Gateway, target: str = "/v1/realtime?model=m", *headers: bytes, key: str | None = KEY) -> Client:
    """A client whose WebSocket stands."""
    client = await gw.connect()
    found = await handshaken(client, target, *headers, key=key)
    assert found.status == 101, found
    return client


async def handshaken(client: Client, target: str, *headers: bytes, key: str | None = KEY) -> Response:
    client.send(handshake(target, *headers, key=key))
    found = await client.head()
    if found.status == 101:
        assert found.values(b"sec-websocket-accept") == [accept_for(NONCE)]
        assert not found.values(b"sec-websocket-extensions")
    return found
