"""The short way of reading usage says what the long one says, or nothing."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.usage.extract import of_body, rules_of
from gateway.usage.plain import plain
from gateway.usage.rules import Rule

NUMBER = st.one_of(st.integers(-2, 2000), st.just(1 << 53), st.none(), st.just(2.0), st.just("7"), st.booleans())
DETAILS = st.dictionaries(
    st.sampled_from(
        ["cached_tokens", "audio_tokens", "image_tokens", "reasoning_tokens", "cache_write_tokens", "other"]
    ),
    NUMBER,
)
DEEPER = st.dictionaries(
    st.sampled_from(["cached_tokens_details", "cache_write_tokens_details", "cached_tokens"]),
    st.one_of(NUMBER, st.dictionaries(st.sampled_from(["audio_tokens", "ttl_12h_tokens"]), NUMBER)),
)
USAGE = st.fixed_dictionaries(
    {"prompt_tokens": NUMBER},
    optional={
        "completion_tokens": NUMBER,
        "total_tokens": NUMBER,
        "input_tokens": NUMBER,
        "cached_tokens": NUMBER,
        "trained_tokens": NUMBER,
        "seconds": NUMBER,
        "prompt_tokens_details": st.one_of(DETAILS, DEEPER, st.none(), NUMBER),
        "completion_tokens_details": st.one_of(DETAILS, st.none()),
        "input_tokens_details": DETAILS,
    },
)
ANSWERS = st.fixed_dictionaries(
    {"usage": st.one_of(USAGE, NUMBER)},
    optional={
        "id": st.one_of(st.just("chatcmpl-1"), NUMBER),
        "model": st.one_of(st.just("gpt-5"), NUMBER),
        "service_tier": st.sampled_from(["default", "Flex", None, 3]),
        "x_groq": st.fixed_dictionaries({"usage": USAGE}),
        "size": st.just("1024x1024"),
    },
)


def long_way(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return tuple(msgspec.structs.replace(rule, plain=False) for rule in rules)


@given(ANSWERS)
def test_both_ways_say_the_same(answer: dict[str, Any]) -> None:
    body = msgspec.json.encode(answer)
    for operation in ("createChatCompletion", "createEmbedding"):
        rules = rules_of(operation)
        assert rules[0].plain
        short, long = of_body(body, rules), of_body(body, long_way(rules))
        assert [msgspec.structs.replace(r, size="") for r in short] == [
            msgspec.structs.replace(r, size="") for r in long
        ]


def test_openais_answers_go_the_short_way() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 12,
        "total_tokens": 21,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 3, "accepted_prediction_tokens": 0},
    }
    found = plain(msgspec.json.encode({"id": "chatcmpl-1", "choices": [{"index": 0}], "usage": usage}))
    assert found is not None
    assert found.quantities.reasoning_tokens == 3
    assert plain(b'{"usage":null}') is None
    assert plain(b"\xff") is None
