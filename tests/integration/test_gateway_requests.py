"""Calls of a whole gateway, explained by its admin API and by `gateway requests show`."""

import json

import pytest

from gateway.__main__ import main
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import ADMIN_KEY, KEY, OTHER_KEY, Answer, Gateway
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import eventually_blocking

LIMITED = {"requests_per_minute": 3, "spend": {"month": 5}}


def id_of(answer: Answer) -> str:
    found = answer.headers["x-request-id"]
    assert found is not None
    return str(found)


def until_known(gateway: Gateway, request_id: str, key: str = ADMIN_KEY) -> None:
    eventually_blocking(lambda: gateway.ask(f"/v1/organization/requests/{request_id}", key=key).status == 200)


def test_what_became_of_a_call(start_gateway: StartGateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Served, streamed, refused; the first upstream of the route cannot be reached."""
    gateway = start_gateway(
        workers={"count": 1},
        upstreams={"away": {"base_url": f"http://127.0.0.1:{free_port()}/v1", "api_key": "none"}},
        routes=[{"models": ["*"], "upstreams": ["away", "simulator"]}],
        projects=[{"id": "proj_a", "keys": [{"name": "one", "secret": KEY, "limits": LIMITED}, {"name": "two", "secret": OTHER_KEY}]}],
    )  # fmt: skip

    def show(request_id: str, *options: str) -> str:
        assert main(["requests", "show", request_id, "--data-dir", str(gateway.data_dir), *options]) == 0
        return capsys.readouterr().out

    def said(request_id: str) -> list[str]:
        return [" ".join(line.split()) for line in show(request_id).splitlines()]

    plain, streamed, third, refused = gateway.chat(), gateway.chat(stream=True), gateway.chat(), gateway.chat()
    assert [one.status for one in (plain, streamed, third, refused)] == [200, 200, 200, 429]
    for one in (plain, streamed, refused):
        until_known(gateway, id_of(one))

    found = json.loads(show(id_of(plain), "--json"))
    used = plain.json()["usage"]
    assert found["settled"]["tokens"] == used["total_tokens"] <= found["reserved"]["tokens"]
    assert found["settled"]["amount"]["value"] == pytest.approx(sum(
        cost["amount"]["value"] for line in found["lines"] for cost in line["costs"]
    ))  # fmt: skip
    assert [(one["upstream"], one["error"], one["status"]) for one in found["attempts"]] == [
        ("away", "upstream_unreachable", None), ("simulator", None, 200)
    ]  # fmt: skip
    lines = said(id_of(plain))
    for line in (
        f"request: {found['id']}", "outcome: served to its end", "project: proj_a", "status: 200",
        "limit checked value counted for", f"requests_per_minute 3 key {found['api_key_id']}",
        f"spend.month $5.00 key {found['api_key_id']}", "requests 1 1",
        f"tokens {found['reserved']['tokens']:,} {used['total_tokens']:,}",
    ):  # fmt: skip
        assert line in lines
    assert id_of(plain) == found["attempts"][-1]["request_id"] != found["id"], "a client sees the upstream's id"
    assert any(line.endswith(f" ms {id_of(plain)}") for line in lines)
    assert said(found["id"]) == lines
    assert any(line.startswith("- away upstream_unreachable") for line in lines)
    assert any(line.startswith("completions / gpt-4o-mini") for line in lines)

    assert "limit checked value counted for" in said(id_of(streamed))
    assert json.loads(show(id_of(streamed), "--json"))["stream"]

    lines = said(id_of(refused))
    assert "outcome: refused by a limit" in lines
    assert f"refused requests_per_minute key {found['api_key_id']} 3 3 1" in lines

    path = f"/v1/organization/requests/{id_of(plain)}"
    assert [gateway.ask(path, key=key).status for key in (KEY, OTHER_KEY)] == [200, 404], "a key asks for its own calls"
    assert main(["requests", "show", "req_none", "--data-dir", str(gateway.data_dir)]) == 1
    assert capsys.readouterr().err.startswith("gateway: No such request: 'req_none'. Calls are kept for 7 days")
