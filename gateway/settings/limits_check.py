"""What is wrong with limits that their form does not tell."""

import itertools
from collections.abc import Iterator
from functools import cache

from gateway.limits import RATES, WINDOWS, group_of
from gateway.settings.limits import Budget, EveryProject, ModelLimits, Rate, SubjectLimits, nano_usd
from gateway.settings.model import Settings
from gateway.settings.tree import Place

Found = Iterator[tuple[Place, str]]


def limit_problems(settings: Settings) -> Found:
    """Where something is wrong, and what is expected there."""
    limits = settings.limits
    groups = {name.lower(): tuple(p.lower() for p in patterns) for name, patterns in limits.groups.items()}
    yield from _overlaps(limits.groups)
    yield from _inexact(limits.unknown_call_usd, ("limits", "unknown_call_usd"))
    for scope in ("organization", "users", "keys"):
        yield from _subject(getattr(limits, scope), ("limits", scope))
    yield from _project(limits.projects, ("limits", "projects"), groups)
    users = {key.user for project in settings.projects for key in project.keys if key.user is not None}
    for user, written in limits.by_user.items():
        yield from _subject(written, ("limits", "by_user", user))
        if user not in users:
            yield ("limits", "by_user", user), f"expected the user of a declared key, got {user!r}"
    for number, project in enumerate(settings.projects):
        place: Place = ("projects", number, "limits")
        yield from _project(project.limits, place, groups)
        yield from _subject(project.limits.keys, (*place, "keys"))
        for position, key in enumerate(project.keys):
            yield from _subject(key.limits, ("projects", number, "keys", position, "limits"))


def _rates(written: ModelLimits, place: Place) -> Found:
    for kind in RATES:
        rate = getattr(written, kind)
        if isinstance(rate, Rate) and rate.burst is not None and rate.burst > rate.limit:
            yield (*place, kind, "burst"), f"expected at most the limit, {rate.limit}, got {rate.burst}"


def _subject(written: SubjectLimits, place: Place) -> Found:
    yield from _rates(written, place)
    for window in WINDOWS:
        budget = getattr(written.spend, window)
        if isinstance(budget, Budget):
            yield from _inexact(budget.usd, (*place, "spend", window, "usd"))
        elif isinstance(budget, float | str) and budget != "unlimited":
            yield from _inexact(budget, (*place, "spend", window))


def _project(written: EveryProject, place: Place, groups: dict[str, tuple[str, ...]]) -> Found:
    yield from _subject(written, place)
    seen: dict[str, str] = {}
    for model, limits in written.models.items():
        here = (*place, "models", model)
        yield from _rates(limits, here)
        name = model.lower()
        group = group_of(groups, name)
        if not name or ("*" in name and name != "*"):
            yield here, 'expected a model, a group or "*"; what patterns stand for goes into limits.groups'
        elif group is not None and group != name:
            yield here, f"is in the group {group}, whose models share their limits; expected {group}"
        elif (other := seen.setdefault(name, model)) != model:
            yield here, f"is the same model as {other}"


def _inexact(usd: float | str, place: Place) -> Found:
    try:
        nano_usd(usd)
    except ValueError as error:
        yield place, str(error)


def _overlaps(groups: dict[str, list[str]]) -> Found:
    """Groups that a model could belong to both of. A group's own name belongs to it."""
    parts = [
        [(name.lower(), ("limits", "groups", name)), *_patterns(name, patterns)] for name, patterns in groups.items()
    ]
    for ours, theirs in itertools.combinations(parts, 2):
        other = ours[0][1][-1]
        for pattern, place in theirs:
            if any(_meet(pattern, earlier) for earlier, _ in ours):
                yield place, f"stands for models of the group {other} too; a model is in one group only"


def _patterns(name: str, patterns: list[str]) -> Iterator[tuple[str, Place]]:
    for number, pattern in enumerate(patterns):
        yield pattern.lower(), ("limits", "groups", name, number)


def _meet(one: str, other: str) -> bool:
    """Whether there is a name that both patterns stand for."""

    @cache
    def meet(i: int, j: int) -> bool:
        if i == len(one) or j == len(other):
            return not (one[i:] + other[j:]).strip("*")
        if one[i] == "*":
            return meet(i + 1, j) or meet(i, j + 1)
        if other[j] == "*":
            return meet(i, j + 1) or meet(i + 1, j)
        return one[i] == other[j] and meet(i + 1, j + 1)

    return meet(0, 0)
