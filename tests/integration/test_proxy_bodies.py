"""JSON bodies: limits, encodings, ambiguities, other names for models, and the memory they share."""

import asyncio
import gzip
import sys
import zlib
from collections.abc import Callable
from functools import partial

import msgspec
import pytest

from tests.fakes.upstream import Exchange, answer, silent, upstream
from tests.fakes.wire import until
from tests.fakes.worker import OTHER_KEY, chunked_request, gateway, request

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

gzipped = partial(gzip.compress, mtime=0)  # or the tests would be called differently each second
MIB = 1024 * 1024
CHAT = "/v1/chat/completions"
ROUTES = [
    {"models": ["alias"], "upstreams": [{"upstream": "main", "upstream_model": "gpt-4o-2024"}]},
    {"models": ["*"], "upstreams": ["main"]},
]


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODERS: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    (b"gzip", gzipped),
    (b"x-gzip", gzipped),
    (b"deflate", zlib.compress),
    (b"deflate", raw_deflate),
    (b"zstd", zstd.compress),
    (b"ZSTD", lambda data: zstd.compress(data, 19)),
    (b"gzip, zstd", lambda data: zstd.compress(gzipped(data))),
    (b"identity, gzip", gzipped),
]


@pytest.mark.parametrize(("encoding", "encode"), ENCODERS)
async def test_compressed_bodies_go_up_plain(encoding: bytes, encode: Callable[[bytes], bytes]) -> None:
    body = msgspec.json.encode({"model": "m", "messages": ["héllo" * 200_000]})
    async with upstream() as up, gateway(up) as gw:
        for plain in (b'{"model":"m"}', body):
            for sent in (
                request("POST", CHAT, encode(plain), b"Content-Encoding: " + encoding),
                chunked_request(
                    CHAT, [encode(plain)], b"Content-Encoding: " + encoding, b"Content-Type: application/json"
                ),
            ):
                client = await gw.connect()
                client.send(sent)
                assert (await client.response()).status == 200
                assert up.last.body == plain
                assert up.last.header(b"content-encoding") is None
                assert up.last.header(b"content-length") == b"%d" % len(plain)
        assert gw.access[-1]["bytes_in"] == len(encode(body))
        assert gw.access[-1]["model"] == "m"


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        (b"gzip", b"not gzip at all", 400),
        (b"gzip", gzipped(b"{}" * 1000)[:-9], 400),
        (b"gzip", gzipped(b"{}") + b"more", 400),
        (b"gzip", gzipped(b"{}") + gzipped(b"{}"), 400),
        (b"deflate", zlib.compress(b"{}")[:-1], 400),
        (b"deflate", b"\xff\xff\xff", 400),
        (b"zstd", zstd.compress(b"{}" * 1000)[:-3], 400),
        (b"zstd", b"\x28\xb5\x2f\xfdjunk", 400),
        (b"zstd", zstd.compress(b"{}") + b"x", 400),
        (b"br", b"x", 415),
        (b"compress", b"x", 415),
        (b"gzip, gzip, gzip", gzipped(gzipped(gzipped(b"{}"))), 415),
        (b"gz\xe9p", b"x", 415),
    ],
)
async def test_bodies_that_cannot_be_decoded(encoding: bytes, body: bytes, status: int) -> None:
    async with upstream() as up, gateway(up) as gw:
        found = await gw.ask(CHAT, body, b"Content-Encoding: " + encoding)
        assert found.status == status
        assert found.error["code"] in {"invalid_content_encoding", "unsupported_content_encoding"}
        assert not up.requests


@pytest.mark.parametrize(("encoding", "encode"), ENCODERS[:6])
async def test_bombs(encoding: bytes, encode: Callable[[bytes], bytes]) -> None:
    bomb = encode(b" " * 64 * MIB)
    async with upstream() as up, gateway(up, bodies={"json_mib": 4}) as gw:
        found = await gw.ask(CHAT, bomb, b"Content-Encoding: " + encoding)
        assert (found.status, found.error["code"]) == (413, "request_too_large")
        assert (await gw.ask(CHAT, b"{}" + b" " * (4 * MIB - 2))).status == 200
        assert (
            await gw.ask(CHAT, encode(b"{}" + b" " * (4 * MIB - 2)), b"Content-Encoding: " + encoding)
        ).status == 200
        assert (
            await gw.ask(CHAT, encode(b"{}" + b" " * (4 * MIB - 1)), b"Content-Encoding: " + encoding)
        ).status == 413
        assert len(up.requests) == 2


async def test_the_limit_of_json_bodies() -> None:
    async with upstream() as up, gateway(up, bodies={"json_mib": 1}) as gw:
        for size, status in ((MIB, 200), (MIB + 1, 413)):
            body = b"{}" + b" " * (size - 2)
            assert (await gw.ask(CHAT, body)).status == status
            client = await gw.connect()
            client.send(chunked_request(CHAT, [body[:1000], body[1000:]]))
            found = await client.response()
            assert found.status == status
            if status == 413:
                assert found.error["message"] == f"Maximum content size limit ({MIB} bytes) exceeded."
        assert len(up.requests) == 2


async def test_the_limit_of_other_bodies() -> None:
    async with upstream() as up, gateway(up, bodies={"stream_mib": 1}) as gw:
        kind = b"Content-Type: application/octet-stream"
        assert (await gw.ask("/v1/files", b"x" * MIB, kind)).status == 200
        assert (await gw.ask("/v1/files", b"x" * (MIB + 1), kind)).status == 413
        client = await gw.connect()
        client.send(chunked_request("/v1/files", [b"x" * 65536] * 17, kind))
        assert (await client.response()).status == 413
        await up.emptied() if up.open > 1 else None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", None), (b"nope", None), (b"[]", None), (b"1", None), (b'{"a":1', None), (b'{"a":1}x', None), (b'"x"', None),
        (b'{"model":"\\ud800"}', None), (b"\xef\xbb\xbf{}", None), (b'{"model":1}', "invalid_type"),
        (b'{"model":["a"]}', "invalid_type"), (b'{"stream":"yes"}', "invalid_type"), (b'{"stream":1}', "invalid_type"),
        (b'{"model":"a","model":"b"}', "duplicate_member"), (b'{"model":"a","mod\\u0065l":"b"}', "duplicate_member"),
        (b'{"\\u006d\\u006f\\u0064\\u0065\\u006c":"a","model":"b"}', "duplicate_member"),
        (b'{"model":null,"model":"b"}', "duplicate_member"), (b'{"stream":true,"x":1,"stream":true}', "duplicate_member"),
        (b'{"max_tokens":1,"max_tokens":2}', "duplicate_member"), (b'{"n":1,"n":1}', "duplicate_member"),
        (b'{"stream_options":{},"stream_options":{}}', "duplicate_member"), (b'{"store":true,"st\\u006fre":true}', "duplicate_member"),
    ],
)  # fmt: skip
async def test_bodies_that_are_refused(body: bytes, code: str | None) -> None:
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        found = await client.ask(CHAT, body, b"Content-Type: application/json") if body else None
        if found is None:
            return
        assert (found.status, found.error["code"]) == (400, code)
        assert (await client.ask()).status == 200  # and the connection goes on
        assert len(up.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{"model":"x"},{"model":"y"}],"tools":[{"model":1}]}',
        b' \n{ "model" : "m" , "stream" : null , "n" : null }\t',
        b'{"x":"\xff\xfe not utf-8","model":"m"}', b'{"model":null}', b"{}", b'{"Model":"a","MODEL":"b"}',
        b'{"a":1e999,"b":-0.0,"c":123456789012345678901234567890,"a":2}', b'{"a":"\\ud800"}',
        b'{"a":' + b"[" * 500 + b"]" * 500 + b"}",
    ],
)  # fmt: skip
async def test_bodies_that_go_up_byte_for_byte(body: bytes) -> None:
    async with upstream() as up, gateway(up) as gw:
        assert (await gw.ask(CHAT, body)).status == 200
        assert up.last.body == body


async def test_deep_nesting_does_no_harm() -> None:
    async with upstream() as up, gateway(up) as gw:
        found = await gw.ask(CHAT, b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}")
        assert found.status in {200, 400}
        assert (await gw.ask()).status == 200


async def test_json_is_looked_for_whatever_the_content_type_says() -> None:
    two = b'{"model":"a","model":"b"}'
    async with upstream() as up, gateway(up) as gw:
        for kind in (
            b"text/plain",
            b"application/x-www-form-urlencoded",
            b"multipart/form-data; boundary=x",
            b"APPLICATION/JSON",
        ):
            assert (await gw.ask(CHAT, two, b"Content-Type: " + kind)).status == 400
        for kind in (b"text/plain", b"application/vnd.api+json", b"application/json"):
            assert (await gw.ask("/v1/images/edits", two, b"Content-Type: " + kind)).status == 400
        assert (await gw.ask("/v1/unknown", two)).status == 400
        assert not up.requests
        assert (await gw.ask("/v1/unknown", b"no json")).status == 200  # not ours to judge


NESTED = b'{"a":{"model":"alias"},"b":["\\"model\\":\\"alias\\"",{"model":"alias"}], "model" :\n"alias","c":{"model":"alias"}}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model":"alias"}', b'{"model":"gpt-4o-2024"}'),
        (b'{"x":"\xff", "model" : "alias","stream":false }', b'{"x":"\xff", "model" : "gpt-4o-2024","stream":false }'),
        (b'{"model":"\\u0061lias"}', b'{"model":"gpt-4o-2024"}'),
        (NESTED, NESTED.replace(b'\n"alias"', b'\n"gpt-4o-2024"')),
        (b'{"model":"other"}', b'{"model":"other"}'),
        (b'{"a":{"model":"alias"}}', b'{"a":{"model":"alias"}}'),
    ],
)
async def test_another_name_in_a_body(before: bytes, after: bytes) -> None:
    async with upstream() as up, gateway(up, routes=ROUTES) as gw:
        assert (await gw.ask(CHAT, before)).status == 200
        assert up.last.body == after
        assert up.last.header(b"content-length") == b"%d" % len(after)


async def test_another_name_where_thousands_look_alike() -> None:
    many = b",".join([b'{"model":"alias"}'] * 5000)
    body = b'{"a":[' + many + b'],"model":"alias","b":[' + many + b"]}"
    async with upstream() as up, gateway(up, routes=ROUTES) as gw:
        assert (await gw.ask(CHAT, body)).status == 200
        assert up.last.body == body.replace(b'],"model":"alias"', b'],"model":"gpt-4o-2024"')


async def test_a_name_that_cannot_be_found_plainly() -> None:
    async with upstream() as up, gateway(up, routes=ROUTES) as gw:
        found = await gw.ask(CHAT, b'{"mod\\u0065l":"alias","x":{"model":"alias"}}')
        assert (found.status, found.error["param"]) == (400, "model")
        assert not up.requests


async def test_another_name_in_a_path() -> None:
    routes = [
        {"models": ["models", "org/m", "a+b"], "upstreams": [{"upstream": "main", "upstream_model": "new/name +1"}]},
        ROUTES[1],
    ]
    async with upstream() as up, gateway(up, routes=routes) as gw:
        for target, seen in (
            ("/v1/models/models?models=models", b"/v1/models/new%2Fname%20%2B1?models=models"),
            ("/v1/models/a%2Bb", b"/v1/models/new%2Fname%20%2B1"),
            ("/v1/models/%6dodels", b"/v1/models/new%2Fname%20%2B1"),
            ("/v1/models%2Fmodels", b"/v1/models/new%2Fname%20%2B1"),
            ("/v1/models/%256dodels", b"/v1/models/new%2Fname%20%2B1"),
            ("/v1/models/other%3Aone", b"/v1/models/other%3Aone"),
        ):
            assert (await gw.ask(target)).status == 200
            assert up.last.target == seen


async def test_the_first_upstream_that_can_be_reached_gets_its_own_name() -> None:
    routes = [{"models": ["*"], "upstreams": [{"upstream": "gone", "upstream_model": "first"}, "main"]}]
    async with upstream() as up, gateway({"gone": "http://127.0.0.1:1/v1", "main": up}, routes=routes) as gw:
        body = b'{"model":"m","pad":"' + b"x" * 20_000 + b'"}'
        assert (await gw.ask(CHAT, body)).status == 200
        assert up.last.body == body
        assert gw.access[0]["upstream"] == "main"
        assert "upstream_model" not in gw.access[0]


async def test_bodies_wait_their_turn_and_then_are_refused() -> None:
    async with (
        upstream(silent) as up,
        gateway(up, bodies={"budget_mib": 4, "json_mib": 3}, timeouts={"body_wait_s": 0.2}) as gw,
    ):
        body = b"{}" + b" " * (2 * MIB)
        first = await gw.connect()
        first.send(request("POST", CHAT, body))
        await up.request()
        await until(lambda: gw.budget_used >= len(body))
        second = await gw.connect()
        sending = asyncio.ensure_future(second.send_all(request("POST", CHAT, body)))
        found = await second.response()
        assert (found.status, found.error["code"], found.header(b"retry-after")) == (503, "server_is_overloaded", b"1")
        await sending
        small = await gw.connect()  # has a part of its own
        small.send(request("POST", CHAT, b"{}" + b" " * 100_000))
        await up.request(2)
        third = await gw.connect()
        third.send(request("POST", CHAT, None, b"Content-Length: %d" % len(body)))
        await until(lambda: gw.in_flight == 3)
        first.close()
        third.send(body)
        await up.request(3)


async def test_the_budget_is_given_back_when_the_answer_begins() -> None:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.whole()
        exchange.send(answer(b"ab")[:-1])
        await go_on.wait()
        exchange.send(b"b")

    async with upstream(script) as up, gateway(up, routes=ROUTES) as gw:
        for model in (b"alias", b"x"):
            go_on.clear()
            client = await gw.connect()
            client.send(request("POST", CHAT, b'{"model":"' + model + b'"}' + b" " * MIB))
            await client.head()
            assert gw.budget_used == 0
            assert gw.in_flight == 1
            go_on.set()
            await until(lambda: not gw.in_flight)


async def test_chunked_bodies_take_what_they_are() -> None:
    async with upstream(silent) as up, gateway(up, bodies={"budget_mib": 2}) as gw:
        for number in range(1, 20):
            client = await gw.connect()
            client.send(chunked_request(CHAT, [b'{"model":', b'"m"}']))
            await up.request(number)
        assert gw.budget_used < 1000
        client = await gw.connect()
        client.send(chunked_request(CHAT, [b"{}" + b" " * 65536] * 40))
        assert (await client.response()).status == 503


async def test_a_large_body_that_nobody_took_does_not_stop_the_connection() -> None:
    """All of it had come, with its last byte more than is kept without leaving the socket unread."""
    async with upstream() as up, gateway(up) as gw:
        client = await gw.connect()
        gw.keys.gate.clear()
        client.send(request("POST", CHAT, b"x" * (128 * 1024 + 1), key=OTHER_KEY))
        await until(lambda: any(one._body is not None and one._body.ended for one in gw.worker.server.connections))
        gw.keys.gate.set()
        found = await client.response("POST")
        assert (found.status, found.header(b"connection")) == (401, None)
        assert (await client.ask("/v1/models")).status == 200
