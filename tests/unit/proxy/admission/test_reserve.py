"""Every way that a reserve and its end can go, with a Redis that answers as a test says."""

import asyncio

import msgspec
import pytest

from gateway.accounts.answers import Admitted, Cancelled, Closed, Refused, Stale
from gateway.errors import GatewayError
from gateway.limits import CONCURRENT, RateLimit, SpendLimit
from gateway.proxy.admission.reserve import Grant, KeyChangedError, Open
from gateway.redisdb.failures import HotLost, HotReplyError, HotTimeout, HotUnavailable, RedisFailure
from gateway.values import UsageEvent, Used
from tests.fakes.estimates import form_request, json_request
from tests.unit.proxy.admission.kit import LEASE_S, ORG, PRINCIPAL, Stand, level

AWAY = HotUnavailable("away")
SLOW = HotTimeout("slow")
RPM = RateLimit("requests_per_minute", 2)
TPM = RateLimit("tokens_per_minute", 1000)
DAILY = SpendLimit("day", 1_000_000_000)
RUNNING = RateLimit(CONCURRENT, 1)
EVENT = Used(tokens=786, nano_usd=5, model="gpt-5-mini", input_tokens=9, output_tokens=777)


async def admitted(stand: Stand) -> Grant:
    grant = await stand.reserve()
    assert grant is not None
    return grant


async def refused(stand: Stand) -> GatewayError:
    with pytest.raises(GatewayError) as found:
        await stand.reserve()
    return found.value


# Admitted


async def test_admitted() -> None:
    stand = Stand(Admitted(42, level(0, 1), level(1, 900), (2,)))
    stand.limit(RPM, TPM, SpendLimit("day", 5, shadow=True))
    grant = await admitted(stand)
    ((plan, id, taking, event, lease_s),) = stand.redis.reserved  # noqa: A001
    assert (plan.limits_version, plan.key_version, id, lease_s) == (1, 3, "req_1", LEASE_S)
    assert (taking.requests, taking.tokens) == (1, grant.estimate.input_tokens + 10)
    found = msgspec.json.decode(b'{"at_us":42,' + event[1:], type=UsageEvent)
    assert (found.id, found.unconfirmed, found.lines[0].nano_usd) == ("req_1", True, taking.nano_usd)
    assert stand.seen.admitted_us == 42
    assert [line.split(b": ")[1] for line in stand.down.levels.split(b"\r\n")] == [
        b"2",
        b"1",
        b"20ms",
        b"1000",
        b"900",
        b"20ms",
    ]
    assert stand.holds == {"req_1"}
    assert stand.metric("gateway_limit_tokens_total", what="reserved") == taking.tokens
    assert stand.metric("gateway_limit_refusals_total", limit="spend.day", scope="organization", shadow="true") == 1
    assert stand.metric("gateway_reserve_seconds_count") == 1


async def test_an_event_settles_and_teaches() -> None:
    stand = Stand()
    for _ in range(30):
        stand.admission.end(await admitted(stand), EVENT, True)
    assert not stand.holds
    assert await stand.ends() == []
    assert stand.metric("gateway_limit_tokens_total", what="settled") == 30 * 786
    estimate = await stand.reserve(body={"model": "gpt-5-mini", "messages": []})
    assert estimate is not None
    assert 777 <= estimate.estimate.output_tokens <= 1000, "learned"


@pytest.mark.parametrize(("sent", "how"), [(True, "settle"), (False, "cancel")])
async def test_without_an_event_all_or_all_but_the_request_is_given_back(sent: bool, how: str) -> None:
    stand = Stand()
    stand.admission.end(await admitted(stand), None, sent)
    assert not stand.holds
    assert await stand.ends() == [(how, ORG, ("req_1",))]


async def test_what_nobody_can_tell_is_left_to_the_sweep() -> None:
    stand = Stand()
    stand.admission.abandon(await admitted(stand))
    assert not stand.holds, "it is renewed no more, and then it is charged as reserved"
    assert await stand.ends() == []


async def test_calls_that_are_free_are_not_admitted() -> None:
    stand = Stand(AWAY)
    assert await stand.reserve("listModels", request=json_request(b"")) is None
    assert await stand.reserve("retrieveModel", request=form_request(0, "gpt-5-mini")) is None, "named in its path"
    assert stand.redis.reserved == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_path_that_is_not_known_takes_a_request_and_has_no_event(method: str) -> None:
    stand = Stand()
    stand.seen.method = method
    await stand.reserve("")
    ((_, _, taking, event, _),) = stand.redis.reserved
    assert (taking.requests, taking.tokens, event) == (1, 0, b"")
    assert taking.nano_usd == (10_000_000 if method == "POST" else 0)


@pytest.mark.parametrize("model", ["x" * 100_000, "half \ud800", 'quo"ted\\', "\udcff"])
@pytest.mark.parametrize("operation", ["createChatCompletion", "createImage", "createSpeech"])
async def test_models_are_the_clients_words(model: str, operation: str) -> None:
    stand = Stand()
    stand.seen.model = model
    body = {"model": "stand-in", "input": "x", "prompt": "x", "messages": []}
    await stand.reserve(operation, body)
    stand.seen.model = model + "!"
    stand.seen.request_id = "req_2"
    await stand.reserve(operation, body)
    for _, id, _, event, _ in stand.redis.reserved:  # noqa: A001
        found = msgspec.json.decode(b'{"at_us":42,' + event[1:], type=UsageEvent)
        assert (found.id, len(event) < 2000) == (id, True)
        assert found.lines[0].request_model.startswith(model[:4].encode("utf-8", "replace").decode())


# Refused


async def test_refused() -> None:
    stand = Stand(Refused(42, 0, 2, 1_500_000, level(0, 0), None))
    stand.limit(RPM)
    error = await refused(stand)
    assert (error.kind.name, error.wait_us) == ("requests_limited", 1_500_000)
    assert b"x-ratelimit-remaining-requests: 0\r\n" in stand.down.levels
    assert not stand.holds
    assert await stand.ends() == [], "nothing was taken"
    assert stand.metric(
        "gateway_limit_refusals_total", limit="requests_per_minute", scope="organization", shadow="false"
    )
    assert [one.request_id for one in stand.told.take()] == ["req_1"]
    assert stand.seen.admitted_us == 0


async def test_what_strict_cannot_bound() -> None:
    stand = Stand()
    stand.limit(reserve="strict")
    with pytest.raises(GatewayError) as found:
        await stand.reserve(body={"model": "a-model-nobody-knows", "messages": []})
    assert (found.value.kind.status, found.value.kind.code) == (400, "unbounded_request")
    assert stand.redis.reserved == []


async def test_cancelled_before() -> None:
    assert (await refused(Stand(Cancelled(42)))).kind.name == "limits_unavailable"


# Stale


async def test_limits_that_have_changed_are_learned_and_asked_for_again() -> None:
    document = Stand.document(reserve="strict")
    stand = Stand(Stale(42, 9, False, {"o": document}), Admitted(43, None, None))
    grant = await admitted(stand)
    before, after = stand.redis.reserved
    assert (before[0].limits_version, after[0].limits_version) == (0, 9)
    assert before[1] == after[1] == "req_1", "once only, whatever Redis has heard"
    assert grant.planned.plan is after[0]
    assert stand.plans.organizations == (ORG,)


async def test_a_worker_that_learns_that_it_is_strict_reserves_strictly() -> None:
    stand = Stand(Stale(42, 9, False, {"o": Stand.document(reserve="strict")}), Admitted(43, None, None))
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "x" * 4000}]}
    grant = await stand.reserve(body=body)
    (_, _, usual, event_before, _), (_, _, most, event, _) = stand.redis.reserved
    assert most.tokens > 20 * usual.tokens
    assert grant is not None
    assert grant.estimate.taking == most
    assert b'"nano_usd":%d' % most.nano_usd in event
    assert event != event_before
    stand = Stand(Stale(42, 9, False, {"o": Stand.document(reserve="strict")}), Admitted(43, None, None))
    with pytest.raises(GatewayError, match="no upper bound"):
        await stand.reserve(body={"model": "a-model-nobody-knows", "messages": []})


async def test_limits_that_change_all_the_time() -> None:
    stand = Stand(lambda plan: Stale(42, plan.limits_version + 1, False, {}))
    assert (await refused(stand)).kind.name == "limits_unavailable"
    assert len(stand.redis.reserved) == 3
    assert not stand.holds


async def test_a_key_that_has_changed() -> None:
    stand = Stand(Stale(42, 5, True, {"o": Stand.document()}))
    with pytest.raises(KeyChangedError):
        await stand.reserve()
    assert stand.plans.of(PRINCIPAL, "m").plan.limits_version == 5, "its limits are known now, too"
    assert await stand.ends() == []


# Without Redis

FAILURES = [(AWAY, False), (SLOW, True), (HotLost("lost"), True), (HotReplyError("ERR", "a bug"), True)]


@pytest.mark.parametrize(("failure", "ran"), FAILURES)
async def test_a_call_without_spend_limits_goes_on(failure: RedisFailure, ran: bool) -> None:
    stand = Stand(failure)
    stand.limit(RPM)
    grant = await admitted(stand)
    assert stand.holds == ({"req_1"} if ran else set()), "what may have been made is kept alive"
    assert stand.seen.admitted_us == 0
    assert stand.metric("gateway_limits_without_redis_total", outcome="admitted") == 1
    stand.admission.end(grant, EVENT, True)
    assert await stand.ends() == ([("cancel", ORG, ("req_1",))] if ran else []), (
        "a reserve that comes after its own end would never end"
    )


@pytest.mark.parametrize(("failure", "ran"), FAILURES)
@pytest.mark.parametrize("sent", [True, False])
async def test_what_was_never_reserved_is_not_given_back(failure: RedisFailure, ran: bool, sent: bool) -> None:
    """While Redis is away that would only pile up."""
    stand = Stand(failure)
    stand.limit()
    stand.admission.end(await admitted(stand), None, sent)
    assert not stand.holds
    assert await stand.ends() == ([("cancel", ORG, ("req_1",))] if ran else [])


@pytest.mark.parametrize(("failure", "ran"), FAILURES)
async def test_spend_limits_are_closed(failure: RedisFailure, ran: bool) -> None:
    stand = Stand(failure)
    stand.limit(DAILY)
    error = await refused(stand)
    assert (error.kind.status, dict(error.headers())[b"retry-after"]) == (503, b"1")
    assert not stand.holds
    assert await stand.ends() == ([("cancel", ORG, ("req_1",))] if ran else [])
    assert stand.metric("gateway_limits_without_redis_total", outcome="refused") == 1


async def test_modes_by_kind() -> None:
    for limit, modes in ((RPM, {"rates": "closed"}), (RUNNING, {"concurrency": "closed"}), (DAILY, {})):
        stand = Stand(AWAY, **modes)
        stand.limit(limit)
        assert (await refused(stand)).kind.name == "limits_unavailable"
        shadow = msgspec.structs.replace(limit, shadow=True)
        stand.limit(shadow, version=2)
        await admitted(stand)
        stand.limit(version=3)
        await admitted(stand)
    for limit, modes in ((RPM, {"rates": "open"}), (RUNNING, {"concurrency": "open"}), (DAILY, {"spend": "open"})):
        stand = Stand(AWAY, **modes)
        stand.limit(limit)
        for _ in range(5):
            await admitted(stand)


async def test_limits_that_are_not_known_refuse_where_they_could_be_closed() -> None:
    assert (await refused(Stand(AWAY))).kind.name == "limits_unavailable"
    await admitted(Stand(AWAY, spend="open"))
    assert (await refused(Stand(AWAY, spend="open", rates="closed"))).kind.name == "limits_unavailable"


@pytest.mark.parametrize("failure", [AWAY, SLOW])
async def test_rates_by_itself(failure: RedisFailure) -> None:
    stand = Stand(failure)
    stand.limit(RPM)
    for _ in range(2):
        stand.admission.end(await admitted(stand), EVENT, True)
    await stand.ends()
    error = await refused(stand)
    assert (error.kind.name, error.wait_us) == ("requests_limited", 30_000_000)
    assert not stand.holds
    assert await stand.ends() == ([("cancel", ORG, ("req_1",))] if failure is SLOW else [])
    assert len(stand.told.take()) == 1
    stand.clock.advance(30)
    await admitted(stand)


async def test_concurrency_by_itself_is_given_back_however_the_call_ends() -> None:
    stand = Stand(AWAY)
    stand.limit(RUNNING)
    for how in ("event", "sent", "unsent", "abandoned"):
        grant = await admitted(stand)
        assert (await refused(stand)).kind.name == "requests_limited"
        if how == "abandoned":
            stand.admission.abandon(grant)
        else:
            stand.admission.end(grant, EVENT if how == "event" else None, how == "sent")
    await admitted(stand)


async def test_each_worker_has_its_share() -> None:
    stand = Stand(AWAY)
    stand.limit(RateLimit("requests_per_minute", 8))
    stand.redis.workers = 4
    await stand.leases.renew_now()
    for _ in range(2):
        await admitted(stand)
    await refused(stand)


@pytest.mark.parametrize("spend", ["closed", "open"])
async def test_counters_that_are_not_open(spend: str) -> None:
    stand = Stand(Closed(42), spend=spend)
    stand.limit(DAILY)
    if spend == "closed":
        assert (await refused(stand)).kind.name == "limits_unavailable"
    else:
        await admitted(stand)
    assert not stand.holds, "nothing was taken"


# Leaving


@pytest.mark.parametrize("answer", [Admitted(42, None, None), SLOW])
async def test_a_client_that_leaves_while_it_is_admitted(answer: Admitted | RedisFailure) -> None:
    later = asyncio.get_running_loop().create_future()
    stand = Stand(later)
    task = asyncio.ensure_future(stand.reserve())
    await asyncio.sleep(0)
    assert stand.redis.reserved
    later.set_result(answer)  # and at the same moment
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not stand.holds
    assert await stand.ends() == [("cancel", ORG, ("req_1",))]


async def test_a_mistake_leaves_nothing_behind() -> None:
    def mistaken(_: object) -> Admitted:
        raise ZeroDivisionError

    stand = Stand(mistaken)
    with pytest.raises(ZeroDivisionError):
        await stand.reserve()
    assert await stand.ends() == [("cancel", ORG, ("req_1",))]
    stand = Stand(Admitted(42, level(99, 1), None))  # of a limit that there is not
    with pytest.raises(IndexError):
        await stand.reserve()
    assert not stand.holds, "it would be renewed for ever"


async def test_open_admits_everything() -> None:
    anything = Open()
    await anything.reserve(PRINCIPAL, None)
    anything.end(None, None, True)
    anything.abandon(None)
