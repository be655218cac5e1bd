"""Reading a request's body: whole, for JSON, within the worker's budget; or chunk by chunk, for everything else."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.errors import BAD_REQUEST, BODY_TOO_LARGE, INVALID_FORM, GatewayError
from gateway.proxy.body.budget import Budget, Share
from gateway.proxy.body.encoding import decoded
from gateway.proxy.body.form import ModelSearch
from gateway.usage.codings import STEP

_FIRST = 64 * 1024
_HOLD_STEP = 1024 * 1024
_IN_PLACE = STEP  # so much is decoded at once; what is longer is decoded in a thread


class Payload(Protocol):
    """See `http.payload.Payload`."""

    total_bytes: int  # that have come so far
    ended: bool  # all of it has come

    async def readany(self) -> bytes: ...
    def read_nowait(self) -> bytes: ...


async def read_whole(
    payload: Payload, length: int | None, limit: int, budget: Budget, waiting: Callable[[], None]
) -> tuple[bytearray, Share]:
    """Reads a body to its end; returns it and its share of the budget.

    length: as declared, or None. waiting: called before each wait for the client. Raises GatewayError BODY_TOO_LARGE
    beyond `limit` bytes, OVERLOADED if the budget has no room in time.
    """
    if length is not None and length > limit:
        raise GatewayError(BODY_TOO_LARGE, limit=limit)
    share = await budget.take(length if length is not None else _FIRST)
    try:
        if length is not None:
            return await _read_known(payload, length, waiting), share
        return await _read_unknown(payload, limit, share, waiting), share
    except BaseException:
        share.release()
        raise


async def _read_known(payload: Payload, length: int, waiting: Callable[[], None]) -> bytearray:
    body = bytearray(length)  # written in place: joining chunks would need the body's size twice
    filled = 0
    while filled < length:
        waiting()
        chunk = await payload.readany()
        if not chunk:
            raise GatewayError(BAD_REQUEST, reason="its body ended too early")
        body[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return body


async def _read_unknown(payload: Payload, limit: int, share: Share, waiting: Callable[[], None]) -> bytearray:
    body = bytearray()
    while True:
        waiting()
        chunk = await payload.readany()
        if not chunk:
            share.shrink(len(body))
            return body
        if len(body) + len(chunk) > limit:
            raise GatewayError(BODY_TOO_LARGE, limit=limit)
        if len(body) + len(chunk) > share.size:
            share.grow(max(share.size, len(chunk)))
        body += chunk


async def decode_whole(
    body: bytes | bytearray, share: Share, undo: list[str], limit: int, budget: Budget
) -> tuple[bytes | bytearray, Share]:
    """The body without these codings, and the share that it then has; the one given is released.

    Raises GatewayError BODY_TOO_LARGE, OVERLOADED, and as `decoded`.
    """
    try:
        for coding in undo:
            body, undone = await _decode(body, coding, limit, budget)
            share.release()
            share = undone
    except BaseException:
        share.release()
        raise
    return body, share


async def _decode(body: bytes | bytearray, coding: str, limit: int, budget: Budget) -> tuple[bytearray, Share]:
    whole = bytearray()
    share = Share(budget, 0)
    pieces = decoded(body, coding)
    try:
        piece = next(pieces, b"")
        while piece:
            if len(whole) + len(piece) > limit:
                raise GatewayError(BODY_TOO_LARGE, limit=limit)
            share.grow(len(piece))
            whole += piece
            piece = await asyncio.to_thread(next, pieces, b"") if len(whole) >= _IN_PLACE else next(pieces, b"")
    except BaseException:
        share.release()
        raise
    return whole, share


async def find_model(
    payload: Payload, search: ModelSearch, hold: int, budget: Budget, waiting: Callable[[], None]
) -> tuple[bytearray, Share]:
    """Reads a multipart body until its model is known or it ends; returns what was read, and its share of the budget.

    Raises GatewayError INVALID_FORM if the model is not among the first `hold` bytes and may still come.
    """
    held = bytearray()
    share = await budget.take(_FIRST)
    try:
        while not search.found:
            if len(held) >= hold:
                reason = f"its field 'model' does not stand in its first {hold} bytes; put it before the file"
                raise GatewayError(INVALID_FORM, reason=reason)
            waiting()
            chunk = await payload.readany()
            if not chunk:
                search.ended()
                break
            if len(held) + len(chunk) > share.size:
                share.grow(max(_HOLD_STEP, len(chunk)))
            held += chunk
            search.feed(chunk)
    except BaseException:
        share.release()
        raise
    share.shrink(len(held))
    return held, share


async def stream(
    payload: Payload,
    write: Callable[[bytes], Awaitable[None]],
    limit: int,
    waiting: Callable[[], None],
    search: ModelSearch | None = None,
) -> int:
    """Passes a body on as it comes, waiting where `write` waits. Returns its size. Raises BODY_TOO_LARGE."""
    size = 0
    while True:
        waiting()
        chunk = await payload.readany()
        if not chunk:
            return size
        size += len(chunk)
        if size > limit:
            raise GatewayError(BODY_TOO_LARGE, limit=limit)
        if search is not None:
            search.feed(chunk)
        await write(chunk)
