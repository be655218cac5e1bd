"""The command line. Each command's work is done elsewhere; here it is found, and its errors are put into words."""

import argparse
import datetime as dt
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from gateway import __version__

# Commands that take all options: the module in `commands`, and its function of the same name.
_COMMANDS = MappingProxyType(
    {
        name: name.replace("-", "_")
        for name in (
            "keys",
            "projects",
            "admin-key",
            "backup",
            "limits",
            "requests",
            "prices",
            "usage",
            "demo",
            "rebuild",
            "reconcile",
        )
    }
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway", description="A gateway in front of OpenAI's API.")
    parser.add_argument("--version", action="version", version=f"gateway {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("serve", "run the whole gateway: workers, control process and, without redis.url, a Valkey of its own"),
        ("proxy", "run the workers alone, with an external Redis"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings (YAML)")
    text = "run the control process alone, with an external Redis; or tell a running one something"
    control = commands.add_parser("control", help=text, description=text)
    text = "rebuild: write into Redis, again, all that workers have to know"
    control.add_argument("action", nargs="?", choices=["rebuild"], help=text)
    _which_gateway(control)
    demo = commands.add_parser("demo", help="run everything with a simulated OpenAI behind it; needs no settings")
    demo.add_argument("--port", type=_port, default=8080, help="where clients call (default 8080; 0: any free one)")
    demo.add_argument("--operations-port", type=_port, default=9090, help="for /readyz and /metrics (default 9090)")
    demo.add_argument("--workers", type=_count, default=2, help="worker processes (default 2)")
    demo.add_argument("--api-key", type=_key, help="the key that clients use (default: a new one)")
    demo.add_argument("--admin-key", type=_key, help="the key of the admin API (default: a new one)")
    demo.add_argument("--data-dir", type=Path, help="keep data there (default: a temporary folder)")
    check = commands.add_parser("check-config", help="check a settings file, and only that")
    check.add_argument("file", type=Path, metavar="FILE")
    _keys_parser(commands.add_parser("keys", help="make, list, hash and revoke API keys"))
    _projects_parser(commands.add_parser("projects", help="make, list, show and archive projects"))
    _admin_key_parser(commands.add_parser("admin-key", help="make keys of the admin API"))
    backup = commands.add_parser("backup", help="copy the database of a running gateway on this machine")
    backup.add_argument("file", type=Path, metavar="FILE", help="the copy; there must be no such file yet")
    _which_gateway(backup)
    _limits_parser(commands.add_parser("limits", help="show which limits hold, and why; reopen spend limits"))
    _requests_parser(commands.add_parser("requests", help="explain single calls"))
    _prices_parser(commands.add_parser("prices", help="show what calls cost, and why"))
    _usage_parser(commands.add_parser("usage", help="export usage and costs"))
    _import_parser(commands.add_parser("import", help="make settings from those of another gateway"))
    text = "compare a day of the ledger with what upstreams say of it, now; exit status 1 if they are too far apart"
    reconcile = commands.add_parser("reconcile", help=text, description=text)
    reconcile.add_argument("--day", type=_day, required=True, metavar="YYYY-MM-DD", help="in UTC; maybe today")
    reconcile.add_argument("--json", action="store_true", help="print all of it, for programs")
    _which_gateway(reconcile)
    simulator = commands.add_parser("simulator", help="run the simulated OpenAI alone")
    simulator.add_argument("--host", default="127.0.0.1")
    simulator.add_argument("--port", type=_port, default=9000)
    child = commands.add_parser("_child")
    child.add_argument("role", choices=["nursery", "worker", "control", "simulator"])
    child.add_argument("label", help="which one of them, for people who look at the list of processes")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port number, 0 to 65535, got {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 1024, got {text!r}")
    return int(text)


def _key(text: str) -> str:
    """A key as HTTP headers can carry it. What is wrong is not repeated: it may be a key with a slip in it."""
    if not 20 <= len(text) <= 1024 or not all("!" <= letter <= "~" for letter in text):
        raise argparse.ArgumentTypeError("expected 20 characters or more, none of them a space or beyond ASCII")
    return text


def _keys_parser(keys: argparse.ArgumentParser) -> None:
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("new", help="make a key; prints it, and the hash for the settings")
    actions.add_parser("hash", help="read a key from standard input; prints its hash for the settings")
    revoke = actions.add_parser("revoke", help="revoke a key of a running gateway on this machine")
    revoke.add_argument("key", metavar="KEY", help="project/name, the key's id, or its hash")
    _which_gateway(revoke)
    text = "make an API key of a project, for a service account or for a user; prints it once"
    create = actions.add_parser("create", help=text, description=text)
    create.add_argument("name", metavar="NAME", help="what the key is called")
    create.add_argument("--project", required=True, metavar="PROJECT", help="the project's id or name")
    whose = create.add_mutually_exclusive_group()
    text = (
        "whose key it is to be: the account's name or id; it is made if there is none (default: one of the key's name)"
    )
    whose.add_argument("--service-account", metavar="NAME", help=text)
    whose.add_argument("--user", metavar="ID", help="the user of the project whose key it is to be")
    create.add_argument("--scope", action="append", metavar="SCOPE", help="what it may do (repeatable; default: all)")
    _expires_in(create)
    _which_api(create)
    listing = actions.add_parser("list", help="list the API keys of projects")
    listing.add_argument("--project", metavar="PROJECT", help="the project's id or name (default: all projects)")
    _which_api(listing)


def _projects_parser(projects: argparse.ArgumentParser) -> None:
    actions = projects.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list the projects")
    listing.add_argument("--all", action="store_true", help="archived ones too")
    create = actions.add_parser("create", help="make a project")
    create.add_argument("name", metavar="NAME", help="what it is called")
    show = actions.add_parser("show", help="show a project")
    show.add_argument("project", metavar="PROJECT", help="its id or name")
    archive = actions.add_parser("archive", help="archive a project, for good: its keys end at once")
    archive.add_argument("project", metavar="ID", help="its id")
    for command in (listing, create, show, archive):
        _which_api(command)


def _admin_key_parser(admin_key: argparse.ArgumentParser) -> None:
    actions = admin_key.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "make a key of the admin API that may do everything; prints it once"
    create = actions.add_parser("create", help=text, description=text)
    create.add_argument("name", metavar="NAME", help="what the key is called")
    _expires_in(create)
    _which_api(create)


def _expires_in(command: argparse.ArgumentParser) -> None:
    text = "when it ends: a number of s, m, h or d, as 90d (default: never)"
    command.add_argument("--expires-in", type=_seconds, metavar="TIME", help=text)


def _seconds(text: str) -> int:
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(text[-1:])
    if unit is None or not text[:-1].isdecimal() or len(text) > 12:
        raise argparse.ArgumentTypeError(f"expected a time as 90d, 12h, 30m or 60s, got {text!r}")
    return int(text[:-1]) * unit


def _which_gateway(command: argparse.ArgumentParser) -> "argparse._MutuallyExclusiveGroup":
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--config", type=Path, metavar="FILE", help="the gateway's settings file")
    where.add_argument("--data-dir", type=Path, metavar="FOLDER", help="the gateway's data folder")
    return where


def _which_api(command: argparse.ArgumentParser, *, with_json: bool = True) -> None:
    """A gateway on this machine, whose operator we are, or any one, of which an admin key is needed."""
    where = _which_gateway(command)
    where.add_argument("--url", metavar="URL", help="where a gateway serves its admin API, maybe on another machine")
    text = "holds the admin key for --url (default: GATEWAY_ADMIN_KEY or OPENAI_ADMIN_KEY in the environment)"
    command.add_argument("--admin-key-file", type=Path, metavar="FILE", help=text)
    if with_json:
        command.add_argument("--json", action="store_true", help="print the API's answer")


def _limits_parser(limits: argparse.ArgumentParser) -> None:
    actions = limits.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "print every limit that holds for a key's calls of a model, and the setting that declares it"
    explain = actions.add_parser("explain", help=text, description=text)
    explain.add_argument("key", metavar="KEY", help="project/name, the key's id, or its hash")
    explain.add_argument("model", metavar="MODEL", nargs="?", help="as requests name it (default: a call without one)")
    explain.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings (YAML)")
    text = "make the counters of a running gateway on this machine what its ledger says was spent"
    reset = actions.add_parser("reset-spend", help=text, description=text)
    reset.add_argument(
        "--zero", action="store_true", help="begin all windows anew instead: forget what has been counted"
    )
    _which_gateway(reset)


def _requests_parser(requests: argparse.ArgumentParser) -> None:
    actions = requests.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "print what became of a call: limits, attempts, usage and price line by line; or why it was refused"
    show = actions.add_parser("show", help=text, description=text)
    show.add_argument("request", metavar="REQUEST_ID", help="the x-request-id of its answer")
    _which_api(show)


def _prices_parser(prices: argparse.ArgumentParser) -> None:
    actions = prices.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "print what a call costs, line by line, and which rates that comes from; without quantities, the rates"
    show = actions.add_parser("show", help=text, description=text)
    show.add_argument("model", metavar="MODEL", help="as a response names it")
    for option, what in (
        ("input", "tokens of input, with cached and written ones"),
        ("cached", "of these, read from the prompt cache"),
        ("cache-write", "of these, written to it"),
        ("output", "tokens of output"),
        ("audio-input", "of the input, audio"),
        ("audio-output", "of the output, audio"),
        ("image-input", "of the input, images"),
        ("image-output", "of the output, images"),
        ("images", "images"),
        ("characters", "characters that are spoken"),
        ("seconds", "seconds of audio or video"),
        ("web-searches", "web searches"),
        ("file-searches", "file searches"),
        ("sessions", "containers of the code interpreter"),
    ):
        show.add_argument(f"--{option}", type=_quantity, default=0, metavar="N", help=what)
    show.add_argument("--size", default="", metavar="SIZE", help="of images and video, as 1024x1024")
    show.add_argument("--quality", default="", metavar="NAME", help="of images, as hd")
    show.add_argument("--tier", default="", metavar="NAME", help="the service tier that the response names")
    show.add_argument("--batch", action="store_true", help="in the batch API")
    show.add_argument("--date", type=_date, metavar="YYYY-MM-DD", help="when, in UTC (default: now)")
    show.add_argument("--config", type=Path, metavar="FILE", help="settings, whose prices go before the gateway's")


def _import_parser(importing: argparse.ArgumentParser) -> None:
    sources = importing.add_subparsers(dest="source", required=True, metavar="SOURCE")
    text = "make settings from LiteLLM's config.yaml; clients keep their keys"
    litellm = sources.add_parser("litellm", help=text, description=text)
    litellm.add_argument("file", type=Path, metavar="FILE", help="LiteLLM's config.yaml")
    litellm.add_argument("--keys", type=Path, metavar="FILE", help="its keys, as JSON: docs/moving-from-litellm.md")
    litellm.add_argument("--teams", type=Path, metavar="FILE", help="its teams, as JSON")
    litellm.add_argument("--output", type=Path, metavar="FILE", help="where to; there must be no such file yet")


def _usage_parser(usage: argparse.ArgumentParser) -> None:
    actions = usage.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "write usage, or costs, as CSV or JSON lines: the numbers of the admin API"
    export = actions.add_parser("export", help=text, description=text)
    text = "the first day, in UTC, as 2026-11-22"
    export.add_argument("--from", dest="from_", type=_date, required=True, metavar="DATE", help=text)
    export.add_argument("--to", type=_date, metavar="DATE", help="the day after the last one (default: until now)")
    export.add_argument("--format", choices=["csv", "jsonl"], required=True, help="a table, or an object a line")
    export.add_argument("--width", choices=["1d", "1h", "1m"], default="1d", help="of each bucket (default 1d)")
    text = "project_id, user_id, api_key_id, model, …, as the API takes them (repeatable, or with commas)"
    export.add_argument("--group-by", action="append", default=[], metavar="NAMES", help=text)
    export.add_argument("--category", metavar="NAME", help="completions, images, … (default: all of them)")
    export.add_argument("--costs", action="store_true", help="costs in the place of usage")
    export.add_argument("--output", type=Path, metavar="FILE", help="where to (default: standard output)")
    _which_api(export, with_json=False)


def _quantity(text: str) -> int:
    if not text.isdecimal() or len(text) > 15:
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, got {text!r}")
    return int(text)


def _date(text: str) -> float:
    try:
        return dt.datetime.combine(dt.date.fromisoformat(text), dt.time(), dt.UTC).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a date as 2026-11-22, got {text!r}") from None


def _day(text: str) -> str:
    _date(text)
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 1 for a failure, 2 for a mistake in the call or the settings."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "control" and options.action is None and options.config is None:
        parser.error("control takes --config to run")
    if options.command == "_child":
        return _run_child(options.role)
    return _run_command(options)


def _run_command(options: argparse.Namespace) -> int:
    """A command of people's. Each imports only what it needs: making a key should not take a second."""
    name = "rebuild" if options.command == "control" and options.action == "rebuild" else options.command
    if name in _COMMANDS:
        module = importlib.import_module(f"gateway.commands.{_COMMANDS[name]}")
        status: int = getattr(module, _COMMANDS[name])(options)
        return status
    if name == "import":
        from gateway.commands.importing import import_litellm  # noqa: PLC0415

        return import_litellm(options)
    if name == "check-config":
        from gateway.commands.check import check_config  # noqa: PLC0415

        return check_config(options.file)
    from gateway.commands.serve import serve, simulator  # noqa: PLC0415

    if name == "simulator":
        return simulator(options.host, options.port)
    return serve(name, options.config)


def _run_child(role: str) -> int:
    """A child process of the supervisor. There is nothing left to tidy up when it returns."""
    from gateway.commands.child import run_child  # noqa: PLC0415

    os._exit(run_child(role))


if __name__ == "__main__":
    sys.exit(main())
