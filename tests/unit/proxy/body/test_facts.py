"""What is kept of a form that streams by: the same however it is cut, and never much."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.proxy.body.facts import FILE_END
from gateway.proxy.body.form import ModelSearch
from gateway.values import FormFacts
from tests.unit.proxy.body.test_form import END, KIND, MODEL, part

KIB = 1024


def fed(body: bytes, sizes: Sequence[int], *, file: bool = True) -> FormFacts:
    search, at = ModelSearch(KIND, file=file), 0
    for size in sizes:
        search.feed(body[at : at + size])
        at += size
    search.feed(body[at:])
    return search.facts()


def field(name: str, value: bytes, *headers: bytes) -> bytes:
    return part(f'form-data; name="{name}"', value, *headers)


def file(value: bytes, filename: str = "a.wav") -> bytes:
    return part(f'form-data; name="file"; filename="{filename}"', value, b"Content-Type: audio/wav")


@given(st.lists(st.integers(1, 50), max_size=40), st.binary(max_size=500))
def test_in_any_chunking(sizes: list[int], sound: bytes) -> None:
    body = (
        field("n", b"2") + MODEL + field("prompt", "zwölf".encode()) + file(b"\r\n--x-bound" + sound) + field("size", b"auto") + END
    )  # fmt: skip
    whole = b"\r\n--x-bound" + sound
    assert fed(body, sizes) == FormFacts({"n": "2", "size": "auto"}, 6, 1, "a.wav", len(whole), whole, whole)
    assert fed(body, sizes, file=False) == FormFacts({"n": "2", "size": "auto"}, 6, 1, "a.wav")


@given(
    st.integers(0, 500 * KIB),
    st.lists(st.sampled_from([1, 7, 500, 4 * KIB, 30 * KIB, 64 * KIB, 200 * KIB]), max_size=60),
    st.sampled_from([1, 300]),
)
@settings(max_examples=60, deadline=None)
def test_both_ends_of_a_file(size: int, sizes: list[int], times: int) -> None:
    sound = (b"%07d\n" * (size // 8 + 1) % tuple(range(size // 8 + 1)))[:size]
    facts = fed(MODEL + file(sound) + file(b"another"), sizes * times)
    assert (facts.file_size, facts.files) == (size, 2)
    assert facts.file_head == sound[:FILE_END]
    assert facts.file_tail == sound[-FILE_END:]


def test_a_byte_at_a_time() -> None:
    sound = bytes(n * n % 251 for n in range(150 * KIB))
    facts = fed(MODEL + file(sound) + END, [1] * 151 * KIB)
    assert (facts.file_size, facts.file_head, facts.file_tail) == (150 * KIB, sound[:FILE_END], sound[-FILE_END:])


def test_a_large_file_takes_little_memory() -> None:
    search = ModelSearch(KIND, file=True)
    search.feed(MODEL + file(b"")[:-2])
    for _ in range(1000):
        search.feed(bytes(70 * KIB))
    ends = search._keeper._ends
    assert ends is not None
    assert sum(len(data) for data, _, _ in ends._pieces) < 300 * KIB
    assert search.facts().file_size > 69_000 * KIB


def test_before_the_file_has_ended() -> None:
    search = ModelSearch(KIND, file=True)
    search.feed(MODEL + file(b"x" * 5000)[:-1000])
    assert 3900 <= search.facts().file_size <= 4100


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (field("n", b"1") + field("n", b"2"), {"n": "1"}),
        (field("n", b"x" * 1024), {"n": "x" * 1024}),
        (field("n", b"x" * 1025), {}),
        (field("n", b"x" * 1025) + field("n", b"1"), {"n": "1"}),
        (field("n", b"\xff"), {}),
        (field("n", b"MQ==", b"Content-Transfer-Encoding: base64"), {}),
        (field("n", b""), {"n": ""}),
        (field("other", b"1") + field("stream", b"true"), {"stream": "true"}),
        (part('form-data; name="n"; filename="n"', b"1"), {}),
    ],
)
def test_fields(body: bytes, fields: dict[str, str]) -> None:
    assert fed(body + MODEL + END, []).fields == fields


@pytest.mark.parametrize(
    ("written", "name"),
    [('"a b.wav"', "a b.wav"), (r'"say \"a\".mp3"', 'say "a".mp3'), ("plain.mp3", "plain.mp3"), ('"\xff.wav"', "\ufffd.wav"),
     ('"' + "x" * 3000 + '"', "x" * 1024), ('""', "")],
)  # fmt: skip
def test_file_names(written: str, name: str) -> None:
    facts = fed(part(f"form-data; name=file; filename={written}", b"x") + MODEL + END, [])
    assert (facts.filename, facts.file_size) == (name, 1)


@given(
    st.integers(0, 400 * KIB),
    st.lists(st.sampled_from([1, 7, 500, 4 * KIB, 30 * KIB, 64 * KIB, 200 * KIB]), max_size=60),
    st.sampled_from([1, 300]),
)
@settings(max_examples=60, deadline=None)
def test_a_movies_header_between_the_ends(length: int, sizes: list[int], times: int) -> None:
    data = b"\0\0\0\x10ftypM4A \0\0\0\0" + (length + 8).to_bytes(4) + b"mdat" + bytes(length)
    place = len(data)
    data += b"\0\x02\x00\x00moov" + bytes(n % 251 for n in range(0x20000 - 8))
    facts = fed(MODEL + file(data) + END, sizes * times)
    assert (facts.file_head, facts.file_tail, facts.file_size) == (data[:FILE_END], data[-FILE_END:], len(data))
    if place >= FILE_END - 8:
        assert (facts.file_middle_at, facts.file_middle) == (place, data[place : place + 1024])
    else:
        assert (facts.file_middle_at, facts.file_middle) == (0, b"")
