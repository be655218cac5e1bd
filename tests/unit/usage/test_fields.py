"""Quantities as the fields of OpenAI's usage API."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.usage.fields import FIELDS, TOKENS, consistent, fields_of_tokens
from gateway.values import Quantities

quantities = st.builds(Quantities, **dict.fromkeys(TOKENS, st.integers(0, 30)))


@given(st.lists(quantities, max_size=4))
def test_the_short_way_says_the_same(several: list[Quantities]) -> None:
    """Of a sum of what upstreams may say, whatever they say."""
    cut = [consistent(one) for one in several]
    summed = [sum(getattr(one, name) for one in cut) for name in TOKENS]
    used = Quantities(**dict(zip(TOKENS, summed, strict=True)))
    wanted = {name: field(used) for name, field in FIELDS["completions"].items()}
    assert fields_of_tokens(summed) == wanted
    assert FIELDS["decisions"] is FIELDS["completions"]
    for name, value in wanted.items():
        assert value == sum(FIELDS["completions"][name](one) for one in cut), name
