"""What a project may use and what a key is restricted to, through a worker and a real Redis."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.credentials import digest
from gateway.limits import LimitDocument, ModelPermissions, Permissions, RateLimit, SpendLimit
from tests.fakes.frames import TEXT, frame, handshake, handshaken, opened, read_frame, switching
from tests.fakes.limited import Limited, limited, limits
from tests.fakes.redis_servers import Server, StartServer
from tests.fakes.socket_room import REALTIME, RESPONSES, Talk
from tests.fakes.upstream import answer, saying
from tests.fakes.wire import soon
from tests.fakes.worker import KEY, Client, Response

CHAT, ASSISTANTS, TRANSCRIPTIONS = "/v1/chat/completions", "/v1/assistants", "/v1/audio/transcriptions"
ANSWERS = saying(answer(json.dumps({
    "id": "chatcmpl-1", "model": "gpt-5-mini-2025-08-07",
    "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
}).encode()))  # fmt: skip
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--b--\r\n'
)
IS_FORM = b"Content-Type: multipart/form-data; boundary=b"
EVERYTHING = Permissions()


def deny(*models: str) -> Permissions:
    return Permissions(models=ModelPermissions("deny_list", models))


def allow(*models: str) -> Permissions:
    return Permissions(models=ModelPermissions("allow_list", models))


async def permit(stand: Limited, permissions: Permissions | None) -> None:
    await stand.publish({"p:proj_1": LimitDocument(permissions=permissions)})


async def chat(stand: Limited, model: str = "gpt-5-mini", **members: Any) -> Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Say it."}], "max_tokens": 50} | members
    return await stand.gw.ask(CHAT, json.dumps(body).encode())


def last_body(stand: Limited) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stand.up.last.body)
    return found


# Models


async def test_a_model_that_the_project_may_not_use(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await permit(stand, deny("gpt-4o"))
        for model in ("gpt-4o", "GPT-4o", "ft:gpt-4o:acme::1"):  # the first one without anything being known yet
            found = await chat(stand, model)
            assert found.status == 403
            assert found.error == {
                "message": f"Project `proj_1` does not have access to model `{model}`",
                "type": "invalid_request_error",
                "param": None,
                "code": "model_not_found",
            }
            assert stand.gw.access[-1]["error"] == "model_denied"
        assert stand.up.requests == []
        assert (await chat(stand, "gpt-5-mini")).status == 200
        await stand.settled()
        assert len(stand.events()) == 1, "refusals are no usage"
        assert stand.gw.metric("gateway_reservations") == 0


async def test_each_change_holds_for_the_very_next_call(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        for permissions, status in (
            (None, 200), (deny("gpt-5-mini"), 403), (EVERYTHING, 200), (allow("gpt-4o"), 403),
            (allow("gpt-4o", "gpt-5-mini"), 200), (allow(), 403), (None, 200),
        ):  # fmt: skip
            await permit(stand, permissions)
            assert (await chat(stand)).status == status, permissions
        await stand.publish({"p:proj_1": LimitDocument(permissions=deny("gpt-5-mini"))})
        assert (await chat(stand)).status == 403
        await stand.publish({"p:proj_1": None})
        assert (await chat(stand)).status == 200
        await stand.publish({"p:proj_2": LimitDocument(permissions=deny("gpt-5-mini"))})
        assert (await chat(stand)).status == 200, "another's"
        await stand.settled()


async def test_a_route_is_no_way_around(valkey: Server, tmp_path: Path) -> None:
    routes = [
        {"models": ["smart"], "upstreams": [{"upstream": "main", "upstream_model": "gpt-4o"}]},
        {"models": ["*"], "upstreams": ["main"]},
    ]
    async with limited(valkey, tmp_path, ANSWERS, routes=routes) as stand:
        for permissions, status in (
            (deny("gpt-4o"), 403), (deny("smart"), 403), (deny("gpt-5-mini"), 200), (allow("gpt-4o"), 200),
            (allow("smart"), 200), (allow("gpt-5-mini"), 403),
        ):  # fmt: skip
            await permit(stand, permissions)
            found = await chat(stand, "smart")
            assert found.status == status, permissions
            if status == 403:
                assert found.error["message"] == "Project `proj_1` does not have access to model `smart`"
        await stand.settled()


async def test_models_of_forms_and_models_unsaid(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await permit(stand, allow("whisper-1"))
        assert (await stand.gw.ask(TRANSCRIPTIONS, FORM % b"whisper-1", IS_FORM)).status == 200
        found = await stand.gw.ask(TRANSCRIPTIONS, FORM % b"gpt-4o-transcribe", IS_FORM)
        assert (found.status, found.error["code"]) == (403, "model_not_found")
        found = await stand.gw.ask("/v1/moderations", b'{"input":"x"}')
        assert found.error["message"] == "Project `proj_1` does not have access to model `omni-moderation-latest`"
        assert (await stand.gw.ask("/v1/models/gpt-4o")).status == 200, "which is looked at"
        assert (await stand.gw.ask("/v1/brand/new", b'{"model":"gpt-4o"}')).status == 403
        assert len(stand.up.requests) == 2
        await stand.settled()


async def test_calls_that_take_nothing_are_exact_too(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path) as stand:
        body = b'{"model":"gpt-4o","tools":[{"type":"code_interpreter"}]}'
        for permissions, status in (
            (deny("gpt-4o"), 403), (None, 200), (Permissions(denied_tools=("code_interpreter",)), 403), (EVERYTHING, 200)
        ):  # fmt: skip
            await permit(stand, permissions)
            assert (await stand.gw.ask(ASSISTANTS, body)).status == status
        assert len(stand.up.requests) == 2
        await stand.settled()


async def test_what_is_known_holds_while_redis_is_away(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    async with limited(server, tmp_path, ANSWERS, deadline_ms=500, tidy=False) as stand:
        await permit(stand, deny("gpt-4o"))
        assert (await chat(stand)).status == 200
        await stand.settled()
        server.kill()
        assert (await chat(stand, "gpt-4o")).status == 403
        assert (await stand.gw.ask(ASSISTANTS, b'{"model":"gpt-4o"}')).status == 403
        assert (await chat(stand)).status == 200
        assert (await stand.gw.ask(ASSISTANTS, b'{"model":"gpt-5-mini"}')).status == 200


# Hosted tools


async def test_a_tool_that_the_project_may_not_use(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await permit(stand, Permissions(denied_tools=("web_search", "mcp")))
        refused: tuple[tuple[str, dict[str, Any]], ...] = (
            ("web_search", {"tools": [{"type": "function", "name": "x"}, {"type": "web_search_preview_2025_03_11"}]}),
            ("mcp", {"tools": [{"type": "mcp", "server_label": "x"}]}),
            ("mcp", {"input": [{"type": "additional_tools", "role": "developer", "tools": [{"type": "mcp"}]}]}),
        )
        for tool, members in refused:
            found = await stand.gw.ask("/v1/responses", json.dumps({"model": "gpt-5-mini"} | members).encode())
            assert found.status == 403
            assert found.error == {
                "message": f"Project `proj_1` does not have access to the hosted tool `{tool}`.",
                "type": "invalid_request_error",
                "param": "tools",
                "code": "tool_not_allowed",
            }
        assert (await chat(stand, web_search_options={})).error["code"] == "tool_not_allowed"
        assert stand.up.requests == []
        assert (await chat(stand, tools=[{"type": "function", "function": {"name": "mcp"}}])).status == 200
        body = b'{"model":"gpt-5-mini","tools":[{"type":"image_generation"}]}'
        assert (await stand.gw.ask("/v1/responses", body)).status == 200
        await permit(stand, None)
        assert (await chat(stand, web_search_options={})).status == 200
        await stand.settled()


# Service tiers


async def test_a_tier_that_the_project_may_not_use(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await permit(stand, Permissions(tiers=("flex",)))
        for tier in ("priority", "fast", "scale"):
            found = await chat(stand, service_tier=tier)
            assert found.status == 400
            assert found.error == {
                "message": "Invalid service_tier argument: The requested service tier is not allowed for this project.",
                "type": "invalid_request_error",
                "param": "service_tier",
                "code": None,
            }
        assert stand.up.requests == []
        for passed in ("flex", "default", "auto", None):
            assert (await chat(stand, service_tier=passed)).status == 200
            assert last_body(stand)["service_tier"] == passed, "as it came"
        await permit(stand, Permissions(tiers=("fast",)))
        assert (await chat(stand, service_tier="priority")).status == 200
        assert (await chat(stand, service_tier="flex")).status == 400
        await stand.settled()


async def test_the_projects_tier_is_sent_where_the_client_says_none(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        for default, sent in (("fast", "priority"), ("scale", "scale"), ("standard", None), (None, None)):
            await permit(stand, Permissions(default_tier=default, tiers=("flex",)))
            assert (await chat(stand)).status == 200
            assert last_body(stand).get("service_tier") == sent
            assert (await chat(stand, service_tier="auto")).status == 200
            assert last_body(stand)["service_tier"] == (sent or "auto")
            assert (await chat(stand, service_tier="flex")).status == 200
            assert last_body(stand)["service_tier"] == "flex"
            assert (await stand.gw.ask("/v1/embeddings", b'{"model":"m","input":"x"}')).status == 200
            assert stand.up.last.body == b'{"model":"m","input":"x"}'
        await permit(stand, Permissions(default_tier="fast"))
        assert (await chat(stand, stream=True)).status == 200
        assert last_body(stand)["stream_options"] == {"include_usage": True}
        assert last_body(stand)["service_tier"] == "priority"
        await stand.settled()


# Keys that are restricted


async def test_a_key_without_the_scope(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        stand.add_key(KEY, scopes=("api.files.read", "api.embeddings.write"))
        client = await stand.gw.connect()
        client.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + KEY.encode()
            + b"\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
        )  # fmt: skip
        found = await client.response("POST")  # none of its body has come
        assert found.status == 401
        assert found.error == {
            "message": "You have insufficient permissions for this operation. Missing scopes: api.chat.write. Check that "
            "you have the correct role in your organization (Reader, Writer, Owner) and project (Member, Owner), and if "
            "you're using a restricted API key, that it has the necessary scopes.",
            "type": "invalid_request_error",
            "param": None,
            "code": "insufficient_permissions",
        }
        assert stand.gw.access[-1]["error"] == "missing_scopes"
        for target, body, status in (
            ("/v1/files", None, 200), ("/v1/models", None, 401), ("/v1/brand/new", None, 401),
            ("/v1/embeddings", b'{"model":"m","input":"x"}', 200), ("/v1/files", b"{}", 401),
        ):  # fmt: skip
            assert (await stand.gw.ask(target, body)).status == status, target
        assert (await handshaken(await stand.gw.connect(), "/v1/realtime?model=m")).status == 401
        assert len(stand.up.requests) == 2
        await stand.settled()


async def test_a_scope_that_is_taken_away_unheard(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        stand.add_key(KEY, scopes=("api.model.request",))
        assert (await chat(stand)).status == 200
        await stand.change_key(scopes=("api.embeddings.write",))
        assert (await chat(stand)).error["code"] == "insufficient_permissions"
        assert (await chat(stand)).error["code"] == "insufficient_permissions"
        await stand.change_key(scopes=())
        stand.gw.worker.keys.invalidate(digest(KEY))
        assert (await chat(stand)).status == 200
        await stand.settled()
        assert len(stand.up.requests) == 2


# Sockets


def say(client: Client, kind: str, **members: Any) -> None:
    client.send(frame(TEXT, json.dumps({"type": kind, **members}).encode(), mask=True))


async def hear(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((await soon(read_frame(client))).data)
    return found


async def test_a_socket_of_a_model_that_the_project_may_not_use(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, switching(Talk())) as stand:
        await permit(stand, deny("gpt-realtime"))
        client = await stand.gw.connect()
        client.send(handshake(REALTIME))
        found = await client.response()
        assert (found.status, found.error["code"]) == (403, "model_not_found")
        assert stand.up.requests == []
        await permit(stand, deny("gpt-4o"))
        await opened(stand.gw, REALTIME)
        assert len(stand.up.requests) == 1


async def test_each_response_of_a_socket_goes_by_the_newest_permissions(valkey: Server, tmp_path: Path) -> None:
    talk = Talk()
    async with limited(valkey, tmp_path, switching(talk)) as stand:
        client = await opened(stand.gw, RESPONSES)
        said = {"model": "gpt-5-mini", "input": "Hello"}
        for permissions, members, code in (
            (deny("gpt-5-mini"), {}, "model_not_found"),
            (None, {}, ""),
            (Permissions(denied_tools=("mcp",)), {"tools": [{"type": "mcp"}]}, "tool_not_allowed"),
            (Permissions(denied_tools=("web_search",)), {"tools": [{"type": "mcp"}]}, ""),
            (Permissions(tiers=()), {"service_tier": "flex"}, None),
            (Permissions(tiers=("flex",), default_tier="fast"), {"service_tier": "flex"}, ""),
        ):
            await permit(stand, permissions)
            say(client, "response.create", **said, **members)
            if code == "":
                heard = await talk.heard("response.create")
                assert heard == {"type": "response.create", **said, **members}
                await talk.begins("resp_1")
                await talk.ends("resp_1", "response.completed")
                assert [(await hear(client))["type"] for _ in range(2)] == ["response.created", "response.completed"]
            else:
                error = await hear(client)
                assert (error["type"], error["error"]["code"]) == ("error", code)
                assert error["status"] == (403 if code else 400)
        say(client, "response.create", **said)
        heard = await talk.heard("response.create")
        assert heard == {"type": "response.create", **said, "service_tier": "priority"}


async def test_what_a_realtime_session_is_told(valkey: Server, tmp_path: Path) -> None:
    talk = Talk()
    async with limited(valkey, tmp_path, switching(talk)) as stand:
        client = await opened(stand.gw, REALTIME)
        await talk.says("session.created", session={"type": "realtime", "model": "gpt-realtime"})
        await hear(client)
        mcp = {"tools": [{"type": "mcp", "server_label": "x"}]}
        both = Permissions(models=ModelPermissions("deny_list", ("gpt-4o", "whisper-1")), denied_tools=("mcp",))
        for kind, members, code in (
            ("session.update", {"session": {"model": "gpt-4o"}}, "model_not_found"),
            ("session.update", {"session": mcp}, "tool_not_allowed"),
            (
                "session.update",
                {"session": {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}},
                "model_not_found",
            ),
            ("response.create", {"response": {"model": "gpt-4o"}}, "model_not_found"),
            ("response.create", {"response": mcp}, "tool_not_allowed"),
        ):
            await permit(stand, both)
            say(client, kind, event_id="mine", **members)
            error = (await hear(client))["error"]
            assert (error["code"], error["event_id"]) == (code, "mine")
            await permit(stand, None)
            say(client, kind, **members)
            assert await talk.heard(kind) == {"type": kind, **members}
        await permit(stand, deny("gpt-realtime"))
        say(client, "response.create")
        assert (await hear(client))["error"]["code"] == "model_not_found"


async def test_a_socket_ends_with_its_keys_scope(valkey: Server, tmp_path: Path) -> None:
    talk = Talk()
    async with limited(valkey, tmp_path, switching(talk)) as stand:
        stand.add_key(KEY, scopes=("api.responses.write",))
        client = await opened(stand.gw, RESPONSES)
        say(client, "response.create", model="gpt-5-mini", input="x")
        await talk.heard("response.create")
        await stand.change_key(scopes=("api.chat.write",))
        say(client, "response.create", model="gpt-5-mini", input="x")
        assert (await hear(client))["error"]["code"] == "insufficient_permissions"
        await soon(client.ended.wait())


async def test_permissions_and_limits_hold_together(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        own = limits(RateLimit("requests_per_day", 2), SpendLimit("day", 10**12))
        await stand.publish({"p:proj_1": LimitDocument(own=own, permissions=deny("gpt-4o"))})
        assert [(await chat(stand, model)).status for model in ("gpt-4o", "gpt-5-mini") * 3] == [
            403, 200, 403, 200, 403, 429,
        ]  # fmt: skip
        await stand.settled()


@pytest.mark.parametrize("model", ["x" * 100_000, 'quo"ted\\', "sk-proj-abcdefghijklmnop"])
async def test_models_are_the_clients_words(model: str, valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await permit(stand, allow("gpt-4o"))
        found = await chat(stand, model)
        assert found.error["code"] == "model_not_found"
        assert len(found.error["message"]) < 300
        assert "abcdefgh" not in found.error["message"]
