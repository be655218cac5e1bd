"""An upstream's usage and costs, read from a real socket."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.control.jobs import upstream_books as module
from gateway.control.jobs.upstream_books import BooksError, UpstreamBooks
from gateway.control.ledger.comparison import Place, Theirs
from gateway.settings.model import Tls, Upstream, UpstreamReconciliation
from gateway.usage.fields import FIELDS
from gateway.values import Secret
from tests.fakes.organization import ADMIN_KEY, Organization, Refusal, organization
from tests.fakes.ports import free_port

BEGIN = 1_800_000_000 // 86_400 * 86_400


@pytest.fixture
async def theirs() -> AsyncIterator[Organization]:
    async with organization() as made:
        yield made


def books(theirs: Organization, *, url: str | None = None, **asked: Any) -> UpstreamBooks:
    headers = {"X-Team": Secret("ours"), "authorization": Secret("Bearer sk-other")}
    upstream = Upstream(url or theirs.url, api_key=Secret("sk-upstream"), headers=headers)
    return UpstreamBooks(upstream, UpstreamReconciliation(Secret(ADMIN_KEY), **asked), theirs.pause)


async def refused(reader: UpstreamBooks) -> str:
    with pytest.raises(BooksError) as caught:
        await reader.of_day(BEGIN)
    return str(caught.value)


async def test_usage_by_model_and_costs_by_line_item(theirs: Organization) -> None:
    theirs.results = {
        "usage/completions": [
            {"model": "a", "num_model_requests": 2, "input_tokens": 10, "output_tokens": 3, "input_text_tokens": 10},
            {"model": "b", "num_model_requests": 1, "input_tokens": 7, "output_tokens": None},
        ],
        "usage/code_interpreter_sessions": [{"num_sessions": 4, "project_id": None}],
        "costs": [
            {"line_item": "a, input", "amount": {"value": 0.000000123, "currency": "usd"}},
            {"line_item": "a, output", "amount": {"value": "1.5", "currency": "usd"}},
        ],
    }
    read = await books(theirs).of_day(BEGIN)
    assert read.left_out == ()
    assert read.theirs.numbers == {
        Place("completions", "a", "num_model_requests"): 2,
        Place("completions", "a", "input_tokens"): 10,
        Place("completions", "a", "output_tokens"): 3,
        Place("completions", "b", "num_model_requests"): 1,
        Place("completions", "b", "input_tokens"): 7,
        Place("code_interpreter_sessions", "", "num_sessions"): 4,
        Place("costs", "a", "nano_usd"): 1_500_000_123,
    }
    assert read.theirs.fields["completions"] == {"num_model_requests", "input_tokens", "output_tokens"}
    assert theirs.authorizations == {f"Bearer {ADMIN_KEY}"}
    assert set(theirs.paths()) == {"costs", *(f"usage/{category}" for category in FIELDS)}
    queries = dict(theirs.asked)
    assert {query["start_time"] for query in queries.values()} == {str(BEGIN)}
    assert {query["end_time"] for query in queries.values()} == {str(BEGIN + 86_400)}
    assert {query["bucket_width"] for query in queries.values()} == {"1d"}
    groups = {path: query.get("group_by[]") for path, query in queries.items()}
    assert groups["costs"] == "line_item"
    assert {path for path, group in groups.items() if group is None} == {
        "usage/code_interpreter_sessions", "usage/file_search_calls"
    }  # fmt: skip


async def test_pages_are_followed_and_add_up(theirs: Organization) -> None:
    theirs.results["usage/embeddings"] = [{"model": f"m{n % 2}", "input_tokens": n} for n in range(7)]
    theirs.per_page = 3
    read = await books(theirs).of_day(BEGIN)
    assert read.theirs.numbers == {
        Place("embeddings", "m0", "input_tokens"): 0 + 2 + 4 + 6,
        Place("embeddings", "m1", "input_tokens"): 1 + 3 + 5,
    }
    assert theirs.paths().count("usage/embeddings") == 3


async def test_pages_without_end_are_given_up(theirs: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_PAGES", 5)
    theirs.results["usage/completions"] = [{"model": "m", "input_tokens": 1}] * 6
    theirs.per_page = 1
    assert await refused(books(theirs)) == "usage/completions: it has more than 5 pages"


async def test_what_is_the_gateways_alone_is_asked_for(theirs: Organization) -> None:
    await books(theirs, project_ids=["proj_1", "proj_2"], api_key_ids=["key_1"]).of_day(BEGIN)
    queries = dict(theirs.asked)
    assert {tuple(query.getall("project_ids[]")) for query in queries.values()} == {("proj_1", "proj_2")}
    keys = {path: query.get("api_key_ids[]") for path, query in queries.items()}
    assert keys.pop("usage/code_interpreter_sessions") is None, "it takes no keys"
    assert set(keys.values()) == {"key_1"}


async def test_what_cannot_be_asked_for_by_key_is_left_out(theirs: Organization) -> None:
    read = await books(theirs, api_key_ids=["key_1"]).of_day(BEGIN)
    assert "usage/code_interpreter_sessions" not in theirs.paths()
    assert read.left_out[0] == "code_interpreter_sessions: cannot be asked for by key"
    assert "code_interpreter_sessions" not in read.theirs.fields


async def test_what_an_upstream_lacks_is_left_out(theirs: Organization) -> None:
    theirs.complete = False
    theirs.results = {"usage/completions": [], "costs": []}
    read = await books(theirs).of_day(BEGIN)
    assert read.theirs.fields.keys() == {"completions"}
    assert "decisions: the upstream does not serve it" in read.left_out
    assert "costs: the upstream shows none" in read.left_out
    theirs.results = {}
    assert await refused(books(theirs)) == "it serves none of OpenAI's usage endpoints (404)"


async def test_what_may_pass_is_tried_again(theirs: Organization) -> None:
    theirs.results["usage/completions"] = [{"model": "m", "input_tokens": 5}]
    theirs.refusals["usage/completions"] = [
        Refusal(500),
        Refusal(429, retry_after="7"),
        Refusal(503, retry_after="3600"),
    ]
    read = await books(theirs).of_day(BEGIN)
    assert read.theirs.numbers == {Place("completions", "m", "input_tokens"): 5}
    assert theirs.waited == [1.0, 7.0, 60.0]


async def test_what_does_not_pass_is_said(theirs: Organization) -> None:
    theirs.refusals["usage/completions"] = [Refusal(502)] * 4
    assert await refused(books(theirs)) == "usage/completions: it answers 502, 4 times in a row"
    assert theirs.paths() == ["usage/completions"] * 4
    away = books(theirs, url=f"http://127.0.0.1:{free_port()}/v1")
    assert "no connection to 127.0.0.1" in await refused(away)


async def test_certificates_that_are_not_there_are_said(theirs: Organization) -> None:
    upstream = Upstream(theirs.url, tls=Tls(ca_file="/nowhere/ca.pem"))
    reader = UpstreamBooks(upstream, UpstreamReconciliation(Secret(ADMIN_KEY)), theirs.pause)
    assert (await refused(reader)).startswith("a certificate or key cannot be read: ")


async def test_a_refused_key_is_said_at_once_without_it(theirs: Organization) -> None:
    said = msgspec.json.encode({"error": {"message": f"Incorrect API key provided: {ADMIN_KEY}."}}).decode()
    theirs.refusals["usage/completions"] = [Refusal(401, said), Refusal(403)]
    message = await refused(books(theirs))
    assert message == "it refuses the admin key (401): Incorrect API key provided: sk-***."
    assert await refused(books(theirs)) == "it refuses the admin key (403)"
    assert theirs.paths() == ["usage/completions"] * 2
    assert theirs.waited == []


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (Refusal(200, "<html>"), "its answer is not one of OpenAI's usage API"),
        (Refusal(200, '{"data": [{"start_time": "noon"}]}'), "its answer is not one of OpenAI's usage API"),
        (Refusal(302, location="http://127.0.0.1:1/"), "it answers 302"),
        (Refusal(400, '{"error": {"message": "No such project"}}'), "it answers 400: No such project"),
    ],
)
async def test_other_answers_are_said(theirs: Organization, refusal: Refusal, message: str) -> None:
    theirs.refusals["usage/completions"] = [refusal]
    assert await refused(books(theirs)) == message


@pytest.mark.parametrize("amount", [None, {}, {"value": "much"}, {"value": None}, {"value": 1e300}])
async def test_amounts_that_are_none_are_said(theirs: Organization, amount: Any) -> None:
    theirs.results["costs"] = [{"line_item": "a", "amount": amount}]
    assert await refused(books(theirs)) in {"costs: an amount is not a number", "a number of its usage is too large"}


async def test_buckets_of_other_days_do_not_count(theirs: Organization) -> None:
    page = {
        "data": [{"start_time": BEGIN + at, "result": [{"model": "m", "input_tokens": 1}]} for at in (-1, 0, 86_400)]
    }
    theirs.refusals["usage/completions"] = [Refusal(200, msgspec.json.encode(page).decode())]
    read = await books(theirs).of_day(BEGIN)
    assert read.theirs.numbers == {Place("completions", "m", "input_tokens"): 1}
    assert isinstance(read.theirs, Theirs)
