"""The request as an upstream gets it: another model's name where it stands in a target, and held bodies in pieces."""

from urllib.parse import parse_qsl, unquote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.proxy.body.form import ModelSearch
from gateway.proxy.body.head import HeadDecoder
from gateway.proxy.body.outgoing import IN_BODY, Place, Streamed, Whole, path_with_model, query_with_model
from tests.unit.proxy.body.test_read import FILE, FORM, MODEL, Coming

names = st.text(min_size=1, max_size=12).filter(lambda name: not any("\ud800" <= c <= "\udfff" for c in name))


class Socket:
    """Takes what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    async def drain(self) -> None:
        return


@given(
    st.lists(st.sampled_from(["a=1", "include%5B%5D=x", "flag", "", "model2=x", "xmodel=y", "b=a+b"]), max_size=4),
    names,
)
def test_another_name_in_a_query(others: list[str], name: str) -> None:
    target = "/realtime?" + "&".join([*others, "m%6fdel=old%20one", *others])
    changed = query_with_model(target, name)
    assert dict(parse_qsl(changed.partition("?")[2]))["model"] == name
    assert changed.split("&")[: len(others)] == target.split("&")[: len(others)]
    assert len(changed.split("&")) == len(target.split("&"))


@given(names)
def test_another_name_in_a_path(name: str) -> None:
    changed = path_with_model("/models/old%2Fone/x?y=%2F", Place("path", "/models/old/one/x", 2), name)
    assert unquote_plus(changed.split("?")[0].split("/")[2].replace("+", "%2B")) == name
    assert changed.endswith("?y=%2F")
    plain = path_with_model("/models/old?y", Place("path", "/models/old", 2), name)
    assert (unquote(plain.split("?")[0].split("/", 2)[2]), plain.count("/")) == (name, 2)


def test_a_whole_body_gets_each_upstreams_name_and_the_clients_back() -> None:
    """Also after another upstream's name: the first one could not be reached."""
    body = b'{"x":{"model":"m"},"model":"m"}'
    whole = Whole("/chat/completions", body)
    whole.place, whole.model = IN_BODY, "m"
    decoder = HeadDecoder()
    for name in ("one", "two", None, "three", None, None):
        assert whole.outgoing(name, decoder, ask=False).whole == body[:-4] + b'"%b"}' % (name or "m").encode()
    assert whole.length == len(body)
    whole.release()
    assert whole.length == 0


def test_a_target_gets_each_upstreams_name_and_the_clients_back() -> None:
    whole = Whole("/models/m", b"")
    whole.place, whole.model = Place("path", "/models/m", 2), "m"
    decoder = HeadDecoder()
    assert [whole.outgoing(name, decoder, ask=False).target for name in ("a/b", None, "c")] == [
        "/models/a%2Fb",
        "/models/m",
        "/models/c",
    ]


def form(length: int | None) -> tuple[Streamed, bytes]:
    search, held = ModelSearch(FORM), FILE * 200 + MODEL + FILE
    rest = FILE + b"--b--\r\n"
    search.feed(held)
    coming = Coming(rest)
    made = Streamed("/x", coming, length=length, limit=1 << 30, waiting=coming.waiting, held=held, search=search)
    return made, held + rest


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_form_with_another_name(chunked: bool) -> None:
    made, body = form(None if chunked else 606_000)
    made.outgoing("a longer name", HeadDecoder(), ask=False)
    assert made.length == (None if chunked else 606_000 + 12)
    socket = Socket()
    await made.feed(socket, chunked=chunked)
    expected = body.replace(b"\r\n\r\nm\r\n", b"\r\n\r\na longer name\r\n")
    sent = b"".join(socket.written)
    if chunked:
        assert sent.endswith(b"0\r\n\r\n")
        assert b"".join(socket.written[1:-1:3]) == expected
    else:
        assert sent == expected
    assert max(map(len, socket.written)) <= 256 * 1024
    assert made.size == len(body)  # as the client sent it
    assert made.fed


def test_a_form_whose_model_is_not_where_it_was_found_is_not_changed() -> None:
    made, _ = form(10)
    assert made._search is not None
    made._search.span = (0, 3)
    with pytest.raises(GatewayError):
        made.outgoing("other", HeadDecoder(), ask=False)
    assert made.outgoing(None, HeadDecoder(), ask=False).length == 10


async def test_a_form_tells_its_facts_once_it_went_by() -> None:
    made, _ = form(None)
    await made.feed(Socket(), chunked=False)
    assert (made.facts.files, made.facts.filename, made.facts.file_size) == (202, "f", 0)
    coming = Coming(b"x")
    assert Streamed("/x", coming, length=1, limit=9, waiting=coming.waiting).facts.files == 0
