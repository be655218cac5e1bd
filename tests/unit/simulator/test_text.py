from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator import tokens
from gateway.simulator.text import Prose

PROSE = Prose()


@given(st.integers(0, 2**64 - 1), st.integers(0, 400))
def test_a_text_has_exactly_the_tokens_asked_for(seed: int, length: int) -> None:
    pieces = PROSE.pieces(seed, length)
    assert len(pieces) == length
    assert tokens.split("".join(pieces)) == pieces


def test_the_same_seed_gives_the_same_text_in_any_instance() -> None:
    assert Prose().text(7, 300) == Prose().text(7, 300) == PROSE.text(7, 300)


def test_different_seeds_give_different_texts() -> None:
    assert len({PROSE.text(seed, 60) for seed in range(500)}) == 500


def test_the_prose_is_as_dense_as_english() -> None:
    text = PROSE.text(1, 20_000)
    assert 4.2 <= len(text.encode()) / 20_000 <= 4.8


def test_words_are_plain() -> None:
    phrase = PROSE.words(3, 4)
    assert len(phrase.split()) == 4
    assert phrase.replace(" ", "").isalpha()
