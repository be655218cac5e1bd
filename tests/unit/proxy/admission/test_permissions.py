"""What a project may use, as tables."""

from typing import Any

import pytest

from gateway.errors import MODEL_DENIED, TIER_DENIED, TOOL_DENIED, GatewayError
from gateway.limits import HOSTED_TOOLS, ModelPermissions, Permissions
from gateway.operations.table import load_operations
from gateway.proxy.admission.permissions import Rules
from tests.fakes.estimates import form_request, json_request

OPERATIONS = {one.id: one for one in load_operations()}


def refusal(
    permissions: Permissions,
    body: bytes | dict[str, Any] | None = None,
    operation: str = "createResponse",
    *upstream_models: str,
    model: str = "",
) -> GatewayError | None:
    request = json_request(body) if body is not None else form_request(None, model)
    model = model or request.model or ""
    return Rules("proj_1", permissions).refusal(
        OPERATIONS.get(operation), model, upstream_models or ([model] if model else []), request
    )


# Models


def allow(*models: str) -> Permissions:
    return Permissions(models=ModelPermissions("allow_list", models))


def deny(*models: str) -> Permissions:
    return Permissions(models=ModelPermissions("deny_list", models))


@pytest.mark.parametrize(
    ("permissions", "model", "upstream", "passes"),
    [
        (deny("gpt-4o"), "gpt-4o", [], False),
        (deny("gpt-4o"), "GPT-4o", [], False),
        (deny("gpt-4o"), " gpt-4o ", [], False),
        (deny("gpt-4o"), "gpt-4o-mini", [], True),
        (deny("gpt-4o"), "gpt-4o-2024-08-06", [], True),
        (deny("gpt-4o"), "ft:gpt-4o:acme::abc123", [], False),
        (deny("gpt-4o"), "FT:GPT-4o:acme::abc123:ckpt-step-88", [], False),
        (deny("gpt-4o"), "ft:gpt-4o-mini:acme::abc123", [], True),
        (deny("gpt-4o"), "ft:", [], True),
        (deny("ft:gpt-4o:acme::abc123"), "ft:gpt-4o:acme::abc123", [], False),
        (deny("ft:gpt-4o:acme::abc123"), "ft:gpt-4o:acme::other", [], True),
        (deny("gpt-4o"), "smart", ["gpt-4o"], False),
        (deny("gpt-4o"), "smart", ["llama", "GPT-4o"], False),
        (deny("gpt-4o"), "smart", ["ft:gpt-4o:acme::abc123"], False),
        (deny("gpt-4o"), "smart", ["llama"], True),
        (deny("smart"), "smart", ["llama"], False),
        (deny(), "gpt-4o", [], True),
        (allow("gpt-4o"), "gpt-4o", [], True),
        (allow("gpt-4o"), "GPT-4o", [], True),
        (allow("gpt-4o"), "gpt-4o-mini", [], False),
        (allow("gpt-4o"), "ft:gpt-4o:acme::abc123", [], False),
        (allow("ft:gpt-4o:acme::abc123"), "ft:gpt-4o:acme::abc123", [], True),
        (allow("gpt-4o"), "smart", ["gpt-4o"], True),
        (allow("gpt-4o"), "smart", ["gpt-4o", "llama"], False),
        (allow("smart"), "smart", ["gpt-4o", "llama"], True),
        (allow("gpt-4o"), "gpt-4o", ["our-deployment"], True),
        (allow("gpt-4o"), "smart", ["llama"], False),
        (allow(), "gpt-4o", [], False),
    ],
)
def test_models(permissions: Permissions, model: str, upstream: list[str], passes: bool) -> None:
    for body in ({"model": model}, None):  # JSON, and a form
        error = refusal(permissions, body, "createResponse", *upstream, model=model)
        assert (error is None) == passes
        if error is not None:
            assert error.kind is MODEL_DENIED
            assert error.message == f"Project `proj_1` does not have access to model `{model}`"


@pytest.mark.parametrize(
    ("permissions", "operation", "named"),
    [
        (deny("dall-e-2"), "createImage", "dall-e-2"),
        (deny("gpt-image-1.5"), "createImage", "gpt-image-1.5"),
        (allow("dall-e-2"), "createImage", "gpt-image-1.5"),
        (allow("dall-e-2", "gpt-image-1.5"), "createImage", None),
        (allow("gpt-4o"), "createModeration", "omni-moderation-latest"),
        (allow("gpt-4o"), "createVideo", "sora-2"),
        (allow("gpt-4o"), "createResponse", None),  # of a stored prompt
        (allow("gpt-4o"), "createFile", None),
        (allow("gpt-4o"), "", None),
    ],
)
def test_requests_that_name_no_model(permissions: Permissions, operation: str, named: str | None) -> None:
    error = refusal(permissions, {"input": "x"}, operation)
    assert (error.message if error is not None else None) == (
        f"Project `proj_1` does not have access to model `{named}`" if named else None
    )


def test_models_that_are_looked_at_are_not_used() -> None:
    for operation in ("retrieveModel", "deleteModel"):
        assert refusal(deny("gpt-4o"), None, operation, model="gpt-4o") is None


def test_long_models_are_told_apart_and_shown_cut() -> None:
    error = refusal(deny("x" * 300), {"model": "x" * 300})
    assert error is not None
    assert len(error.message) < 300
    assert refusal(deny("x" * 300), {"model": "x" * 299}) is None


# Hosted tools

NO_TOOLS = Permissions(denied_tools=HOSTED_TOOLS)


@pytest.mark.parametrize(
    ("kind", "tool"),
    [
        ("file_search", "file_search"),
        ("web_search", "web_search"),
        ("web_search_preview", "web_search"),
        ("web_search_preview_2025_03_11", "web_search"),
        ("web_search_2025_08_26", "web_search"),
        ("Web_Search", "web_search"),
        ("image_generation", "image_generation"),
        ("mcp", "mcp"),
        ("code_interpreter", "code_interpreter"),
        ("function", None),
        ("custom", None),
        ("shell", None),
        ("web_search_call", None),
        ("mcp_list_tools", None),
    ],
)
def test_tools(kind: str, tool: str | None) -> None:
    body = {"tools": [{"type": "function", "name": "mcp"}, {"type": kind}]}
    error = refusal(NO_TOOLS, body)
    assert (error is not None) == (tool is not None)
    if error is not None:
        assert (error.kind, error.param) == (TOOL_DENIED, "tools")
        assert error.message == f"Project `proj_1` does not have access to the hosted tool `{tool}`."
    others = Permissions(denied_tools=tuple(one for one in HOSTED_TOOLS if one != tool))
    assert refusal(others, body) is None


@pytest.mark.parametrize(
    ("body", "passes"),
    [
        (b'{"tools":[{"type":"mcp"}],"tools":[]}', False),
        (b'{"tools":[],"tools":[{"type":"mcp"}]}', False),
        (b'{"tools":[{"type":"mcp"}],"tools":null}', False),
        (b'{"t\\u006fols":[{"type":"mcp"}],"tools":[]}', False),
        (b'{"tools":[{"type":"web_search_2025_08_2\\u0036"}],"tools":[]}', False),
        (b'{"tools":[{"t\\u0079pe":"m\\u0063p"}]}', False),
        (b'{"input":[{"type":"additional_tools","tools":[{"type":"mcp"}]}]}', False),
        (b'{"input":[{"type":"additional_tools","tools":[{"type":"function"}]}]}', True),
        (b'{"input":[{"type":"mcp_list_tools","tools":[{"name":"x"}]},{"type":"file_search_call"}]}', True),
        (b'{"session":{"tools":[{"type":"mcp"}]}}', False),
        (b'{"input":"\\"tools\\":[{\\"type\\":\\"mcp\\"}]"}', True),
        (b'{"input":"\\ud83d","tools":[{"type":"mcp"}]}', False),
        (b'{"metadata":{"type":"mcp"},"tools":[{"type":"function"}]}', True),
        (b'{"tools":{"type":"mcp"}}', True),
        (b'{"tools":["mcp",5,null,{"type":5}]}', True),
        (b'{"tools":null}', True),
        (b'{"tool_choice":{"type":"mcp"}}', True),
        (b'{"web_search_options":{}}', False),
        (b'{"web_search_options":null}', True),
        (b'{"web_search_options":{},"web_search_options":null}', False),
        (b'{"tools":[{"type":"web_search","type":"function"}]}', False),
        (b'{"tools":[{"type":"function","type":"web_search"}]}', False),
        (b'{"tools":[{"type":"function","parameters":{"type":"web_search"}}]}', True),
        (b'{"tools":[{"type":"function","parameters":{"type":"object","default":{"type":"web_search"}}}]}', True),
    ],
)
def test_where_tools_are_found(body: bytes, passes: bool) -> None:
    assert (refusal(NO_TOOLS, body) is None) == passes
    assert refusal(Permissions(denied_tools=("image_generation",)), body) is None


def test_a_body_that_is_not_read_has_no_tools() -> None:
    assert refusal(NO_TOOLS, None, "createImageEdit", model="gpt-image-1") is None


# Service tiers


@pytest.mark.parametrize(
    ("tiers", "default", "refused"),
    [
        (None, None, set()),
        ((), None, {"flex", "fast", "priority", "scale", "ultrafast", "other"}),
        ((), "standard", {"flex", "fast", "priority", "scale", "ultrafast", "other"}),
        ((), "fast", {"flex", "scale", "ultrafast", "other"}),
        ((), "scale", {"flex", "fast", "priority", "ultrafast", "other"}),
        (("fast",), None, {"flex", "scale", "ultrafast", "other"}),
        (("priority", "flex"), None, {"scale", "ultrafast", "other"}),
    ],
)
def test_tiers(tiers: tuple[str, ...] | None, default: str | None, refused: set[str]) -> None:
    for tier in ("auto", "default", "standard", "flex", "fast", "priority", "scale", "ultrafast", "other"):
        for written in (tier, tier.upper()):
            error = refusal(Permissions(tiers=tiers, default_tier=default), {"service_tier": written})
            assert (error is not None) == (tier in refused), tier
            if error is not None:
                assert (error.kind, error.param) == (TIER_DENIED, "service_tier")
                assert error.message == (
                    "Invalid service_tier argument: The requested service tier is not allowed for this project."
                )
    for unsaid in ({}, {"service_tier": None}, {"service_tier": 5}):
        assert refusal(Permissions(tiers=tiers, default_tier=default), unsaid) is None


@pytest.mark.parametrize(
    ("default", "sent"),
    [(None, ""), ("standard", ""), ("fast", "priority"), ("priority", "priority"), ("scale", "scale")],
)
def test_the_tier_that_is_sent(default: str | None, sent: str) -> None:
    rules = Rules("proj_1", Permissions(default_tier=default, tiers=("flex", "ultrafast")))

    def tier(operation: str, body: dict[str, Any]) -> str:
        return rules.tier(OPERATIONS.get(operation), json_request(body).head)

    for operation in ("createChatCompletion", "createResponse", "connectResponses"):
        for unsaid in ({}, {"service_tier": "auto"}, {"service_tier": None}):
            assert tier(operation, {"model": "m"} | unsaid) == sent
        for said in ("default", "flex", "priority", "ultrafast"):
            assert tier(operation, {"service_tier": said}) == ""
    for operation in ("createEmbedding", "createCompletion", "createFile", ""):
        assert tier(operation, {"model": "m"}) == "", "it knows no tiers"
