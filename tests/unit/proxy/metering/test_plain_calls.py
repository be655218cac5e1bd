"""The short way from an answer to its event says what the long one says, or leaves it to that."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounts.usage_stream import Packed, pack
from gateway.clock import ManualClock
from gateway.operations.table import load_operations
from gateway.pricing.book import make_book
from gateway.proxy.http.visit import Observation
from gateway.proxy.metering.counters import UsageCounters, usage_metrics
from gateway.proxy.metering.meter import Meter
from gateway.settings.model import Prices, Settings, Upstream
from gateway.telemetry.logging import make_logger
from gateway.telemetry.metrics import Metrics
from gateway.usage.plain import Plain
from gateway.values import Checked, FormFacts, Principal, Taking, UsageEvent, Used

OPERATIONS = {one.id: one for one in load_operations()}
BOOK = make_book(Prices())
SETTINGS = Settings(upstreams={"one": Upstream(base_url="http://one/v1")})
PRINCIPALS = [Principal("key_1", "proj_1", "user_1", "org-1"), Principal("key_2", "proj_1", "", 'org-"2"')]
CHECKED = [
    (),
    (Checked("spend.day", "member", 5),),
    (Checked("requests_per_minute", "project_model", 9, 'a "model"', shadow=True), Checked("spend.day", "key", 6)),
]
MODELS = ["gpt-5-mini", "gpt-4o-mini", "gpt-5.4", "gpt-4o-audio-preview", "nobody's", "text-embedding-3-small", ""]


class Request:
    """A chat's body that is at hand."""

    def __init__(self, end_user: str) -> None:
        self.model: str | None = "gpt-5-mini"
        self.end_user = end_user
        self.whole: bytes | bytearray | None = b'{"model":"gpt-5-mini","messages":[{"role":"user","content":"hello"}]}'
        self.complete = True
        self.facts = FormFacts()


class Never:
    """In the place of the short way."""

    def settle(self, *_: Any) -> None:
        return None

    def flush(self) -> None:
        return None


class Metering:
    """A meter, and what comes of it. Nothing is to be learned from the next calls."""

    def __init__(self, *, long: bool) -> None:
        self.metrics = Metrics(more=usage_metrics(SETTINGS))
        self.delivered: list[UsageEvent | Packed] = []
        clock = ManualClock()
        log = make_logger("worker", "error", clock, write=lambda _: None)
        counters = UsageCounters(SETTINGS, BOOK, self.metrics)
        self.meter = Meter(OPERATIONS.values(), BOOK, counters, self.delivered.append, log, clock=clock)
        self.meter._reported = 17
        if long:
            self.meter._plain = Never()  # type: ignore[assignment]

    def settle(self, operation: str, body: bytes, call: dict[str, Any]) -> Used | None:
        seen = Observation(call["id"], "POST", "/v1/x", "127.0.0.1", 1_800_000_000.25, 0.0)
        seen.model, seen.upstream, seen.upstream_model = call["model"], "one", call["upstream_model"]
        seen.attempts, seen.stream, seen.admitted_us = call["attempts"], call["stream"], call["admitted_us"]
        seen.taking, seen.checked = call.get("taking"), CHECKED[call.get("checked", 0)]
        seen.rare = seen.taking is not None and not seen.admitted_us
        seen.upstream_request_id = call.get("upstream_id", "")
        seen.sent_at, seen.head_at = 10.0, 10.0 + call.get("took", 0.0)
        request = Request(call["end_user"])
        metered = self.meter.begin(PRINCIPALS[call["principal"]], OPERATIONS[operation], seen, request)
        assert metered is not None
        feed = metered.opened(200, {b"content-type": b"application/json"})
        assert feed is not None
        for part in (body[: call["cut"]], body[call["cut"] :]):
            feed([part])
        self.meter.settle(metered, sent=True, ended=call["ended"])
        return metered.used

    def counted(self) -> dict[str, float]:
        self.meter.flush()
        self.metrics.flush()
        return {
            f"{sample.name}{sorted(sample.labels.items())}": sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if not sample.name.endswith("_created") and sample.value
        }


def packed(event: UsageEvent | Packed) -> Packed:
    return event if isinstance(event, Packed) else pack(event)


COUNT = st.one_of(st.integers(0, 300_000), st.integers(0, 3), st.none())
DETAILS = st.dictionaries(
    st.sampled_from(["cached_tokens", "audio_tokens", "image_tokens", "reasoning_tokens", "cache_write_tokens"]), COUNT
)
TEXTS = st.sampled_from(["", "u-1", 'quo"ted', "ü€", "half \ud83d"])
ANSWERS = st.fixed_dictionaries(
    {"usage": st.fixed_dictionaries({"prompt_tokens": st.integers(0, 300_000)}, optional={
        "completion_tokens": st.integers(0, 3000),
        "prompt_tokens_details": st.one_of(st.fixed_dictionaries({"cached_tokens": COUNT}), DETAILS, st.none()),
        "completion_tokens_details": st.one_of(st.fixed_dictionaries({"reasoning_tokens": COUNT}), DETAILS),
    }), "model": st.sampled_from(MODELS)},
    optional={"id": st.sampled_from(["chatcmpl-1", 'x"\\', ""]), "service_tier": st.sampled_from(["default", "Flex", "priority", None])},
)  # fmt: skip
CALLS = st.fixed_dictionaries({
    "id": st.sampled_from(["req_1", "req_2"]), "model": st.sampled_from(MODELS), "upstream_model": st.sampled_from(["", *MODELS]),
    "attempts": st.integers(1, 2), "stream": st.booleans(), "admitted_us": st.sampled_from([0, 1_700_000_000_000_001]),
    "end_user": TEXTS, "principal": st.integers(0, 1), "cut": st.integers(0, 40), "taking": st.sampled_from([None, Taking(), Taking(tokens=5, nano_usd=7), Taking(images=2)]),
    "checked": st.integers(0, 2), "took": st.floats(0, 700), "upstream_id": st.sampled_from(["", "req_u", 'q"\xff']),
    "ended": st.sampled_from(["complete", "client_left"]),
})  # fmt: skip


@given(st.lists(st.tuples(ANSWERS, CALLS, st.sampled_from(["createChatCompletion", "createEmbedding"])), max_size=6))
def test_both_ways_say_the_same(calls: list[tuple[dict[str, Any], dict[str, Any], str]]) -> None:
    short, long = Metering(long=False), Metering(long=True)
    for answer, call, operation in calls:
        body = msgspec.json.encode(answer)
        assert short.settle(operation, body, call) == long.settle(operation, body, call)
        try:
            expected = packed(long.delivered[-1])
        except UnicodeEncodeError:
            assert isinstance(short.delivered[-1], UsageEvent), "the outbox says that it cannot be delivered"
            continue
        found = packed(short.delivered[-1])
        replace = msgspec.structs.replace
        assert replace(found, json=b"") == replace(expected, json=b"")
        read = [msgspec.json.decode(one.json, type=UsageEvent) for one in (found, expected)]
        assert read[0] == read[1]
    assert short.counted() == long.counted()


def test_usual_calls_go_the_short_way() -> None:
    """With any of these, also those that have prices by length or date."""
    for model in ("gpt-5-mini", "gpt-4o-mini", "gpt-5.4"):
        short = Metering(long=False)
        usage = {"prompt_tokens": 300_000, "completion_tokens": 12, "prompt_tokens_details": {"cached_tokens": 4}}
        call = {"id": "req_1", "model": model, "upstream_model": "", "attempts": 1, "stream": False, "admitted_us": 0}
        call |= {"end_user": "u", "principal": 0, "cut": 0, "ended": "complete"}
        body = msgspec.json.encode({"id": "chatcmpl-1", "model": model, "usage": usage})
        for _ in range(2):
            used = short.settle("createChatCompletion", body, call)
            assert used is not None
            assert (used.tokens, used.model) == (300_012, model)
            assert isinstance(short.delivered[-1], Packed)


def test_what_is_unusual_does_not() -> None:
    short = Metering(long=False)
    call = {"id": "req_1", "model": "gpt-5-mini", "upstream_model": "", "attempts": 1, "stream": False}
    call |= {"admitted_us": 0, "end_user": "u", "principal": 0, "cut": 0, "ended": "complete"}
    for answer in (
        {"model": "nobody's", "usage": {"prompt_tokens": 1}},
        {"model": "gpt-5-mini", "usage": {"prompt_tokens": 9, "prompt_tokens_details": {"audio_tokens": 3}}},
        {"model": "gpt-5-mini", "usage": {"prompt_tokens": 9, "input_tokens": 9}},
        {"model": "gpt-5-mini"},
    ):
        short.settle("createChatCompletion", msgspec.json.encode(answer), call | {"model": answer["model"]})
        assert isinstance(short.delivered[-1], UsageEvent)


def test_forms_are_bounded() -> None:
    short = Metering(long=False)
    call = {"id": "req_1", "upstream_model": "gpt-5-mini", "attempts": 1, "stream": False, "admitted_us": 0}
    call |= {"end_user": "", "principal": 0, "cut": 0, "ended": "complete"}
    body = msgspec.json.encode({"model": "gpt-5-mini", "usage": {"prompt_tokens": 1}})
    for number in range(5000):
        short.meter._reported = 17
        short.settle("createEmbedding", body, call | {"model": f"m{number}"})
    forms = short.meter._plain._forms
    assert 0 < len(forms) <= 4096
    assert isinstance(short.delivered[-1], Packed)


def test_a_plain_answer_is_what_it_says() -> None:
    assert Plain.__struct_fields__ == ("usage", "id", "model", "service_tier"), "or the short way has to know of it"
