import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator import tokens

AUSTEN = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a "
    "wife. However little known the feelings or views of such a man may be on his first entering a neighbourhood, this "
    "truth is so well fixed in the minds of the surrounding families, that he is considered the rightful property of "
    "some one or other of their daughters."
)
MELVILLE = (
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and nothing "
    "particular to interest me on shore, I thought I would sail about a little and see the watery part of the world. It "
    "is a way I have of driving off the spleen and regulating the circulation."
)


@pytest.mark.parametrize("text", [AUSTEN, MELVILLE])
def test_english_prose_has_about_four_and_a_half_bytes_a_token(text: str) -> None:
    assert 4.2 <= len(text.encode()) / tokens.count(text) <= 4.8


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("Hello, world!", ["Hello", ",", " world", "!"]),
        ("the neighbourhood", ["the", " neighbo", "urhood"]),
        ("in 1987.", ["in", " ", "198", "7", "."]),
        ('{"id":"a","n":12345}', ['{"', "id", '":', '"', "a", '",', '"', "n", '":', "123", "45", "}"]),
        ("日本語", ["日", "本", "語"]),
        ("a\n\n  b", ["a", "\n\n", "  ", "b"]),
        ("Grüße", ["Grüße"]),
        ("да и нет", ["да", " и", " нет"]),
        ("snake_case", ["snake", "_", "case"]),
        ("😀😀", ["😀", "😀"]),
    ],
)
def test_the_rule(text: str, pieces: list[str]) -> None:
    assert tokens.split(text) == pieces
    assert tokens.count(text) == len(pieces)


def test_json_digits_and_cjk_are_denser_than_prose() -> None:
    document = json.dumps({"id": "chatcmpl-123", "created": 1700000000, "choices": [{"index": 0, "text": None}]})
    for text, most in ((document, 3.2), ("1234567890" * 20, 3.01), ("日本語のテキスト" * 10, 3.01)):
        assert len(text.encode()) / tokens.count(text) <= most


@given(st.text())
def test_pieces_joined_are_the_text(text: str) -> None:
    pieces = tokens.split(text)
    assert "".join(pieces) == text
    assert tokens.count(text) == len(pieces)


@given(st.text(alphabet="ab ,.1\n\t{\"'é日я", max_size=60), st.data())
def test_a_prefix_between_two_tokens_has_just_those_tokens(text: str, data: st.DataObject) -> None:
    pieces = tokens.split(text)
    first = data.draw(st.integers(0, len(pieces)))
    assert tokens.split("".join(pieces[:first])) == pieces[:first]


def test_prefix_ends_are_where_the_prefixes_end() -> None:
    ends = tokens.prefix_ends(AUSTEN, 8, 4)
    assert [tokens.count(AUSTEN[:end]) for end in ends] == list(range(8, tokens.count(AUSTEN) + 1, 4))
