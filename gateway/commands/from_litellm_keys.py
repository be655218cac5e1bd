"""From LiteLLM's teams and keys to projects and keys, with their limits. Pure.

LiteLLM keeps a key as the SHA-256 of it, and so do we: clients go on with the keys that they have.
"""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from gateway.commands.from_litellm import Json, Notes, number, verbatim

_HASH = re.compile(r"[0-9a-f]{64}\Z")
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_NO_ID = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST = 64
_WITHOUT_TEAM = "imported"
_WINDOWS = MappingProxyType({
    "24h": "day", "1d": "day", "7d": "week", "1w": "week", "30d": "month", "31d": "month", "1mo": "month",
    "daily": "day", "weekly": "week", "monthly": "month",
})  # fmt: skip
_ALL_MODELS = frozenset({"all-proxy-models", "all-team-models"})
_RATES = (
    ("rpm_limit", "requests_per_minute"),
    ("tpm_limit", "tokens_per_minute"),
    ("max_parallel_requests", "concurrent_requests"),
)


def projects(teams: Sequence[Json], keys: Sequence[Json], notes: Notes) -> list[dict[str, Any]]:
    """The section `projects`: a project for each team, and one for the keys that are in none."""
    found: dict[str, dict[str, Any]] = {}
    for team in teams:
        team_id = str(team.get("team_id") or "")
        if not team_id:
            notes.add("a team has no team_id, and is left out")
            continue
        made = found[team_id] = _project(team_id, str(team.get("team_alias") or ""), found)
        place = f"projects, {made['id']}"
        if limits := _limits(team, place, notes):
            made["limits"] = limits
        _say_what_is_left(team, place, notes)
    for key in keys:
        _add(key, found, notes)
    return list(found.values())


def _project(team_id: str, name: str, others: Mapping[str, Json]) -> dict[str, Any]:
    plain = _NO_ID.sub("-", team_id)[: _LONGEST - 4].strip("-") or "team"
    taken = {one["id"] for one in others.values()}
    numbered = (f"proj_{plain}", *(f"proj_{plain}-{number}" for number in range(2, len(taken) + 3)))
    made: dict[str, Any] = {"id": next(one for one in numbered if one not in taken)}
    if name:
        made["name"] = verbatim(name)
    return made | {"keys": []}


def _add(key: Json, found: dict[str, dict[str, Any]], notes: Notes) -> None:
    token, alias = str(key.get("token") or ""), str(key.get("key_alias") or key.get("key_name") or "")
    if not _HASH.match(token):
        notes.add(f"key {alias or '(without a name)'}: left out: its token is no SHA-256 of a key")
        return
    shown = alias or token[:8]
    if key.get("blocked"):
        notes.add(f"key {shown}: left out: it is blocked")
        return
    team_id = str(key.get("team_id") or "")
    if team_id not in found:
        if team_id:
            notes.add(f"key {shown}: its team {team_id} is not in the file of teams; the project has its id for a name")
        found[team_id] = _project(team_id or _WITHOUT_TEAM, team_id or "Keys without a team", found)
    project = found[team_id]
    place = f"projects, {project['id']}, key {shown}"
    made: dict[str, Any] = {"name": _free_name(alias, token, project["keys"]), "hash": f"sha256:{token}"}
    if key.get("user_id"):
        made["user"] = verbatim(str(key["user_id"]))
    if key.get("expires") and (ends := _seconds(str(key["expires"]))) is not None:
        made["expires_at"] = ends
    elif key.get("expires"):
        notes.add(f"{place}: its end is not carried over: {key['expires']!r} is no time")
    if limits := _limits(key, place, notes):
        made["limits"] = limits
    _say_what_is_left(key, place, notes)
    project["keys"].append(made)


def _free_name(alias: str, token: str, others: Sequence[Json]) -> str:
    plain = _NO_NAME.sub("-", alias).strip("-_.")[:_LONGEST] or f"key-{token[:8]}"
    taken = {one["name"] for one in others}
    return plain if plain not in taken else f"{plain[: _LONGEST - 9]}-{token[:8]}"


def _limits(given: Json, place: str, notes: Notes) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for source, name in _RATES:
        value = number(given.get(source))
        if value is not None and value >= 0:
            limits[name] = int(value)
    budget, duration = number(given.get("max_budget")), given.get("budget_duration")
    if budget is not None and budget >= 0:
        window = "total" if not duration else _WINDOWS.get(str(duration).lower())
        if window is None:
            notes.add(
                f"{place}: not carried over: {budget:g} dollars in {duration}; windows are day, week, month, total"
            )
        else:
            limits["spend"] = {window: budget}
            notes.add("windows of spend limits are those of the calendar, in UTC, and begin empty")
    return limits


def _say_what_is_left(given: Json, place: str, notes: Notes) -> None:
    models = ", ".join(map(str, given["models"])) if isinstance(given.get("models"), list) else given.get("models")
    if models and models not in _ALL_MODELS:
        notes.add(f"{place}: only {models}; say so with the project's model permissions (admin API)")
    for name in ("model_max_budget", "soft_budget", "allowed_routes", "budget_id", "guardrails", "aliases"):
        if given.get(name):
            notes.add(f"{place}: not carried over: {name}")


def _seconds(text: str) -> int | None:
    """Since 1970, of a time in ISO 8601; in UTC if it does not say."""
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)).timestamp())
