"""Heads of JSON bodies: what is read, and that nothing can be read in two ways."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import DUPLICATE_MEMBER, INVALID_JSON, INVALID_TYPE, GatewayError
from gateway.proxy.body.head import HeadDecoder
from gateway.proxy.body.outgoing import with_model
from gateway.values import HeadFacts

MEMBERS = [
    "model", "stream", "stream_options", "n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens",
    "service_tier", "background", "store", "previous_response_id", "conversation", "prompt", "max_tool_calls",
]  # fmt: skip


def spellings(name: str) -> st.SearchStrategy[str]:
    """A member's name in JSON, any of its letters escaped."""
    letters = [st.sampled_from([c, f"\\u{ord(c):04x}", f"\\u{ord(c):04X}"]) for c in name]
    return st.tuples(*letters).map("".join)


values = st.sampled_from(["null", "1", '"x"', "true", "[]", '{"model":"y"}', "[{}]"])
other_names = st.sampled_from(["messages", "modeL", "Model", "mode", "models", "m", "", "stream_"])


@given(st.sampled_from(MEMBERS), st.data())
def test_a_member_twice_is_refused_however_it_is_spelled(name: str, data: st.DataObject) -> None:
    first, second = data.draw(spellings(name)), data.draw(spellings(name))
    others = data.draw(st.lists(st.tuples(other_names, values), max_size=3))
    fields = [f'"{first}":{data.draw(values)}', *(f'"{n}":{v}' for n, v in others), f'"{second}":{data.draw(values)}']
    with pytest.raises(GatewayError) as caught:
        HeadDecoder().decode(("{" + ",".join(fields) + "}").encode())
    assert (caught.value.kind, caught.value.param) == (DUPLICATE_MEMBER, name)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(), json_values, max_size=5),
    st.none() | st.text(),
    st.none() | st.booleans(),
    st.booleans(),
)
def test_what_python_reads_is_what_we_read(
    rest: dict[str, Any], model: str | None, stream: bool | None, plain: bool
) -> None:
    body = {k: v for k, v in rest.items() if k not in MEMBERS} | {"model": model, "stream": stream}
    text = json.dumps(body, ensure_ascii=plain)
    assert HeadDecoder().decode(text.encode("utf-8", "surrogatepass")) == (model, stream is True)


def test_one_decoder_forgets_between_bodies() -> None:
    decoder = HeadDecoder()
    assert decoder.decode(b'{"model":"a","stream":true}') == ("a", True)
    assert decoder.decode(b"{}") == (None, False)
    with pytest.raises(GatewayError):
        decoder.decode(b'{"model":"a","model":"b"}')
    assert decoder.decode(b'{"model":"c"}') == ("c", False)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"model":1}', INVALID_TYPE), (b'{"model":true}', INVALID_TYPE), (b'{"model":1.5}', INVALID_TYPE),
        (b'{"model":{}}', INVALID_TYPE), (b'{"stream":0}', INVALID_TYPE), (b'{"stream":"true"}', INVALID_TYPE),
        (b"[]", INVALID_JSON), (b"", INVALID_JSON), (b"{", INVALID_JSON), (b'{"model":"\xff"}', INVALID_JSON),
        (b'{"model":"\\ud800"}', INVALID_JSON), (b"{}}", INVALID_JSON), (b"nul", INVALID_JSON),
    ],
)  # fmt: skip
def test_refused(body: bytes, kind: object) -> None:
    with pytest.raises(GatewayError) as caught:
        HeadDecoder().decode(body)
    assert caught.value.kind is kind
    assert caught.value.kind.status == 400


@pytest.mark.parametrize(
    "text",
    ['"\\ud83d"', '"\\ude00"', '"a\\ud800\\n"', '"\\\\\\ud800"', '"\\ud83d\\ud83d\\ude00"', '["\\udfff", "\\\\ud800"]', '{"\\ud800":1}'],
)  # fmt: skip
def test_half_an_emoji_is_for_the_upstream_to_judge(text: str) -> None:
    body = f'{{"messages":{text},"model":"m"}}'.encode()
    assert HeadDecoder().decode(body) == ("m", False)
    with pytest.raises(GatewayError):
        HeadDecoder().decode(f'{{"messages":{text},"model":"m","mod\\u0065l":"m"}}'.encode())
    with pytest.raises(GatewayError):
        HeadDecoder().decode(f'{{"messages":{text},"model":"m"'.encode())


def test_an_errors_reason_never_quotes_the_body() -> None:
    for body in (b'{"secret":"sk-gw-1234", nope}', b'{"secret":"sk-gw-1234"', b'{"model":"sk-gw-\xff"}'):
        with pytest.raises(GatewayError) as caught:
            HeadDecoder().decode(body)
        assert "sk-gw" not in caught.value.message


nested = st.recursive(
    st.sampled_from(['"x"', "1", "null", '"\\"model\\":\\"old\\""', '"model"']),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]")
        | st.lists(inner, max_size=3).map(
            lambda items: (
                "{" + ",".join(f'"{"model" if n == 0 else f"k{n}"}":{item}' for n, item in enumerate(items)) + "}"
            )
        )
        | st.just('{"model":"old"}')
    ),
    max_leaves=6,
)


@given(st.lists(nested, max_size=4), st.lists(nested, max_size=4), st.sampled_from(["old", "x", "xyz", "", "ö"]))
def test_a_renamed_body_differs_in_the_model_alone(before: list[str], after: list[str], old: str) -> None:
    fields = [f'"b{n}": {v}' for n, v in enumerate(before)], [f'"a{n}":{v}' for n, v in enumerate(after)]
    texts = [
        "{" + ",".join([*fields[0], f'"model" : {json.dumps(model)}', *fields[1]]) + "}"
        for model in (old, "the new one")
    ]
    decoder = HeadDecoder()
    decoder.decode(texts[0].encode())
    if not old:
        with pytest.raises(GatewayError):
            with_model(texts[0].encode(), old, "the new one", decoder)
        return
    assert with_model(texts[0].encode(), old, "the new one", decoder) == texts[1].encode()


def facts(body: dict[str, Any]) -> HeadFacts:
    decoder = HeadDecoder()
    decoder.decode(json.dumps(body).encode())
    return decoder.facts


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"model": "m", "stream": True, "stream_options": {}, "store": True}, HeadFacts()),
        ({"max_tokens": None, "n": None, "prompt": "x", "previous_response_id": None}, HeadFacts()),
        ({"n": 3, "best_of": 5}, HeadFacts(number=5)),
        ({"n": 3, "best_of": "5"}, HeadFacts(number=None)),
        ({"n": True}, HeadFacts(number=None)),
        ({"n": 0}, HeadFacts(number=None)),
        ({"max_tokens": 1, "max_completion_tokens": 2, "max_output_tokens": 3}, HeadFacts(1, 1, 1, 2, 3)),
        ({"max_tokens": "1", "max_completion_tokens": 2.5, "max_output_tokens": -1}, HeadFacts()),
        ({"service_tier": "Flex"}, HeadFacts(service_tier="flex")),
        ({"service_tier": 7}, HeadFacts()),
        ({"previous_response_id": "resp_1"}, HeadFacts(stored=True)),
        ({"conversation": "conv_1", "previous_response_id": ""}, HeadFacts(stored=True)),
        ({"conversation": {"id": "conv_1"}}, HeadFacts(stored=True)),
        ({"prompt": {"id": "pmpt_1"}}, HeadFacts(stored=True, template=True)),
        ({"prompt": ["a", "b"]}, HeadFacts(prompts=2)),
        ({"prompt": [[1], [2], [3]]}, HeadFacts(prompts=3)),
        ({"prompt": [1, 2, 3]}, HeadFacts()),
        ({"tools": [{"type": "x"}], "max_tool_calls": 4}, HeadFacts(tools=b'[{"type": "x"}]', tool_calls=4)),
        ({"web_search_options": {}}, HeadFacts(searches=True)),
    ],
)
def test_what_bounds_a_call_is_read(body: dict[str, Any], said: HeadFacts) -> None:
    assert facts(body) == said
