"""From LiteLLM's `config.yaml` to upstreams, routes and prices. Pure.

Deployments of OpenAI, Azure OpenAI and whatever else speaks OpenAI's API are carried over; what cannot be is said.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

_OPENAI = "https://api.openai.com/v1"
# Prefixes of `litellm_params.model` behind which OpenAI's API is spoken.
_COMPATIBLE = frozenset({
    "openai", "azure", "hosted_vllm", "custom_openai", "openai_like", "litellm_proxy", "text-completion-openai",
    "lm_studio", "llamafile",
})  # fmt: skip
_VARIABLE = "os.environ/"
_NO_WORD = re.compile(r"[^A-Za-z0-9]+")
_PRICES = (
    ("input_cost_per_token", "input_tokens"),
    ("output_cost_per_token", "output_tokens"),
    ("cache_read_input_token_cost", "cached_tokens"),
)
_MILLION = 1_000_000
_POLICY = ("rpm", "tpm", "max_parallel_requests", "weight", "order", "timeout", "stream_timeout", "max_retries")
_UNDERSTOOD = frozenset({"model", "api_base", "api_key", "organization", "api_version", *_POLICY})

Json = Mapping[str, Any]


class Notes:
    """What people have to look at, each once."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        if line not in self.lines:
            self.lines.append(line)


class Upstreams:
    """The upstreams that deployments need, each once, by a name of its own."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._names: dict[tuple[Any, ...], str] = {}
        self.settings: dict[str, dict[str, Any]] = {}

    def of(self, provider: str, params: Json) -> str:
        """The name of the one that a deployment is served by. Raises ValueError if there can be none."""
        base_url, auth = _base_url(provider, params), "api-key" if provider == "azure" else "bearer"
        key = params.get("api_key")
        known = (base_url, auth, key, params.get("organization"))
        if known in self._names:
            return self._names[known]
        name = self._free("azure" if provider == "azure" else _host_name(base_url))
        made: dict[str, Any] = {"base_url": base_url}
        if key:
            made |= {"auth": auth} if auth != "bearer" else {}
            made["api_key"] = self._key(name, str(key))
        else:
            made["auth"] = "none"
        if params.get("organization"):
            made["organization"] = _variable(str(params["organization"]))
        self._names[known], self.settings[name] = name, made
        return name

    def _free(self, name: str) -> str:
        numbered = (name, *(f"{name}-{number}" for number in range(2, len(self.settings) + 3)))
        return next(one for one in numbered if one not in self.settings)

    def _key(self, name: str, key: str) -> str:
        """A key that stands in the file is not repeated: it would be in one more place."""
        if key.startswith(_VARIABLE):
            return _variable(key)
        variable = _NO_WORD.sub("_", name).upper() + "_API_KEY"
        self._notes.add(f"upstreams.{name}.api_key: the key stood in the file; put it into {variable}")
        return f"${{{variable}}}"


def models(config: Json, notes: Notes) -> dict[str, Any]:
    """The sections `upstreams`, `routes` and `prices`."""
    upstreams, routes, prices = Upstreams(notes), dict[str, list[Any]](), dict[str, dict[str, float]]()
    for number, entry in enumerate(_list(config.get("model_list"))):
        place = f"model_list[{number}]"
        params = entry.get("litellm_params")
        if not isinstance(params, Mapping) or not entry.get("model_name") or not params.get("model"):
            notes.add(f"{place}: it has no model_name, or no litellm_params.model")
            continue
        name = verbatim(str(entry["model_name"]))
        try:
            upstream, model = _deployment(upstreams, name, params)
        except ValueError as error:
            notes.add(f"{place} ({name}): not carried over: {error}")
            continue
        target = upstream if model == name else {"upstream": upstream, "upstream_model": model}
        if target not in routes.setdefault(name, []):
            routes[name].append(target)
        _say_what_is_left(place, name, params, notes)
        if own := _prices({**params, **_dict(entry.get("model_info"))}):
            prices[model] = own
    for name in [name for name, targets in routes.items() if len(targets) > 1]:
        notes.add(f"routes, {name}: calls go to the first upstream; the next is taken if that cannot be connected to")
    _aliases(config, routes, notes)
    if "*" not in routes:
        notes.add(
            'routes: calls that name no model (files, batches) have none; add one for "*" if there are such calls'
        )
    made: dict[str, Any] = {"upstreams": upstreams.settings}
    made["routes"] = [{"models": [name], "upstreams": routes[name]} for name in sorted(routes, key=_breadth)]
    if prices:
        made["prices"] = {"models": prices}
    return made


def _deployment(upstreams: Upstreams, name: str, params: Json) -> tuple[str, str]:
    """Its upstream and what its model is called there. Raises ValueError."""
    provider, slash, model = verbatim(str(params["model"])).partition("/")
    if not slash:
        provider, model = "openai", provider
    if provider not in _COMPATIBLE:
        raise ValueError(f"{provider} is no upstream with OpenAI's API")
    if "*" in model:
        if name not in {"*", model}:
            raise ValueError(f"{model} renames all models at once")
        model = name
    return upstreams.of(provider, params), model


def _base_url(provider: str, params: Json) -> str:
    given = params.get("api_base") or params.get("base_url")
    if not given:
        if provider != "openai":
            raise ValueError("it has no api_base")
        return _OPENAI
    base = _variable(str(given)).rstrip("/")
    if base.startswith("${"):
        return base
    if set(base) & set("@?#"):  # such parts may be secrets, and no base URL here has them
        raise ValueError("its api_base has a user, a query or a fragment")
    if provider == "azure":  # the API that has no versions in its URLs
        return base if base.endswith("/openai/v1") else f"{base.removesuffix('/openai')}/openai/v1"
    return base if urlsplit(base).path else f"{base}/v1"


def _host_name(url: str) -> str:
    """What an upstream is called: by its host's name, of `api.openai.com` the part that matters."""
    host = urlsplit(url).hostname or "upstream"
    parts = [part for part in host.split(".") if part not in {"api", "www"}]
    named = host if host.replace(".", "").isdigit() else parts[0] if parts else host
    return _NO_WORD.sub("-", named).strip("-") or "upstream"


def _variable(text: str) -> str:
    return f"${{{text.removeprefix(_VARIABLE)}}}" if text.startswith(_VARIABLE) else verbatim(text)


def verbatim(text: str) -> str:
    """A text as settings have it: there `$` begins a variable."""
    return text.replace("$", "$$")


def _say_what_is_left(place: str, name: str, params: Json, notes: Notes) -> None:
    if set(params) & {"rpm", "tpm", "max_parallel_requests"}:
        notes.add(
            f"{place} ({name}): rpm and tpm of a deployment spread its calls in LiteLLM; limits are of projects here"
        )
    rest = sorted(set(params) - _UNDERSTOOD - {source for source, _ in _PRICES} - {"base_url"})
    if rest:
        notes.add(f"{place} ({name}): not carried over: {', '.join(rest)}")


def _prices(given: Json) -> dict[str, float]:
    found = {}
    for source, name in _PRICES:
        value = number(given.get(source))
        if value is not None and value >= 0:
            found[name] = round(value * _MILLION, 9)
    return found


def number(value: Any) -> float | None:
    """A number, also as text: YAML takes `6e-7` for that."""
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _aliases(config: Json, routes: dict[str, list[Any]], notes: Notes) -> None:
    """Further names of models: `router_settings.model_group_alias`."""
    for alias, given in _dict(_dict(config.get("router_settings")).get("model_group_alias")).items():
        name = str(given.get("model") if isinstance(given, Mapping) else given)
        if name not in routes:
            notes.add(f"router_settings.model_group_alias.{alias}: there is no {name}")
            continue
        routes[str(alias)] = [
            dict(target) if isinstance(target, dict) else {"upstream": target, "upstream_model": name}
            for target in routes[name]
        ]


def _breadth(name: str) -> tuple[bool, int, str]:
    """Names before patterns, and longer patterns before shorter ones: the first route that matches is taken."""
    return "*" in name, -len(name) if "*" in name else 0, name


def _list(value: Any) -> Sequence[Json]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
