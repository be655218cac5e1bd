"""`gateway projects`: list, make, show and archive projects, over the admin API."""

import argparse
from typing import Any
from urllib.parse import quote

from gateway.commands.asking import Api, AskError, NotThereError, asking
from gateway.commands.console import day, say, say_json, table

ALL = "/organization/projects"


def projects(options: argparse.Namespace) -> int:
    actions = {"list": _list, "create": _create, "show": _show, "archive": _archive}
    return asking(options, lambda api: actions[options.action](api, options))


def the_project(api: Api, name: str) -> dict[str, Any]:
    """The project with this id, or with this name if only one that is not archived has it. Raises AskError."""
    try:
        return api.ask("GET", f"{ALL}/{quote(name, safe='')}")
    except NotThereError:
        named = [project for project in api.every(ALL) if project["name"] == name]
        if len(named) > 1:
            ids = ", ".join(project["id"] for project in named)
            raise AskError(f"several projects are called {name}: {ids}") from None
        if not named:
            raise
        return named[0]


def path_of(project: dict[str, Any]) -> str:
    return f"{ALL}/{quote(project['id'], safe='')}"


def _list(api: Api, options: argparse.Namespace) -> int:
    found = api.every(ALL, "&include_archived=true" if options.all else "")
    if options.json:
        return say_json(found)
    rows = [(p["id"], p["name"], p["status"], day(p["created_at"])) for p in found]
    say("\n".join(table(("id", "name", "status", "created"), rows)))
    return 0


def _create(api: Api, options: argparse.Namespace) -> int:
    return _said(api.ask("POST", ALL, {"name": options.name}), options)


def _show(api: Api, options: argparse.Namespace) -> int:
    return _said(the_project(api, options.project), options)


def _archive(api: Api, options: argparse.Namespace) -> int:
    """By its id alone: it cannot be taken back."""
    return _said(api.ask("POST", f"{ALL}/{quote(options.project, safe='')}/archive"), options)


def _said(project: dict[str, Any], options: argparse.Namespace) -> int:
    if options.json:
        return say_json(project)
    rows = [("id:", project["id"]), ("name:", project["name"]), ("status:", project["status"])]
    rows.append(("created:", day(project["created_at"])))
    if project["archived_at"] is not None:
        rows.append(("archived:", day(project["archived_at"])))
    say("\n".join(table(rows[0], rows[1:])))
    return 0
