"""`gateway limits`: which limits hold for a key, and why; and spend counters that are made anew."""

import argparse
from collections.abc import Iterable, Iterator
from decimal import Decimal

import msgspec

from gateway.accounts.limits import LimitDocuments, reserve_mode, search
from gateway.commands.check import load
from gateway.commands.console import USAGE_ERROR, complain, complain_of_settings, say, table
from gateway.commands.telling import tell
from gateway.control.registry.declared import DeclaredKey, UnknownKeyError, declared_keys, find_key
from gateway.control.registry.declared_limits import declared_limits
from gateway.limits import CONCURRENT, RATES, WINDOWS, Applied, RateLimit, group_of
from gateway.settings.limits import EveryProject
from gateway.settings.load import SettingsError, written
from gateway.settings.model import Settings
from gateway.settings.tree import Place

_ORDER = (*RATES, CONCURRENT, *WINDOWS)
_NANO = 1_000_000_000


class Reset(msgspec.Struct, frozen=True):
    """The control process's answer: whether spend limits were closed, and whether what was counted is forgotten."""

    opened: bool
    zeroed: bool


def limits(options: argparse.Namespace) -> int:
    return _explain(options) if options.action == "explain" else _reset_spend(options)


def _reset_spend(options: argparse.Namespace) -> int:
    answer = tell(options, "/limits/reset-spend", {"zero": options.zero}, Reset)
    if isinstance(answer, int):
        return answer
    if answer.opened:
        say("spend limits were closed, and are open again")
    else:
        say("spend limits were open already")
    if answer.zeroed:
        say("all windows begin anew, with the calls that are being served")
    else:
        say("what was spent is counted as the ledger has it (--zero forgets it)")
    return 0


def _explain(options: argparse.Namespace) -> int:
    try:
        settings = load(options.config)
        key = find_key(declared_keys(settings), options.key)
    except SettingsError as error:
        return complain_of_settings(error)
    except UnknownKeyError as error:
        return complain(str(error), USAGE_ERROR)
    documents = LimitDocuments(settings.organization_id, 1, declared_limits(settings))
    principal = key.principal
    found = search(
        documents,
        project_id=principal.project_id,
        user_id=principal.user_id,
        key_id=principal.key_id,
        model=options.model,
    )
    say("\n".join((*_head(settings, key, options.model, documents), "", *_table(settings, key, found))))
    return 0


def _head(settings: Settings, key: DeclaredKey, model: str | None, documents: LimitDocuments) -> Iterator[str]:
    principal = key.principal
    yield f"key:     {key.name} ({principal.key_id})"
    yield f"user:    {principal.user_id}"
    if model:
        group = group_of(documents.documents["o"].groups, model.lower())
        yield f"model:   {model}" + (f", in the group {group}" if group is not None else "")
    else:
        yield "model:   none"
    number = _project_number(settings, principal.project_id)
    own = settings.projects[number].limits.reserve is not None
    mode = reserve_mode(documents, principal.project_id)
    yield f"reserve: {mode} (projects[{number}].limits.reserve)" if own else f"reserve: {mode} (limits.reserve)"


def _table(settings: Settings, key: DeclaredKey, found: Iterable[Applied]) -> list[str]:
    places = _places(settings, key)
    rows = []
    for applied in sorted(found, key=lambda one: _ORDER.index(_kind(one))):
        rate = isinstance(applied.limit, RateLimit)
        path = _kind(applied) if rate else f"spend.{_kind(applied)}"
        what = _kind(applied) if rate else f"spend {_kind(applied)}"
        rows.append((what, _value(applied), _subject(applied), f"{places[applied.origin]}.{path}"))
    if not rows:
        return ["Nothing is limited."]
    return table(("limit", "value", "counted for", "declared in"), rows)


def _kind(applied: Applied) -> str:
    return applied.limit.kind if isinstance(applied.limit, RateLimit) else applied.limit.window


def _value(applied: Applied) -> str:
    limit = applied.limit
    if isinstance(limit, RateLimit):
        text = "unlimited" if limit.limit is None else f"{limit.limit:,}"
        if limit.burst is not None:
            text += f", at once {limit.burst:,}"
    else:
        text = "unlimited" if limit.nano_usd is None else f"${(Decimal(limit.nano_usd) / _NANO).normalize():,f}"
    return f"{text} (shadow)" if limit.shadow else text


def _subject(applied: Applied) -> str:
    if applied.scope == "project_model":
        return f"project {applied.subject}, {applied.model}"
    return f"{applied.scope} {applied.subject}"


def _places(settings: Settings, key: DeclaredKey) -> dict[str, str]:
    """The settings that hold what applies to a key, by `Applied.origin`."""
    principal = key.principal
    project = _project_number(settings, principal.project_id)
    named = [f"{principal.project_id}/{one.name}" for one in settings.projects[project].keys]
    own: Place = ("projects", project, "limits")
    places: dict[str, Place] = {
        "organization": ("limits", "organization"),
        "all projects": ("limits", "projects"),
        "all users": ("limits", "users"),
        "all keys": ("limits", "keys"),
        f"project {principal.project_id}": own,
        f"keys of {principal.project_id}": (*own, "keys"),
        f"user {principal.user_id}": ("limits", "by_user", principal.user_id),
        f"key {principal.key_id}": ("projects", project, "keys", named.index(key.name), "limits"),
        **_models("all projects", settings.limits.projects, ("limits", "projects")),
        **_models(principal.project_id, settings.projects[project].limits, own),
    }
    return {origin: written(place) for origin, place in places.items()}


def _models(whose: str, declared: EveryProject, place: Place) -> dict[str, Place]:
    return {f"models of {whose}: {name.lower()}": (*place, "models", name) for name in declared.models}


def _project_number(settings: Settings, project_id: str) -> int:
    return [project.id for project in settings.projects].index(project_id)
