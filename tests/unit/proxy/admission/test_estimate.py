"""How much calls take, rule by rule."""

import json
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.pricing.book import make_book
from gateway.proxy.admission.bounds import Assumed
from gateway.proxy.admission.estimate import FREE, Estimate, Unbounded
from gateway.settings.model import ModelPrice, Prices
from gateway.values import Quantities, Taking, Used
from tests.fakes.estimates import AT, Estimating, form_request, json_request
from tests.fakes.measuring import Measured

CHAT = "createChatCompletion"
HELLO: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello, who are you?"}]}


@pytest.fixture
def estimating() -> Estimating:
    return Estimating()


def size(body: dict[str, Any]) -> int:
    return len(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())


def picture(**more: str) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": "https://x/y.png", **more}}
    return HELLO | {"messages": [{"role": "user", "content": [part]}], "max_tokens": 10}


# What is not admitted or not known


def test_calls_that_cost_nothing_take_a_request_alone(estimating: Estimating) -> None:
    assert estimating.ask("strict", "listModels", b"") is FREE
    assert estimating.ask("strict", "", b"", method="GET") is FREE
    assert Taking() == FREE.taking == Taking(1, 0, 0, 0, 0, 0)


def test_a_post_to_an_unknown_path_takes_a_flat_amount_or_is_refused() -> None:
    estimating = Estimating(Assumed(flat_nano_usd=77))
    made = estimating.bounded("adaptive", "", {"model": "gpt-4o"})
    assert made.taking == Taking(nano_usd=77)
    assert isinstance(estimating.ask("strict", "", {"model": "gpt-4o"}), Unbounded)


@pytest.mark.parametrize("operation", ["createBatch", "createFineTuningJob", "createEvalRun"])
def test_what_ends_later_takes_a_flat_amount_or_is_refused(operation: str, estimating: Estimating) -> None:
    assert estimating.bounded("adaptive", operation, {}).taking == Taking(nano_usd=10_000_000)
    assert isinstance(estimating.ask("strict", operation, {}), Unbounded)


def test_a_call_that_names_no_model_takes_a_flat_amount_or_is_refused(estimating: Estimating) -> None:
    assert estimating.bounded("adaptive", "createRun", {"assistant_id": "asst_1"}).taking.nano_usd == 10_000_000
    assert isinstance(estimating.ask("strict", "createRun", {"assistant_id": "asst_1"}), Unbounded)


# Strict


def test_strict_counts_a_token_for_each_byte_and_the_limit(estimating: Estimating) -> None:
    body = HELLO | {"max_tokens": 50}
    made = estimating.bounded("strict", CHAT, body)
    assert (made.input_tokens, made.output_tokens) == (size(body), 50)
    assert made.taking.nano_usd == size(body) * 2_500 + 50 * 10_000 + 8


@pytest.mark.parametrize(
    ("more", "output"),
    [
        ({}, 16_384),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 0}, 0),
        ({"max_tokens": None}, 16_384),
        ({"max_tokens": "5"}, 16_384),
        ({"max_tokens": 5.0}, 16_384),
        ({"max_tokens": True}, 16_384),
        ({"max_tokens": -1}, 16_384),
        ({"max_output_tokens": 5}, 16_384),
        ({"max_tokens": 5, "n": 3}, 15),
        ({"max_tokens": 5, "n": None}, 5),
        ({"max_tokens": 5, "n": "3"}, 640),
        ({"max_tokens": 5, "n": 0}, 640),
    ],
)
def test_strict_takes_only_limits_that_the_operation_has(
    more: dict[str, Any], output: int, estimating: Estimating
) -> None:
    assert estimating.bounded("strict", CHAT, HELLO | more).output_tokens == output


def test_strict_counts_every_prompt_and_every_attempt_at_the_best(estimating: Estimating) -> None:
    body = {"model": "gpt-3.5-turbo-instruct", "prompt": ["a", "b", "c"], "n": 2, "best_of": 4, "max_tokens": 10}
    assert estimating.bounded("strict", "createCompletion", body).output_tokens == 3 * 4 * 10
    assert estimating.bounded("strict", "createCompletion", body | {"prompt": [1, 2, 3]}).output_tokens == 40


def test_strict_never_reads_more_than_the_window_of_a_text(estimating: Estimating) -> None:
    body = HELLO | {"messages": [{"role": "user", "content": "x" * 300_000}]}
    assert estimating.bounded("strict", CHAT, body).input_tokens == 128_000
    embedded = {"model": "text-embedding-3-small", "input": ["x" * 9000] * 3}
    made = estimating.bounded("strict", "createEmbedding", embedded)
    assert (made.input_tokens, made.output_tokens) == (size(embedded), 0)


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1"}, "max_tool_calls": 0},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": json.loads(r'[{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]')},
    ],
)
def test_strict_counts_the_window_for_what_the_upstream_has(more: dict[str, Any], estimating: Estimating) -> None:
    body = {"model": "gpt-5-mini", "input": "Go on.", "max_output_tokens": 10} | more
    assert estimating.bounded("strict", "createResponse", body).input_tokens == 400_000


def test_a_name_in_escapes_is_seen_all_the_same(estimating: Estimating) -> None:
    body = rb'{"model":"gpt-5-mini","max_output_tokens":1,"input":[{"type":"item_r\u0065ference","id":"m"}]}'
    assert estimating.bounded("strict", "createResponse", body).input_tokens == 400_000


def test_words_in_a_text_are_not_media(estimating: Estimating) -> None:
    text = 'Say "image_url": "input_file", "item_reference", "input_audio" and _data".'
    body = HELLO | {"messages": [{"role": "user", "content": text}], "max_tokens": 1}
    made = estimating.bounded("strict", CHAT, json.dumps(body, separators=(",", ":")).encode())
    assert made.input_tokens == size(body)


def test_strict_counts_hosted_tools_and_the_turns_they_lead_to(estimating: Estimating) -> None:
    body = {"model": "gpt-5-mini", "input": "x", "max_output_tokens": 10, "max_tool_calls": 3}
    plain = estimating.bounded("strict", "createResponse", body)
    client = estimating.bounded("strict", "createResponse", body | {"tools": [{"type": "function", "name": "f"}]})
    assert client.output_tokens == plain.output_tokens
    assert client.input_tokens < 200
    hosted = body | {"tools": [{"type": "web_search"}, {"type": "code_interpreter"}]}
    made = estimating.bounded("strict", "createResponse", hosted)
    assert made.input_tokens == 4 * 400_000
    assert made.taking.nano_usd >= 4 * 400_000 * 250 + 3 * 30_000_000
    unsaid = {name: value for name, value in hosted.items() if name != "max_tool_calls"}
    assert estimating.bounded("strict", "createResponse", unsaid).input_tokens == 17 * 400_000
    none = estimating.bounded("strict", "createResponse", hosted | {"max_tool_calls": 0})
    assert none.input_tokens < 200


def test_a_second_member_tools_hides_nothing(estimating: Estimating) -> None:
    body = (
        b'{"model":"gpt-5-mini","input":"x","max_output_tokens":1,'
        b'"tools":[{"type":"web_search"}],"tools":[{"type":"function","name":"f"}]}'
    )
    assert estimating.bounded("strict", "createResponse", body).input_tokens == 17 * 400_000


def test_pictures_count_by_detail_and_model(estimating: Estimating) -> None:
    assert estimating.bounded("strict", CHAT, picture()).input_tokens == size(picture()) + 1445
    mini = picture() | {"model": "gpt-4o-mini"}
    assert estimating.bounded("strict", CHAT, mini).input_tokens == size(mini) + 48_169
    low, high = (estimating.bounded("adaptive", CHAT, picture(detail=detail)) for detail in ("low", "high"))
    assert abs(high.input_tokens - low.input_tokens - (765 - 85)) <= 1
    assert high.text_bytes == 0


def test_a_model_of_which_nothing_is_known_is_bounded_by_the_request_alone() -> None:
    book = make_book(Prices(models={"own-1": ModelPrice(input_tokens=1, output_tokens=2)}))
    estimating = Estimating(book=book)
    body = HELLO | {"model": "own-1"}
    assert isinstance(estimating.ask("strict", CHAT, body), Unbounded)
    assert estimating.bounded("strict", CHAT, body | {"max_tokens": 7}).output_tokens == 7
    assert isinstance(
        estimating.ask("strict", "createResponse", {"model": "own-1", "previous_response_id": "r"}), Unbounded
    )
    assumed = Estimating(Assumed(window=8192), book)
    assert assumed.bounded("strict", CHAT, body).output_tokens == 8192


def test_the_dearest_upstream_counts(estimating: Estimating) -> None:
    body = HELLO | {"max_tokens": 5}
    both = estimating.bounded("strict", CHAT, body, "gpt-4o-mini", "gpt-4o")
    assert both.taking == estimating.bounded("strict", CHAT, body, "gpt-4o").taking
    assert both.taking == estimating.bounded("strict", CHAT, body, "gpt-4o", "gpt-4o-mini").taking


def test_the_tier_counts(estimating: Estimating) -> None:
    def cost(mode: Any, tier: str) -> int:
        body = {"model": "gpt-5-mini", "messages": [], "service_tier": tier, "max_completion_tokens": 1000}
        return estimating.bounded(mode, CHAT, body).taking.nano_usd

    assert cost("adaptive", "flex") < cost("adaptive", "default") < cost("adaptive", "priority")
    assert cost("adaptive", "priority") == cost("adaptive", "PRIORITY")
    assert abs(cost("adaptive", "fast") - cost("adaptive", "priority")) < 1000  # a shorter word
    assert abs(cost("strict", "flex") - cost("strict", "default")) <= 3 * 250  # it may be answered as that
    priority = Estimating(Assumed(tier="priority"))
    auto = {"model": "gpt-5-mini", "messages": [], "max_completion_tokens": 1000, "service_tier": "auto"}
    assert priority.bounded("adaptive", CHAT, auto).taking.nano_usd > cost("adaptive", "default")


def test_long_contexts_cost_what_they_do(estimating: Estimating) -> None:
    body = {"model": "gpt-5.4", "max_output_tokens": 0, "previous_response_id": "resp_1"}
    made = estimating.bounded("strict", "createResponse", body)
    short = estimating.bounded("strict", "createResponse", {"model": "gpt-5.4", "max_output_tokens": 0, "input": ""})
    assert made.taking.nano_usd / made.input_tokens > 1.9 * short.taking.nano_usd / short.input_tokens


# Adaptive


def test_adaptive_begins_with_what_is_assumed(estimating: Estimating) -> None:
    made = estimating.bounded("adaptive", CHAT, HELLO)
    assert made.input_tokens == size(HELLO) // 4 + 1
    assert made.output_tokens == 1000
    assert made.taking.nano_usd == made.input_tokens * 2_500 + 1000 * 10_000
    assert made.text_bytes == size(HELLO)


def test_adaptive_learns_from_what_was_reported(estimating: Estimating) -> None:
    for _ in range(2000):  # of which most are not looked at
        made = estimating.bounded("adaptive", CHAT, HELLO | {"n": 2})
        used = Used(model="gpt-4o", input_tokens=made.text_bytes // 2, output_tokens=2 * 300)
        estimating.estimator.settled("key_1", made, used)
    learned = estimating.bounded("adaptive", CHAT, HELLO | {"n": 2})
    assert learned.output_tokens == 2 * 319  # the end of the bucket of 300
    assert abs(learned.input_tokens - learned.text_bytes / 2) < 5
    other = estimating.bounded("adaptive", CHAT, HELLO, key="key_2")
    assert other.output_tokens == 319
    assert estimating.bounded("adaptive", CHAT, HELLO | {"max_tokens": 100}).output_tokens == 100
    assert estimating.bounded("adaptive", CHAT, HELLO | {"model": "gpt-4o-mini"}).output_tokens == 1000


def test_adaptive_adds_what_is_assumed_for_what_it_cannot_see(estimating: Estimating) -> None:
    body = {"model": "gpt-5-mini", "input": "Go on.", "max_output_tokens": 10}
    plain = estimating.bounded("adaptive", "createResponse", body)
    stored = estimating.bounded("adaptive", "createResponse", body | {"previous_response_id": "resp_1"})
    assert 4000 <= stored.input_tokens - plain.input_tokens < 4020
    assert stored.text_bytes == 0
    searching = estimating.bounded("adaptive", "createResponse", body | {"tools": [{"type": "web_search"}]})
    assert searching.taking.nano_usd - plain.taking.nano_usd > 10_000_000
    part = {"type": "input_file", "file_data": "data:application/pdf;base64," + "QUJD" * 5000}
    file = estimating.bounded("adaptive", "createResponse", body | {"input": [{"role": "user", "content": [part]}]})
    assert 5000 <= file.input_tokens < 5100


# What is not text


def test_pictures_that_are_made(estimating: Estimating) -> None:
    body = {"model": "gpt-image-1", "prompt": "A cat.", "n": 3, "size": "1024x1024", "quality": "high"}
    usual, most = (estimating.bounded(mode, "createImage", body) for mode in ("adaptive", "strict"))
    assert usual.taking.images == most.taking.images == 3
    assert usual.output_tokens == 3 * 4160
    assert most.output_tokens == 3 * 6540
    assert usual.line is not None
    assert usual.taking.nano_usd == estimating.price(usual.line)
    drawn = estimating.bounded("strict", "createImage", {"model": "dall-e-3", "prompt": "x", "quality": "hd"})
    assert drawn.taking.nano_usd == 80_000_000
    many = estimating.bounded("strict", "createImage", {"model": "dall-e-2", "prompt": "x", "n": 300})
    assert many.taking.images == 300
    variation = estimating.bounded("strict", "createImageVariation", form_request(5000, "dall-e-2"))
    assert variation.taking.nano_usd == 10 * 20_000_000  # its size may stand behind the file: the dearest
    edit = estimating.bounded("strict", "createImageEdit", form_request(5000, "gpt-image-1"))
    assert edit.taking.images == 10
    assert estimating.bounded("adaptive", "createImageEdit", form_request(5000, "gpt-image-1")).taking.images == 1


def test_audio_takes_its_bytes_or_all_that_may_come(estimating: Estimating) -> None:
    made = estimating.bounded("adaptive", "createTranscription", form_request(1_000_000, "whisper-1"))
    assert made.taking.audio_bytes == 1_000_000
    assert made.taking.nano_usd == 25_000_000  # 250 s at 0.006 a minute
    assert made.taking.tokens == 0
    unsaid = estimating.bounded("adaptive", "createTranscription", form_request(None, "whisper-1"))
    assert unsaid.taking.audio_bytes == 25 * 1024 * 1024
    tokens = estimating.bounded("adaptive", "createTranscription", form_request(40_000, "gpt-4o-transcribe"))
    assert tokens.taking.tokens == 100 + 40


def test_speech_videos_searches_and_containers(estimating: Estimating) -> None:
    speech = {"model": "tts-1", "input": "x" * 100, "voice": "alloy"}
    assert estimating.bounded("adaptive", "createSpeech", speech).taking.nano_usd == 100 * 15_000
    video = {"model": "sora-2", "prompt": "x", "seconds": "8"}
    assert estimating.bounded("adaptive", "createVideo", video).taking.nano_usd == 800_000_000
    assert estimating.bounded("strict", "searchVectorStore", {"query": "x"}).taking.nano_usd == 2_500_000
    assert estimating.bounded("strict", "CreateContainer", {"name": "x"}).taking.nano_usd == 30_000_000
    free = estimating.bounded("strict", "createModeration", {"input": "x", "model": "omni-moderation-latest"})
    assert free.taking.nano_usd == 0


def test_the_provisional_line_says_what_was_reserved(estimating: Estimating) -> None:
    made = estimating.bounded("adaptive", CHAT, HELLO)
    line = estimating.estimator.provisional(made, estimating.operations[CHAT], "gpt-4o")
    assert line.source == "estimated"
    assert line.nano_usd == made.taking.nano_usd
    assert line.quantities == Quantities(input_tokens=made.input_tokens, output_tokens=1000)
    drawn = estimating.bounded("adaptive", "createImage", {"model": "dall-e-3", "prompt": "x"})
    line = estimating.estimator.provisional(drawn, estimating.operations["createImage"], "dall-e-3")
    assert (line.quantities.images, line.nano_usd) == (1, drawn.taking.nano_usd)


def test_every_metered_operation_has_an_estimate(estimating: Estimating) -> None:
    for operation in estimating.operations:
        made = estimating.ask("adaptive", operation, {"model": "gpt-4o"})
        assert isinstance(made, Estimate)
        assert isinstance(estimating.ask("strict", operation, {"model": "gpt-4o"}), Estimate | Unbounded)


def test_sound_costs_what_sound_does(estimating: Estimating) -> None:
    part = {"type": "input_audio", "input_audio": {"data": "A" * 3000, "format": "mp3"}}
    body = {"model": "gpt-audio", "messages": [{"role": "user", "content": [part]}], "max_tokens": 0}
    most = estimating.bounded("strict", CHAT, body)
    assert most.taking.nano_usd == size(body) * 32_000 + 8
    usual = estimating.bounded("adaptive", CHAT, body)
    assert usual.input_tokens < 60
    before = {"role": "assistant", "audio": {"id": "audio_1"}}
    assert estimating.bounded("strict", CHAT, body | {"messages": [before]}).input_tokens == 128_000


def test_estimating_is_cheap(estimating: Estimating, measured: Measured) -> None:
    text = 'Tell me a story of the quick brown fox, and "others". ' * 17
    request = json_request(HELLO | {"messages": [{"role": "user", "content": text}], "max_tokens": 100})
    operation, estimator, clock = estimating.operations[CHAT], estimating.estimator, SystemClock()
    used = Used(model="gpt-4o", input_tokens=250, output_tokens=90)
    taking = settling = 1.0
    made: Estimate | Unbounded = FREE
    for _ in range(20):
        start = clock.monotonic()
        for _ in range(1000):
            made = estimator.estimate(
                "adaptive", operation, request, method="POST", key_id="key_1", models=("gpt-4o",), at=AT
            )
        taking = min(taking, clock.monotonic() - start)
        assert isinstance(made, Estimate)
        start = clock.monotonic()
        for _ in range(1000):
            estimator.settled("key_1", made, used)
        settling = min(settling, clock.monotonic() - start)
    measured("estimate of a 1 KB chat completion", taking * 1000, "µs", limit="< 6 µs")
    measured("what an estimate learns from a call", settling * 1000, "µs", limit="< 2 µs")
