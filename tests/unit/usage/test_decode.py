"""Decoded copies of compressed answers: whole, however they are cut, and bounded."""

import gzip
import random
import sys
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.usage.decode import BodyDecoder, body_decoder

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1024 * 1024


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def pack(data: bytes, way: str) -> bytes:
    ways: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "x-gzip": gzip.compress,
        "deflate": zlib.compress,
        "raw": raw,
        "zstd": zstd.compress,
        "br": lambda data: brotli.compress(data, quality=4),
        "identity": bytes,
    }
    for name in way.split(", "):
        data = ways[name](data)
    return data


WAYS = ["gzip", "x-gzip", "deflate", "raw", "zstd", "br", "gzip, br", "zstd, gzip", "identity", "identity, raw"]


def decoder(way: str, largest: int = 8 * MIB) -> BodyDecoder:
    made = body_decoder(way.replace("raw", "deflate"), largest)
    assert made is not None
    return made


@given(
    st.binary(max_size=2000), st.integers(1, 300), st.sampled_from(WAYS), st.lists(st.integers(1, 3000), max_size=30)
)
@settings(max_examples=150, deadline=None)
def test_round_trip_in_any_chunking(piece: bytes, times: int, way: str, sizes: list[int]) -> None:
    packed, at, reader = pack(piece * times, way), 0, decoder(way)
    whole = b""
    for size in [*sizes, len(packed)]:
        whole += reader.feed(packed[at : at + size])
        at += size
    assert whole == piece * times
    assert not reader.broken
    assert not reader.overflow


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1400, 65_536])
def test_long_answers(way: str, size: int) -> None:
    data = b"".join(
        b'data: {"id":"chatcmpl-%d","delta":{"content":" word%d"}}\n\n' % (n, n * 7919) for n in range(60_000)
    )
    packed, reader = pack(data, way), decoder(way)
    assert b"".join(reader.feed(packed[at : at + size]) for at in range(0, len(packed), size)) == data
    assert not reader.broken


@pytest.mark.parametrize("way", ["gzip", "zstd"])
@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
def test_members_one_after_another(way: str, size: int) -> None:
    packed = b"".join(pack(b"%d," % n, way) for n in range(3000))
    reader = decoder(way)
    whole = b"".join(reader.feed(packed[at : at + size]) for at in range(0, len(packed), size))
    assert whole == b"".join(b"%d," % n for n in range(3000))
    assert not reader.broken


def test_an_event_is_readable_as_soon_as_it_was_flushed() -> None:
    packer, reader = zlib.compressobj(wbits=31), decoder("gzip")
    for n in range(50):
        event = b"data: %d\n\n" % n
        assert reader.feed(packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)) == event


@pytest.mark.parametrize("way", ["gzip", "deflate", "raw", "zstd", "br", "gzip, gzip", "gzip, deflate", "br, gzip"])
def test_bombs_end_the_reading(way: str) -> None:
    packed = pack(bytes(40 * MIB), way)
    reader, whole = decoder(way, MIB), 0
    for at in range(0, len(packed), 100_000):
        piece = reader.feed(packed[at : at + 100_000])
        assert len(piece) <= MIB
        whole += len(piece)
    assert reader.overflow
    assert whole <= MIB
    assert (reader.feed(packed), reader.broken) == (b"", False)


def test_slow_growth_is_no_bomb() -> None:
    packed, reader = gzip.compress(bytes(40 * MIB)), decoder("gzip", MIB)
    assert sum(len(reader.feed(packed[at : at + 500])) for at in range(0, len(packed), 500)) == 40 * MIB
    assert not reader.overflow


@pytest.mark.parametrize("way", ["gzip", "deflate", "zstd", "br", "gzip, br"])
def test_junk_is_noticed(way: str) -> None:
    reader = decoder(way)
    reader.feed(b"\xff{}" * 1000)
    assert reader.broken
    assert reader.feed(pack(b"x", way)) == b""


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_mutations_never_raise(data: st.DataObject) -> None:
    way = data.draw(st.sampled_from(WAYS))
    packed = bytearray(pack(random.Random(1).randbytes(300) * 20, way))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at : at + 3] = data.draw(st.binary(max_size=6))
    reader = decoder(way)
    for start in range(0, len(packed), 100):
        reader.feed(bytes(packed[start : start + 100]))


@pytest.mark.parametrize(("way", "behind"), [("gzip", bytes(600)), ("deflate", b"junk"), ("br", b"junk")])
@pytest.mark.parametrize("split", [True, False])
def test_behind_the_end(way: str, behind: bytes, split: bool) -> None:
    reader, packed = decoder(way), pack(b"hello", way)
    found = reader.feed(packed) + reader.feed(behind) if split else reader.feed(packed + behind)
    assert found == b"hello" or (way == "br" and reader.broken)


def test_a_window_larger_than_any_answer_needs_is_not_held() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    packer = zstd.ZstdCompressor(options=options)
    reader = decoder("zstd")
    reader.feed(packer.compress(b"x" * 1000) + packer.flush())
    assert reader.broken


@pytest.mark.parametrize("coding", ["compress", "gzip;q=1", "gzip, gzip, gzip", "aws-chunked", "dcb"])
def test_codings_that_are_not_known(coding: str) -> None:
    assert body_decoder(coding) is None


def test_without_a_coding() -> None:
    for coding in ("", "identity", " , "):
        assert decoder(coding).feed(b"x") == b"x"
