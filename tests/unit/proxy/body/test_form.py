"""Looking for the model in multipart bodies."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.proxy.body.form import ModelSearch, boundary_of, field_name

BOUNDARY = "x-boundary"
KIND = f"multipart/form-data; boundary={BOUNDARY}"


def part(disposition: str, value: bytes, *headers: bytes) -> bytes:
    lines = [b"--" + BOUNDARY.encode(), b"Content-Disposition: " + disposition.encode("latin-1"), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + value + b"\r\n"


END = b"--" + BOUNDARY.encode() + b"--\r\n"
MODEL = part('form-data; name="model"', b"whisper-1")
FILE = part(
    'form-data; name="file"; filename="a\\"b;name=model.wav"', b"RIFF\r\n--x-bound\r\n\x00", b"Content-Type: audio/wav"
)


def look(body: bytes, sizes: list[int] | None = None, kind: str = KIND) -> ModelSearch:
    search = ModelSearch(kind)
    at = 0
    for size in sizes or []:
        search.feed(body[at : at + size])
        at += size
    search.feed(body[at:])
    if not search.found:
        search.ended()
    return search


@pytest.mark.parametrize("body", [MODEL + FILE + END, FILE + MODEL + END, MODEL + END, b"\r\n" + FILE + MODEL + END])
@given(st.lists(st.integers(1, 40), max_size=30))
def test_found_in_any_chunking(body: bytes, sizes: list[int]) -> None:
    search = look(body, sizes)
    assert search.model == "whisper-1"
    assert body[slice(*search.span)] == b"whisper-1"


def test_missing() -> None:
    assert look(FILE + END).model is None
    assert look(END).model is None


@pytest.mark.parametrize(
    "body",
    [
        MODEL + FILE + MODEL + END, MODEL + MODEL + END,
        part("form-data; name=model", b"a") + part('FORM-DATA; Name="model"', b"b") + END,
    ],
)  # fmt: skip
@given(st.lists(st.integers(1, 60), max_size=10))
def test_twice_is_refused(body: bytes, sizes: list[int]) -> None:
    with pytest.raises(GatewayError) as caught:
        look(body, sizes)
    assert (caught.value.kind.name, caught.value.param) == ("duplicate_member", "model")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"no form", FILE, b"--" + BOUNDARY.encode(), MODEL.replace(b"\r\n", b"\n") + END.replace(b"\r\n", b"\n"),
        part('form-data; name="model"', b""), part('form-data; name="model"', b"m" * 2000), part('form-data; name="model"', b"\xff"),
        part('form-data; name="model"', b"Z3B0", b"Content-Transfer-Encoding: base64"),
        part('form-data; name="a"', b"x", b'Content-Disposition: form-data; name="model"'),
        part("form-data", b"x"), part('attachment; name="model"', b"x"), part('form-data; name="model', b"x"),
        part('form-data; name="a"; name="model"', b"x"), part("form-data; name*=utf-8''model", b"x"),
        part("form-data; name*0=mod; name*1=el", b"x"), part('form-data; name="mod\\el"', b"x"), part('form-data; name="model"x', b"x"),
        b"--" + BOUNDARY.encode() + b"\r\n\r\nx\r\n" + END,
        b"".join(part(f'form-data; name="f{n}"', b"") for n in range(1100)) + MODEL + END,
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        look(body)
    assert caught.value.kind.status == 400


@pytest.mark.parametrize(
    "kind",
    ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=x",
     "multipart/form-data; boundary=" + "x" * 71, "application/x-www-form-urlencoded",
     "multipart/form-data; boundary=x-boundary; boundary=b", "multipart/form-data; boundary=b; Boundary=x-boundary",
     "multipart/form-data; boundary=x-boundary; boundary*=utf-8''b", "multipart/form-data; boundary*0=x-; boundary*1=boundary",
     "multipart/form-data; boundary=x-boundary, multipart/form-data; boundary=b", "multipart/form-data; boundary=x-boundary, text/plain",
     "multipart/form-data; boundary=x-boundary,b", 'multipart/form-data; boundary="x-boundary', 'multipart/form-data; boundary="x\\-boundary"',
     "multipart/form-data; boundary=x-boundary b", "multipart/form-data; boundary=\udce9\udcff", "multipart/form-data; boundary=ж",
     'multipart/form-data; boundary=""', "multipart/form-dataX; boundary=x-boundary", "multipart/form-data boundary=x-boundary"],
)  # fmt: skip
def test_content_types_that_are_no_form(kind: str) -> None:
    with pytest.raises(GatewayError):
        ModelSearch(kind)


@pytest.mark.parametrize(
    "kind",
    ["Multipart/Form-Data; Boundary=x-boundary", 'multipart/form-data; charset=utf-8; boundary="x-boundary"',
     "multipart/form-data;boundary=x-boundary", ' multipart/form-data ; x="; boundary=b"; boundary = x-boundary ; '],
)  # fmt: skip
def test_content_types_that_are(kind: str) -> None:
    assert look(MODEL + END, kind=kind).model == "whisper-1"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (b'form-data; name="model"', b"model"), (b"form-data; name=model", b"model"), (b'Form-Data ;NAME = "model" ;', b"model"),
        (b'form-data; name="file"; filename="x\\"; name=\\"model.wav"', b"file"), (b'form-data; name="model[]"', b"model[]"),
        (b"form-data; name=\"file\"; filename=\"a.wav\"; filename*=UTF-8''%e2%82%ac.wav", b"file"), (b'form-data; name=""', b""),
        (b'form-data; name="timestamp_granularities[]"', b"timestamp_granularities[]"), (b'form-data; name="d\xc3\xa9"', b"d\xc3\xa9"),
    ],
)  # fmt: skip
def test_names(disposition: bytes, name: bytes) -> None:
    assert field_name(disposition) == name


@given(st.binary(max_size=60))
def test_any_disposition_has_one_name_or_none(junk: bytes) -> None:
    with contextlib.suppress(GatewayError):
        assert field_name(b"form-data; name=" + junk) in junk


@pytest.mark.parametrize(
    "boundary", ["----WebKitFormBoundary7MA4YWxkTrZu0gW", "===============4711==", "a'()+_./:=?b", "------------------------d74496d66958873e"]
)  # fmt: skip
def test_boundaries_as_clients_make_them(boundary: str) -> None:
    for text in (boundary, f'"{boundary}"'):
        assert boundary_of(f"multipart/form-data; boundary={text}") == boundary.encode()
    assert boundary_of('multipart/form-data; boundary="with, blanks; and more"') == b"with, blanks; and more"
