"""`gateway import litellm`: settings for this gateway from what another one has."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gateway.commands.console import complain, say
from gateway.commands.from_litellm import Json, Notes, models
from gateway.commands.from_litellm_keys import projects

_HEAD = "# Made by `gateway import litellm`. Check it: gateway check-config FILE\n"
_MASTER = "general_settings.master_key: make an admin key with `gateway admin-key create`"


class NotReadableError(Exception):
    """A file that is none of LiteLLM's. The text names it."""


def import_litellm(options: argparse.Namespace) -> int:
    notes = Notes()
    try:
        config = _config(options.file)
        teams, keys = _objects(options.teams, "teams"), _objects(options.keys, "keys")
        settings: dict[str, Any] = {"data_dir": "${GATEWAY_DATA_DIR:-data}"} | models(config, notes)
        if found := projects(teams, keys, notes):
            settings["projects"] = found
        if isinstance(config.get("general_settings"), Mapping) and "master_key" in config["general_settings"]:
            notes.add(_MASTER)
        text = written(settings, notes)
        if options.output is None:
            say(text.rstrip("\n"))
            return 0
        with options.output.open("x") as file:
            file.write(text)
    except NotReadableError as error:
        return complain(str(error))
    except OSError as error:
        return complain(f"{error.filename}: {error.strerror}")
    many = sum(len(project["keys"]) for project in found)
    say(
        f"{options.output}: {len(settings['upstreams'])} upstreams, {len(settings['routes'])} routes, "
        f"{len(found)} projects, {many} keys"
    )
    for note in notes.lines:
        say(f"  look at: {note}")
    return 0


def written(settings: Json, notes: Notes) -> str:
    """A settings file, with what people have to look at in front of it."""
    lines = [_HEAD, *(f"# - {_one_line(note)}\n" for note in notes.lines), "\n"]
    return "".join(lines) + yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, width=120)


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _config(path: Path) -> Json:
    try:
        found = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise NotReadableError(f"{path}: it is not YAML: {_one_line(str(error))}") from None
    if not isinstance(found, Mapping) or not isinstance(found.get("model_list"), list):
        raise NotReadableError(f"{path}: expected a model_list, as in LiteLLM's config.yaml")
    return found


def _objects(path: Path | None, member: str) -> list[Json]:
    """Rows of a table: a list, an object that has one, or an object a line."""
    if path is None:
        return []
    text = path.read_text()
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise NotReadableError(f"{path}: it is not JSON: {error}") from None
    if isinstance(found, Mapping):
        found = found.get(member, [found] if "team_id" in found or "token" in found else None)
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise NotReadableError(f"{path}: expected a list of objects, an object with `{member}`, or an object a line")
    return found
