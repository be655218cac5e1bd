"""A service tier in the client's place, everything else byte for byte."""

import pytest

from gateway.proxy.body.asking import Options
from gateway.proxy.body.head import HeadDecoder
from gateway.proxy.body.outgoing import IN_BODY, Whole
from gateway.proxy.body.tier import with_tier


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b'{"model":"m"}', b'{"service_tier":"priority","model":"m"}'),
        (b' \n{ "model" : "m" }', b' \n{"service_tier":"priority", "model" : "m" }'),
        (b'{"model":"m", "service_tier" : "auto"}', b'{"model":"m", "service_tier" : "priority"}'),
        (b'{"service_tier":null,"model":"m"}', b'{"service_tier":"priority","model":"m"}'),
        (
            b'{"metadata":{"service_tier":"auto"},"service_tier":"auto"}',
            b'{"metadata":{"service_tier":"auto"},"service_tier":"priority"}',
        ),
        (
            b'{"metadata":{"service_tier":"auto"}}',
            b'{"service_tier":"priority","metadata":{"service_tier":"auto"}}',
        ),
        (b'{"input":"half \\ud83d"}', b'{"service_tier":"priority","input":"half \\ud83d"}'),
        (b'{"service\\u005ftier":"auto"}', None),
        (b'{"service_tier":5}', None),
        (b'{"service_tier":"flex"}', None),
        (b"{}", None),
        (b"[]", None),
        (b"", None),
    ],
)
def test_spliced(body: bytes, changed: bytes | None) -> None:
    for given in (body, bytearray(body)):
        assert with_tier(given, "priority", HeadDecoder()) == changed


def test_other_changes_come_on_top_and_go_again() -> None:
    body, decoder = b'{"model":"m","stream":true,"messages":[]}', HeadDecoder()
    whole = Whole("/chat/completions", body)
    whole.place, whole.model, whole.options = IN_BODY, "m", Options.ABSENT
    whole.say_tier("priority", decoder)
    told = b'{"service_tier":"priority","model":"m","stream":true,"messages":[]}'
    assert whole.outgoing(None, decoder, ask=False).whole == told
    asked = b'{"stream_options":{"include_usage":true},' + told[1:].replace(b'"m"', b'"other"')
    assert whole.outgoing("other", decoder, ask=True).whole == asked
    assert whole.outgoing(None, decoder, ask=False).whole == told
    assert (whole.length, whole.size, whole.head.service_tier) == (len(told), len(body), "priority")
