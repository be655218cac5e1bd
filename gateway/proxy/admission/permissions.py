"""What a project may use: models, hosted tools and service tiers. No I/O.

What a request itself says is looked at, and nothing that it only refers to: not the tools of stored prompts, of
assistants and agents, nor the models that these bring; not the lines of a batch's file; not that some models search the
web unasked.
"""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.errors import MODEL_DENIED, TIER_DENIED, TOOL_DENIED, GatewayError
from gateway.limits import HOSTED_TOOLS, Permissions
from gateway.operations.table import Operation
from gateway.proxy.admission.contents import plainly
from gateway.proxy.admission.estimate import Request
from gateway.values import HeadFacts

# What answers where a request names no model (2026-08: the requests' `model`). Of an image the parameters decide.
_UNNAMED: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "createImage": ("dall-e-2", "gpt-image-1.5"),
    "createImageEdit": ("gpt-image-1.5",),
    "createImageVariation": ("dall-e-2",),
    "createModeration": ("omni-moderation-latest",),
    "createVideo": ("sora-2",),
})  # fmt: skip
# Operations whose requests have a `service_tier` (2026-08).
_TIERED = frozenset({"createChatCompletion", "createResponse", "Compactconversation", "connectResponses"})
_UNDECIDED = frozenset({"", "auto"})
_STANDARD = frozenset({"default", "standard"})
_SAME_TIER: Mapping[str, str] = MappingProxyType({"priority": "fast"})
_SENT: Mapping[str, str] = MappingProxyType({"fast": "priority"})  # every version of the API knows this name for it
_LONGEST_MODEL = 200
_TOOLS = re.compile(rb'"tools"')
_OPTIONS = re.compile(rb'"web_search_options"')
_NO_OPTIONS = re.compile(rb'"web_search_options"[ \t\r\n]*:[ \t\r\n]*null')
_TYPE = re.compile(rb'"type"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.){1,200}")')
_HOSTED = re.compile(rf"({'|'.join(HOSTED_TOOLS)})(?:_preview.*|(?:_[0-9]+)*)")  # `web_search_preview_2025_03_11`

_decode = msgspec.json.Decoder().decode


class Rules:
    """A project's permissions, ready to be asked. default_tier: as upstreams are told, empty for none."""

    __slots__ = ("_all_models", "_allows", "_denied_tools", "_models", "_project_id", "_tiers", "default_tier")

    def __init__(self, project_id: str, permissions: Permissions) -> None:
        models = permissions.models
        self._project_id = project_id
        self._all_models = models is None
        self._allows = models is not None and models.mode == "allow_list"
        self._models = frozenset(map(_plain, models.models)) if models is not None else frozenset()
        self._denied_tools = frozenset(permissions.denied_tools)
        default = (permissions.default_tier or "").lower()
        default = _SAME_TIER.get(default, default)
        tiers = permissions.tiers
        self._tiers: frozenset[str] | None = None
        if tiers is not None:
            self._tiers = _STANDARD | _UNDECIDED | {_SAME_TIER.get(tier.lower(), tier.lower()) for tier in tiers}
            self._tiers |= {default}  # whoever may not ask for it gets it by saying nothing
        self.default_tier = "" if default in _STANDARD | _UNDECIDED else _SENT.get(default, default)

    def refusal(
        self, operation: Operation | None, model: str, upstream_models: Sequence[str], request: Request
    ) -> GatewayError | None:
        """Why a request may not be made: MODEL_DENIED, TOOL_DENIED (403) or TIER_DENIED (400); None if it may.

        model: as the client names it, empty for none. upstream_models: as the route's upstreams call it.
        """
        if operation is not None and "path" in operation.model:
            return None  # such a model is looked at, or deleted, and not used
        if not self._all_models:
            denied = self._denied_model(operation, model, upstream_models)
            if denied is not None:
                return GatewayError(MODEL_DENIED, project=self._project_id, model=denied[:_LONGEST_MODEL])
        if self._denied_tools:
            tool = self._denied_tool(request)
            if tool is not None:
                return GatewayError(TOOL_DENIED, param="tools", project=self._project_id, tool=tool)
        if self._tiers is not None:
            tier = request.head.service_tier
            if _SAME_TIER.get(tier, tier) not in self._tiers:
                return GatewayError(TIER_DENIED, param="service_tier")
        return None

    def tier(self, operation: Operation | None, head: HeadFacts) -> str:
        """The service tier that a request is to be sent with; empty: as it stands."""
        if not self.default_tier or operation is None or operation.id not in _TIERED:
            return ""
        return self.default_tier if head.service_tier in _UNDECIDED else ""

    def _denied_model(self, operation: Operation | None, model: str, upstream_models: Sequence[str]) -> str | None:
        """The model that may not be used, as the client named it. A name of a route's is as good as its models' names,
        for an allow list; and for a deny list as bad as the worst of them."""
        if not model:
            unnamed = _UNNAMED.get(operation.id, ()) if operation is not None else ()
            return next((name for name in unnamed if self._is_denied(name)), None)
        if self._allows:
            named = not self._is_denied(model)
            if named or (upstream_models and not any(map(self._is_denied, upstream_models))):
                return None
            return model
        return model if self._is_denied(model) or any(map(self._is_denied, upstream_models)) else None

    def _is_denied(self, name: str) -> bool:
        name = _plain(name)
        if self._allows:
            return name not in self._models
        return name in self._models or (name.startswith("ft:") and name.split(":", 2)[1] in self._models)

    def _denied_tool(self, request: Request) -> str | None:
        head, body = request.head, request.whole
        types = _mentioned(plainly(head.tools)) if head.tools else set()
        if self._denied(types):  # and maybe only in what a function takes
            types = _declared(head.tools)
        if body:
            # Input items may bring tools too, and of two members nobody knows which one counts.
            plain = plainly(body)
            if len(_TOOLS.findall(plain)) > (1 if head.tools else 0):
                types |= _mentioned(plain)
            if head.searches and len(_OPTIONS.findall(plain)) > len(_NO_OPTIONS.findall(plain)):
                types.add("web_search")
        return min(self._denied(types), default=None)

    def _denied(self, types: set[str]) -> frozenset[str]:
        hosted = {found[1] for kind in types if (found := _HOSTED.fullmatch(kind.lower())) is not None}
        return self._denied_tools & hosted


def _declared(tools: bytes) -> set[str]:
    """Types of the tools in a member `tools`; both, of one that has two."""
    try:
        declared = json.loads(tools, object_pairs_hook=_types)
    except (ValueError, RecursionError):
        return _mentioned(plainly(tools))
    found = [kind for tool in declared if isinstance(tool, list) for kind in tool] if isinstance(declared, list) else []
    return {kind for kind in found if isinstance(kind, str)}


def _types(members: list[tuple[str, Any]]) -> list[Any]:
    return [value for name, value in members if name == "type"]


def _mentioned(plain: bytes | bytearray) -> set[str]:
    """All that is called a type, anywhere. plain: without escaped letters."""
    found: set[str] = set()
    for text in set(_TYPE.findall(plain)):
        with contextlib.suppress(msgspec.MsgspecError, UnicodeError):
            found.add(_decode(text))
    return found


def _plain(model: str) -> str:
    return model.strip().lower()
