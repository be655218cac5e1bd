"""What a project may use when calls are admitted, with a Redis that answers as a test says: always by the newest."""

from typing import Any

import pytest

from gateway.accounts.answers import Admitted, Refused, Stale
from gateway.errors import GatewayError
from gateway.limits import CONCURRENT, ModelPermissions, Permissions
from gateway.proxy.admission.reserve import Grant, KeyChangedError, Wanted
from gateway.redisdb.failures import HotTimeout, HotUnavailable
from tests.fakes.estimates import form_request
from tests.unit.proxy.admission.kit import ORG, PRINCIPAL, Stand

AWAY = HotUnavailable("away")
SLOW = HotTimeout("slow")
NEWEST = Refused(42, 0, 0, None, None, None)  # what the question is answered, if nothing has changed
DENIED = Permissions(models=ModelPermissions("deny_list", ("gpt-5-mini",)))


async def admitted(stand: Stand) -> Grant:
    grant = await stand.reserve()
    assert grant is not None
    return grant


async def refused(stand: Stand) -> GatewayError:
    with pytest.raises(GatewayError) as found:
        await stand.reserve()
    return found.value


def permitting(permissions: Permissions | None, version: int) -> Stale:
    return Stale(42, version, False, {"p:proj_1": Stand.document(permissions=permissions)})


def knowing(permissions: Permissions, *replies: Any) -> Stand:
    """version: 1."""
    stand = Stand(*replies)
    stand.plans.update(ORG, 1, {"p:proj_1": Stand.document(permissions=permissions)}, since=0)
    return stand


@pytest.mark.parametrize("reply", [NEWEST, AWAY, SLOW])
async def test_what_the_project_may_not_use_is_refused_by_what_is_known(reply: Any) -> None:
    """Redis is asked whether that is the newest, by a plan that takes nothing from anybody."""
    stand = knowing(DENIED, reply)
    error = await refused(stand)
    assert (error.kind.status, error.kind.code, error.param) == (403, "model_not_found", None)
    assert error.message == "Project `proj_1` does not have access to model `gpt-5-mini`"
    ((plan, _, _, event, _),) = stand.redis.reserved
    assert [(entry.limit.kind, entry.limit.limit) for entry in plan.entries] == [(CONCURRENT, 0)]  # type: ignore[union-attr]
    assert (plan.limits_version, plan.key_version, event) == (1, 3, b"")
    assert not stand.holds
    assert await stand.ends() == []


async def test_a_permission_that_was_taken_away() -> None:
    stand = Stand(permitting(DENIED, 9), NEWEST)
    assert (await refused(stand)).kind.name == "model_denied"
    assert [plan.limits_version for plan, *_ in stand.redis.reserved] == [0, 9]


@pytest.mark.parametrize("now", [None, Permissions(denied_tools=("mcp",))])
async def test_a_permission_that_was_given(now: Permissions | None) -> None:
    stand = knowing(DENIED, permitting(now, 2), Admitted(43, None, None))
    assert (await admitted(stand)).planned.plan.limits_version == 2


async def test_permissions_that_change_all_the_time() -> None:
    stand = knowing(DENIED, lambda plan: permitting(DENIED, plan.limits_version + 1))
    assert (await refused(stand)).kind.name == "limits_unavailable"


async def test_a_key_that_changed_hears_no_refusal() -> None:
    stand = knowing(DENIED, Stale(42, 1, True, {}))
    with pytest.raises(KeyChangedError):
        await stand.reserve()


async def test_a_free_call_that_says_something_goes_by_the_newest_permissions() -> None:
    body = {"model": "gpt-4o", "tools": [{"type": "code_interpreter"}]}
    denied = Permissions(denied_tools=("code_interpreter",))
    stand = Stand(permitting(denied, 9), NEWEST)
    with pytest.raises(GatewayError) as found:
        await stand.reserve("createAssistant", body)
    assert (found.value.kind.code, found.value.param) == ("tool_not_allowed", "tools")
    stand.redis.replies = [permitting(None, 10), NEWEST]
    assert await stand.reserve("createAssistant", body) is None
    for reply in (AWAY, SLOW):
        stand.redis.replies = [reply]
        assert await stand.reserve("createAssistant", body) is None
    assert not stand.holds
    assert await stand.ends() == []


async def test_what_only_asks_takes_nothing() -> None:
    stand = knowing(DENIED, NEWEST)
    operation = stand.operations["connectRealtime"]

    async def ask(model: str) -> Grant | None:
        stand.seen.model = model
        request = form_request(0, model)
        return await stand.admission.reserve(
            PRINCIPAL, Wanted(operation, request, stand.seen, stand.down, [model], takes=False)
        )

    assert await ask("gpt-realtime") is None
    with pytest.raises(GatewayError, match="does not have access"):
        await ask("gpt-5-mini")
    assert not stand.holds


@pytest.mark.parametrize("mode", ["strict", "adaptive"])
async def test_a_tier_in_the_clients_place_is_reserved_for(mode: Any) -> None:
    taken = {}
    for default in (None, "standard", "fast"):
        stand = knowing(Permissions(default_tier=default))
        stand.plans.update(ORG, 2, {"o": Stand.document(reserve=mode)}, since=1)
        grant = await admitted(stand)
        assert grant.tier == ("priority" if default == "fast" else "")
        taken[default] = grant.estimate.taking.nano_usd
        asked = await stand.reserve(
            body={"model": "gpt-5-mini", "messages": [], "max_tokens": 10, "service_tier": "priority"}
        )
        assert asked is not None
        assert asked.tier == ""
        taken["asked"] = asked.estimate.taking.nano_usd
    assert taken[None] == taken["standard"] < taken["fast"]
    assert taken["fast"] == pytest.approx(taken["asked"], rel=0.2)
