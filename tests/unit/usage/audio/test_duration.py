"""How long audio plays: real files of every format, large ones of which the middle is not known, and junk."""

import io
import json
import random
import struct
import time
import wave
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.usage.audio import MIDDLE, duration_ms, place_of_interest

FOLDER = Path(__file__).resolve().parents[3] / "golden" / "audio"
EXPECTED: dict[str, int] = json.loads((FOLDER / "expected.json").read_text())
END = 64 * 1024
FILES = [(FOLDER / name).read_bytes() for name in EXPECTED]


def known(data: bytes, end: int = END) -> int | None:
    return duration_ms(data[:end], data[-end:], len(data))


@pytest.mark.parametrize("name", EXPECTED)
def test_golden(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    assert known(data) == EXPECTED[name]
    seen = known(data, 2048)  # the middle is not known
    assert seen is not None
    assert abs(seen - EXPECTED[name]) <= 25


def test_every_golden_file_is_expected() -> None:
    assert {path.name for path in FOLDER.iterdir()} - {"expected.json", "README.md"} == set(EXPECTED)


def waves(seconds: float, rate: int = 8000, channels: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((channels, 2, rate, 0, "NONE", ""))
        writer.writeframes(bytes(int(seconds * rate) * 2 * channels))
    return file.getvalue()


@given(st.integers(0, 20_000), st.sampled_from([8000, 16_000, 44_100]), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_waves(milliseconds: int, rate: int, channels: int) -> None:
    expected = int(milliseconds / 1000 * rate) * 1000 // rate
    assert known(waves(milliseconds / 1000, rate, channels)) == expected


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_waves_whose_size_was_not_known(size: int) -> None:
    data = bytearray(waves(3))
    data[40:44] = struct.pack("<I", size)
    assert known(bytes(data)) == 3000


def test_waves_beyond_4_gib() -> None:
    head = b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<IQQQI", 28, 0, 6_000_000_000, 0, 0)
    head += b"fmt " + struct.pack("<IHHIIHH", 16, 1, 2, 48_000, 192_000, 4, 16) + b"data\xff\xff\xff\xff"
    assert duration_ms(head, b"", 6_000_000_000 + len(head)) == 31_250_000


def test_waves_cut_short() -> None:
    assert known(waves(3)[: 44 + 32_000]) == 1000


@pytest.mark.parametrize("name", ["cbr.mp3", "vbr.mp3", "flac.flac", "adts.aac"])
def test_a_picture_larger_than_the_head(name: str) -> None:
    audio, size = (FOLDER / name).read_bytes(), 100_000
    tag = b"ID3\x03\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)
    assert abs((known(tag + audio) or 0) - EXPECTED[name]) < 700  # without a table of contents, by the average
    hidden = known(tag + audio, 2048)
    assert hidden is None if name == "flac.flac" else abs((hidden or 0) - EXPECTED[name]) < 700


def test_a_part_of_a_longer_mp3() -> None:
    data = (FOLDER / "abr.mp3").read_bytes()
    found = known(data[: len(data) // 2])
    assert found is not None
    assert abs(found - EXPECTED["abr.mp3"] / 2) < 100


def test_frames_in_the_whole_of_a_long_mp3() -> None:
    frames = (FOLDER / "cbr.mp3").read_bytes()
    start = frames.index(b"\xff")
    found = known(frames + frames[start:] * 99)
    assert found is not None
    assert abs(found - 100 * EXPECTED["cbr.mp3"]) < 300


def test_a_movie_header_behind_much_data() -> None:
    data = (FOLDER / "end.m4a").read_bytes()
    start = data.index(b"mdat") - 4
    size = int.from_bytes(data[start : start + 4])
    added = 300_000
    longer = data[:start] + struct.pack(">I", size + added) + data[start + 4 : start + size] + bytes(added)
    assert known(longer + data[start + size :]) == 2500
    huge = data[:start] + struct.pack(">I4sQ", 1, b"mdat", size + 8 + (5 << 30))
    assert duration_ms(huge, data[start + size :], len(data) + 8 + (5 << 30)) == 2500


def block(at_ms: int, size: int) -> bytes:
    return b"\xa3" + struct.pack(">I", 0x10000000 | size + 4) + b"\x81" + struct.pack(">hB", at_ms, 0x80) + bytes(size)


def recorded(seconds: int, cluster_s: int) -> bytes:
    """As a browser's recorder writes it: no lengths, blocks of 60 ms."""
    data = bytearray(bytes.fromhex("1a45dfa380 18538067 01ffffffffffffff 1549a966 87 2ad7b1 83 0f4240"))
    for start in range(0, seconds * 1000, cluster_s * 1000):
        data += bytes.fromhex("1f43b675 01ffffffffffffff e784") + struct.pack(">I", start)
        for at in range(0, min(cluster_s, seconds - start // 1000) * 1000, 60):
            data += block(at, 950 + at // 60 % 20)
    return bytes(data)


def test_a_recording_without_a_duration() -> None:
    assert abs((known(recorded(100, 3)) or 0) - 100_000) <= 60
    assert abs((known(recorded(100, 30)) or 0) - 100_000) < 3000  # the tail has no whole cluster


def page(kind: int, position: int, stream: int, body: bytes) -> bytes:
    return b"OggS\0" + struct.pack("<BqIIIBB", kind, position, stream, 0, 0, 1, len(body)) + body


def test_the_last_page_of_the_audio_counts() -> None:
    opus, vorbis = b"OpusHead\x01\x01" + struct.pack("<HIHB", 312, 16_000, 0, 0), b"\x01vorbis\0\0\0\0\x01\x80\x3e\0\0"
    data = (
        page(2, 0, 7, b"\x80theora")
        + page(2, 0, 9, opus)
        + bytes(100)
        + page(0, 480_312, 9, b"x")
        + page(4, 1, 7, b"y")
    )
    assert known(data + page(0, -1, 9, b"z")) == 10_000
    assert known(page(2, 0, 1, vorbis) + page(4, 48_000, 1, b"x")) == 3000
    assert known(page(2, 0, 1, vorbis) + page(4, 48_000, 2, b"x")) is None
    assert known(page(2, 0, 1, b"\x80theora") + page(4, 48_000, 1, b"x")) is None


@pytest.mark.parametrize(
    "data", [b"", b"x", b"RIFF", b"hello world" * 100, b"\x89PNG\r\n\x1a\n" + bytes(1000), bytes(5000)]
)
def test_what_is_no_audio(data: bytes) -> None:
    assert known(data) is None
    assert duration_ms(data, data, 0) is None


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_mutations_never_raise(data: st.DataObject) -> None:
    changed = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(changed) - 8, 600)))
        changed[at : at + 8] = data.draw(
            st.one_of(st.just(b"\xff" * 8), st.just(bytes(8)), st.binary(min_size=1, max_size=9))
        )
    size = data.draw(st.sampled_from([len(changed), 10**6, 1 << 62]))
    found = duration_ms(bytes(changed[:1500]), bytes(changed[-1500:]), size)
    assert found is None or found >= 0


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 1 << 40))
@settings(max_examples=200)
def test_junk_never_raises(head: bytes, tail: bytes, size: int) -> None:
    for magic in (
        b"",
        b"RIFF\0\0\0\0WAVE",
        b"fLaC",
        b"OggS\0\2",
        b"\0\0\0\x08ftyp",
        b"\x1aE\xdf\xa3\x80",
        b"\xff\xfb",
        b"ID3",
    ):
        duration_ms(magic + head, tail, size, size // 2, tail)
        assert place_of_interest(magic + head) >= 0


@pytest.mark.parametrize(
    "unit",
    [
        b"\xff", b"\xff\xfb", b"\xff\xf1\x50\x40\x00\xff\xfc", b"\xec\x80", b"\x1f\x43\xb6\x75\xe7\x80", b"OggS", b"\0\0\0\x08free", b"junk\0\0\0\0",
        b"\0\0\0\x08moof", b"\0\0\0\x10moov\0\0\0\x08trak",
    ],
)  # fmt: skip
def test_a_long_search_ends_soon(unit: bytes) -> None:
    noise = unit * (END // len(unit))
    for magic in (b"", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x08ftyp", b"\x1aE\xdf\xa3\x80", b"OggS\0\2"):
        began = time.process_time()
        duration_ms(magic + noise, noise, 1 << 62)
        assert time.process_time() - began < 1  # tens of milliseconds, on a busy machine


def test_random_bytes() -> None:
    source = random.Random(3)
    for _ in range(20):
        noise = source.randbytes(END)
        duration_ms(noise, noise, 10 * END)


def with_middle(data: bytes) -> int | None:
    at = place_of_interest(data[:END])
    assert at >= END
    return duration_ms(data[:END], data[-END:], len(data), at, data[at : at + MIDDLE])


def test_a_movie_header_longer_than_the_tail() -> None:
    data = (FOLDER / "end.m4a").read_bytes()
    start, movie = data.index(b"mdat") - 4, data.index(b"moov") - 4
    longer = data[:start] + struct.pack(">I", movie - start + 200_000) + data[start + 4 : movie] + bytes(200_000)
    longer += (
        struct.pack(">I", len(data) - movie + 100_008)
        + data[movie + 4 :]
        + struct.pack(">I", 100_008)
        + b"free"
        + bytes(100_000)
    )
    assert known(longer) is None
    assert with_middle(longer) == 2500


@pytest.mark.parametrize("name", ["vbr.mp3", "flac.flac", "cbr.mp3"])
def test_a_large_picture_and_much_sound(name: str) -> None:
    size = 100_000
    tag = b"ID3\x03\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)
    audio = (FOLDER / name).read_bytes()
    if name == "vbr.mp3":
        audio = audio[10 + int.from_bytes(audio[8:10]) :]  # its own, short tag
    data = tag + audio * 40 if name == "cbr.mp3" else tag + audio + bytes(200_000)
    expected = EXPECTED[name] * 40 if name == "cbr.mp3" else EXPECTED[name]
    assert abs((with_middle(data) or 0) - expected) < 0.02 * expected


@pytest.mark.parametrize("name", EXPECTED)
def test_nothing_between_is_of_interest(name: str) -> None:
    assert place_of_interest((FOLDER / name).read_bytes()) == 0
