"""`gateway keys create` and `gateway keys list`: API keys of projects, over the admin API."""

import argparse
from typing import Any

from gateway.commands.asking import Api, AskError, asking
from gateway.commands.console import day, say, say_json, say_key, table
from gateway.commands.projects import ALL, path_of, the_project

_HEAD = ("id", "name", "project", "owner", "created", "expires", "last used")


def create_key(options: argparse.Namespace) -> int:
    return asking(options, lambda api: _create(api, options))


def list_keys(options: argparse.Namespace) -> int:
    return asking(options, lambda api: _list(api, options))


def _create(api: Api, options: argparse.Namespace) -> int:
    path = path_of(the_project(api, options.project))
    body = {"name": options.name, "scopes": options.scope, "expires_in_seconds": options.expires_in}
    if options.user is not None:
        made = api.ask("POST", f"{path}/api_keys", {**body, "user_id": options.user})
    else:
        made = _for_an_account(api, f"{path}/service_accounts", options.service_account or options.name, body)
    return say_json(made) if options.json else say_key(made)


def _for_an_account(api: Api, path: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """A key for the service account with this id or name. The account is made if there is none."""
    found = [account["id"] for account in api.every(path) if name in {account["id"], account["name"]}]
    if len(found) > 1:
        raise AskError(f"several service accounts are called {name}: {', '.join(found)}")
    if found:
        return api.ask("POST", f"{path}/{found[0]}/api_keys", body)
    account = f"{path}/{api.ask('POST', path, {'name': name, 'create_service_account_only': True})['id']}"
    try:
        return api.ask("POST", f"{account}/api_keys", body)
    except AskError:
        api.ask("DELETE", account)
        raise


def _list(api: Api, options: argparse.Namespace) -> int:
    projects = [the_project(api, options.project)] if options.project is not None else api.every(ALL)
    found = [(project["id"], key) for project in projects for key in api.every(f"{path_of(project)}/api_keys")]
    if options.json:
        return say_json([{**key, "project_id": project_id} for project_id, key in found])
    say("\n".join(table(_HEAD, [_row(project_id, key) for project_id, key in found])))
    return 0


def _row(project_id: str, key: dict[str, Any]) -> tuple[str, ...]:
    times = (key["created_at"], key["expires_at"], key["last_used_at"])
    return (key["id"], key["name"], project_id, _owner(key["owner"]), *map(day, times))


def _owner(owner: dict[str, Any]) -> str:
    whose = owner[owner["type"]]
    return str(whose.get("email") or whose["name"])
