"""Quantities whose parts are no more than their wholes: only then are fields of sums the sums of fields."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.usage.fields import FIELDS, consistent
from gateway.values import Quantities

_ALL = Quantities.__struct_fields__
_TOTALS = ("input_tokens", "output_tokens")
_TEXT = ("cached_tokens", "reasoning_tokens")
few = st.integers(0, 9)
quantities = st.one_of(
    st.builds(Quantities, **dict.fromkeys(_ALL, few)),
    st.builds(Quantities, **dict.fromkeys((*_TOTALS, *_TEXT), few)),
)


@given(quantities, quantities)
def test_fields_of_a_sum_are_sums_of_fields(one: Quantities, other: Quantities) -> None:
    one, other = consistent(one), consistent(other)
    both = Quantities(*map(sum, zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)))
    for name, field in FIELDS["completions"].items():
        assert field(both) == field(one) + field(other), name


@given(quantities)
def test_totals_are_believed_and_parts_are_cut(used: Quantities) -> None:
    cut = consistent(used)
    assert (cut.input_tokens, cut.output_tokens) == (used.input_tokens, used.output_tokens)
    assert cut.cached_tokens + cut.cache_write_tokens <= cut.input_tokens
    assert cut.reasoning_tokens <= cut.output_tokens
    assert cut.output_audio_tokens + cut.output_image_tokens <= cut.output_tokens
    assert consistent(cut) == cut


@given(*[few] * 4)
def test_what_fits_stays(cached: int, fresh: int, reasoning: int, text: int) -> None:
    used = Quantities(
        input_tokens=cached + fresh, cached_tokens=cached, output_tokens=reasoning + text, reasoning_tokens=reasoning
    )
    assert consistent(used) == used
