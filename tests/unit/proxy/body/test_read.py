"""Reading bodies: whole, decoded or until the model is found, and what that takes from the budget, also when it fails."""

import gzip
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import (
    BAD_REQUEST,
    BODY_TOO_LARGE,
    INVALID_ENCODING,
    INVALID_FORM,
    OVERLOADED,
    ErrorKind,
    GatewayError,
)
from gateway.proxy.body.budget import Budget
from gateway.proxy.body.form import ModelSearch
from gateway.proxy.body.read import decode_whole, find_model, read_whole, stream

gzipped = partial(gzip.compress, mtime=0)  # or the tests would be called differently each second

KIB = 1024
FORM = "multipart/form-data; boundary=b"
MODEL = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + b"x" * 3000 + b"\r\n"


class Coming:
    """A body that comes in these pieces. failure: raised instead of its end."""

    def __init__(self, *pieces: bytes, failure: Exception | None = None) -> None:
        self.pieces = list(pieces)
        self.failure = failure
        self.total_bytes = 0
        self.ended = False
        self.waits = 0

    def waiting(self) -> None:
        self.waits += 1

    async def readany(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if self.failure is not None:
            raise self.failure
        return b""

    def read_nowait(self) -> bytes:
        return self.pieces.pop(0)


def refused(kind: ErrorKind) -> Callable[[GatewayError], bool]:
    return lambda error: error.kind is kind


@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=8), st.booleans())
async def test_whole(pieces: list[bytes], declared: bool) -> None:
    budget, body = Budget(1000 * KIB, 1.0), b"".join(pieces)
    coming = Coming(*pieces)
    whole, share = await read_whole(coming, len(body) if declared else None, 64 * KIB, budget, coming.waiting)
    assert whole == body
    assert share.size == budget.used == len(body)
    assert coming.waits >= len(pieces)
    share.release()
    assert budget.used == 0


@pytest.mark.parametrize(
    ("coming", "length", "kind"),
    [
        (Coming(), 2000, BODY_TOO_LARGE), (Coming(b"x" * 600, b"x" * 600), None, BODY_TOO_LARGE), (Coming(b"x"), 2, BAD_REQUEST),
        (Coming(b"x", failure=GatewayError(BAD_REQUEST, reason="x")), 2, BAD_REQUEST), (Coming(b"x", failure=GatewayError(OVERLOADED)), None, OVERLOADED),
    ],
)  # fmt: skip
async def test_whole_and_refused(coming: Coming, length: int | None, kind: ErrorKind) -> None:
    budget = Budget(1000 * KIB, 1.0)
    with pytest.raises(GatewayError, check=refused(kind)):
        await read_whole(coming, length, 1000, budget, coming.waiting)
    assert budget.used == 0


async def test_a_body_that_grows_beyond_the_budget_is_refused() -> None:
    budget = Budget(200 * KIB, 1.0)
    coming = Coming(*[b"x" * 64 * KIB] * 5)
    with pytest.raises(GatewayError, check=refused(OVERLOADED)):
        await read_whole(coming, None, 1000 * KIB, budget, coming.waiting)
    assert budget.used == 0


@pytest.mark.parametrize(
    ("undo", "body", "limit", "size", "kind"),
    [
        (["gzip"], gzipped(b"x" * 900 * KIB), 800 * KIB, 4000, BODY_TOO_LARGE), (["gzip"], gzipped(b"x" * 900 * KIB), 999 * KIB, 500, OVERLOADED),
        (["gzip"], gzipped(b"x" * 9000)[:-1], 999 * KIB, 4000, INVALID_ENCODING), (["gzip", "zstd"], gzipped(b"x"), KIB, 4000, INVALID_ENCODING),
        (["gzip", "gzip"], gzipped(gzipped(b"x" * 900 * KIB)), 800 * KIB, 4000, BODY_TOO_LARGE),
    ],
)  # fmt: skip
async def test_what_cannot_be_decoded_takes_nothing(
    undo: list[str], body: bytes, limit: int, size: int, kind: ErrorKind
) -> None:
    budget = Budget(size * KIB, 1.0)
    share = await budget.take(len(body))
    with pytest.raises(GatewayError, check=refused(kind)):
        await decode_whole(body, share, undo, limit, budget)
    assert budget.used == 0


async def test_decoded_bodies_take_what_they_are_now() -> None:
    budget = Budget(4000 * KIB, 1.0)
    body = gzipped(gzipped(b"x" * 900 * KIB))
    whole, share = await decode_whole(body, await budget.take(len(body)), ["gzip", "gzip"], 1000 * KIB, budget)
    assert whole == b"x" * 900 * KIB
    assert share.size == budget.used == 900 * KIB


@pytest.mark.parametrize("pieces", [[MODEL + FILE + b"--b--\r\n"], [FILE, MODEL, b"--b--\r\n"]])
async def test_until_the_model_is_found(pieces: list[bytes]) -> None:
    budget, search = Budget(1000 * KIB, 1.0), ModelSearch(FORM)
    coming = Coming(*pieces)
    held, share = await find_model(coming, search, 10 * KIB, budget, coming.waiting)
    assert search.model == "m"
    assert held[slice(*search.span)] == b"m"
    assert share.size == budget.used == len(held)
    passed = bytearray(held)

    async def write(data: bytes) -> None:
        passed.extend(data)

    await stream(coming, write, 100 * KIB, coming.waiting, search)
    assert passed == b"".join(pieces)


@pytest.mark.parametrize("pieces", [[FILE] * 5, [FILE], [b"junk"], [MODEL + MODEL]])
async def test_a_model_that_is_not_found(pieces: list[bytes]) -> None:
    budget, coming = Budget(1000 * KIB, 1.0), Coming(*pieces)
    with pytest.raises(GatewayError) as caught:
        await find_model(coming, ModelSearch(FORM), 10 * KIB, budget, coming.waiting)
    assert caught.value.kind.status == 400
    assert (caught.value.kind is INVALID_FORM) == (pieces != [MODEL + MODEL])
    assert budget.used == 0


async def test_a_stream_beyond_its_limit() -> None:
    passed: list[bytes] = []

    async def write(data: bytes) -> None:
        passed.append(data)

    coming = Coming(b"x" * 600, b"x" * 600)
    with pytest.raises(GatewayError, check=refused(BODY_TOO_LARGE)):
        await stream(coming, write, 1000, coming.waiting)
    assert passed == [b"x" * 600]  # nothing beyond the limit went up
