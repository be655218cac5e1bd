"""Undoing compression: what comes out is what went in, in steps, and nothing else is let through."""

import contextlib
import gzip
import sys
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import INVALID_ENCODING, UNSUPPORTED_ENCODING, GatewayError
from gateway.proxy.body.encoding import codings, decoded
from gateway.usage.codings import STEP

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def pack(data: bytes, way: str) -> bytes:
    ways: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "raw": raw,
        "zstd": zstd.compress,
    }
    return ways[way](data)


WAYS = ["gzip", "deflate", "raw", "zstd"]


def unpack(data: bytes, way: str) -> bytes:
    return b"".join(decoded(data, way.replace("raw", "deflate")))


@given(st.binary(max_size=2000), st.integers(1, 400), st.sampled_from(WAYS))
@settings(max_examples=100, deadline=None)
def test_round_trip(piece: bytes, times: int, way: str) -> None:
    assert unpack(pack(piece * times, way), way) == piece * times


@pytest.mark.parametrize("way", WAYS)
def test_steps_are_bounded(way: str) -> None:
    data = bytes(5 * 1024 * 1024)
    pieces = list(decoded(pack(data, way), way.replace("raw", "deflate")))
    assert max(map(len, pieces)) <= STEP
    assert b"".join(pieces) == data


@pytest.mark.parametrize("way", WAYS)
def test_long_input_that_hardly_shrinks(way: str) -> None:
    data = bytes(range(256)) * 40_000
    noise = zlib.compress(data) * 300
    assert unpack(pack(noise, way), way) == noise


@pytest.mark.parametrize("way", WAYS)
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_cut_and_every_addition_is_noticed(way: str, data: st.DataObject) -> None:
    packed = pack(b"hello " * 50, way)
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(GatewayError) as caught:
        unpack(packed[:cut], way)
    assert caught.value.kind is INVALID_ENCODING
    with pytest.raises(GatewayError):
        unpack(packed + data.draw(st.binary(min_size=1, max_size=70_000)), way)


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "zstd"]))
def test_junk_is_refused_or_decoded(data: bytes, way: str) -> None:
    with contextlib.suppress(GatewayError):
        b"".join(decoded(data, way))


@pytest.mark.parametrize(
    ("header", "undo"),
    [
        ("gzip", ["gzip"]), ("GZIP", ["gzip"]), (" gzip , zstd ", ["zstd", "gzip"]), ("identity", []), ("", []),
        ("identity, deflate, ", ["deflate"]),
    ],
)  # fmt: skip
def test_codings(header: str, undo: list[str]) -> None:
    assert codings(header) == undo


@pytest.mark.parametrize("header", ["br", "gzip, br", "compress", "x" * 1000, "gzip,gzip,gzip", "gzip;q=1"])
def test_codings_that_we_do_not_undo(header: str) -> None:
    with pytest.raises(GatewayError) as caught:
        codings(header)
    assert caught.value.kind is UNSUPPORTED_ENCODING
    assert len(caught.value.message) < 200
