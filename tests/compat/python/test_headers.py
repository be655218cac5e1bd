"""Which headers cross the gateway, seen at both ends: those that the official client sends, and all that may come back."""

import msgspec
import openai
from openai import AsyncOpenAI

from tests.compat.conftest import Make
from tests.compat.python.test_chat import HELLO
from tests.compat.stand import UPSTREAM_KEY, Gate
from tests.fakes.upstream import Exchange, answer, saying, upstream

COMPLETION = msgspec.json.encode(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "scripted-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
    }
)
OURS = [
    (b"X-Custom", b"one"),
    (b"x-request-id", b"req_upstream"),
    (b"X-Custom", b"two"),
    (b"openai-version", b"2020-10-01"),
    (b"CF-Ray", b"a-b"),
    (b"Server", b"cloudflare"),
    (b"x-a-header-of-tomorrow", b"caf\xe9"),
]
NOT_OURS = [
    (b"x-ratelimit-limit-requests", b"1"),
    (b"Set-Cookie", b"__cf_bm=1"),
    (b"alt-svc", b'h3=":443"; ma=86400'),
    (b"Strict-Transport-Security", b"max-age=31536000"),
    (b"Keep-Alive", b"timeout=5"),
    (b"Connection", b"keep-alive, X-Of-This-Connection"),
    (b"X-Of-This-Connection", b"1"),
]


def named(exchange: Exchange, name: str) -> list[str]:
    return [value.decode() for value in exchange.values(name.encode())]


LEVELS = {
    f"x-ratelimit-{what}-{of}".encode() for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
}


async def test_what_the_client_says_goes_up(make: Make, strict: Gate, scripted_port: int) -> None:
    client: AsyncOpenAI = make(
        base_url=strict.base_url, organization="org-mine", project="proj_mine", default_headers={"Cookie": "a=b"}
    )
    async with upstream(saying(answer(COMPLETION)), port=scripted_port) as there:
        await client.chat.completions.create(
            model="scripted-1",
            messages=HELLO,
            extra_headers={"OpenAI-Beta": "assistants=v2", "Idempotency-Key": "k-1", "traceparent": "00-1-2-01"},
            extra_query={"include": ["a b", "ü"], "plus": "1+1"},
        )
        seen = there.last
    assert seen.target == b"/v1/chat/completions?include%5B%5D=a+b&include%5B%5D=%C3%BC&plus=1%2B1"
    assert named(seen, "authorization") == [f"Bearer {UPSTREAM_KEY}"]
    assert named(seen, "host") == [f"127.0.0.1:{scripted_port}"]
    for gone in ("openai-organization", "openai-project", "cookie"):
        assert named(seen, gone) == []
    for kept, value in (("openai-beta", "assistants=v2"), ("idempotency-key", "k-1"), ("traceparent", "00-1-2-01")):
        assert named(seen, kept) == [value]
    assert named(seen, "user-agent")[0].endswith(f"OpenAI/Python {openai.__version__}")
    assert {"x-stainless-lang", "x-stainless-retry-count", "accept", "accept-encoding"} <= {
        name.decode().lower() for name, _ in seen.headers
    }
    assert named(seen, "x-request-id")[0].startswith("req_")


async def test_what_the_upstream_says_comes_down(make: Make, strict: Gate, scripted_port: int) -> None:
    """All of it, in its order and spelling, but for what concerns one connection or another host."""
    client = make(base_url=strict.base_url)
    async with upstream(saying(answer(COMPLETION, *OURS, *NOT_OURS)), port=scripted_port):
        raw = await client.chat.completions.with_raw_response.create(model="scripted-1", messages=HELLO)
    came = raw.http_response.headers.raw
    framing = {b"content-length", b"content-type", b"date"}
    others = [field for field in came if field[0].lower() not in framing]
    assert others[: len(OURS)] == OURS
    assert {name for name, _ in others[len(OURS) :]} == LEVELS, "the gateway's own stand for the upstream's"
    assert raw.request_id == "req_upstream"


async def test_an_answer_without_a_request_id_gets_one(make: Make, strict: Gate, scripted_port: int) -> None:
    client = make(base_url=strict.base_url)
    async with upstream(saying(answer(COMPLETION)), port=scripted_port) as there:
        made = await client.chat.completions.create(model="scripted-1", messages=HELLO)
        assert made._request_id == named(there.last, "x-request-id")[0]
