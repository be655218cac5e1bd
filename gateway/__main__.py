"""The command line. Each command's work is done elsewhere; here it is found, and its errors are put into words."""

import argparse
import datetime as dt
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway import __version__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway", description="A gateway in front of OpenAI's API.")
    parser.add_argument("--version", action="version", version=f"gateway {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("serve", "run the whole gateway: workers, control process and, without redis.url, a Valkey of its own"),
        ("proxy", "run the workers alone, with an external Redis"),
        ("control", "run the control process alone, with an external Redis"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings (YAML)")
    demo = commands.add_parser("demo", help="run everything with a simulated OpenAI behind it; needs no settings")
    demo.add_argument("--port", type=_port, default=8080, help="where clients call (default 8080; 0: any free one)")
    demo.add_argument("--operations-port", type=_port, default=9090, help="for /readyz and /metrics (default 9090)")
    demo.add_argument("--workers", type=_count, default=2, help="worker processes (default 2)")
    demo.add_argument("--api-key", type=_key, help="the key that clients use (default: a new one)")
    demo.add_argument("--admin-key", type=_key, help="the key of the admin API (default: a new one)")
    demo.add_argument("--data-dir", type=Path, help="keep data there (default: a temporary folder)")
    check = commands.add_parser("check-config", help="check a settings file, and only that")
    check.add_argument("file", type=Path, metavar="FILE")
    _keys_parser(commands.add_parser("keys", help="make, hash and revoke API keys"))
    _limits_parser(commands.add_parser("limits", help="show which limits hold, and why; reopen spend limits"))
    _prices_parser(commands.add_parser("prices", help="show what calls cost, and why"))
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


def _which_gateway(command: argparse.ArgumentParser) -> None:
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--config", type=Path, metavar="FILE", help="the gateway's settings file")
    where.add_argument("--data-dir", type=Path, metavar="FOLDER", help="the gateway's data folder")


def _limits_parser(limits: argparse.ArgumentParser) -> None:
    actions = limits.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "print every limit that holds for a key's calls of a model, and the setting that declares it"
    explain = actions.add_parser("explain", help=text, description=text)
    explain.add_argument("key", metavar="KEY", help="project/name, the key's id, or its hash")
    explain.add_argument("model", metavar="MODEL", nargs="?", help="as requests name it (default: a call without one)")
    explain.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings (YAML)")
    text = "reopen the spend limits of a running gateway on this machine, after Redis has lost what was spent"
    reset = actions.add_parser("reset-spend", help=text, description=text)
    reset.add_argument("--zero", action="store_true", help="begin all windows anew: forget what has been counted")
    _which_gateway(reset)


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


def _quantity(text: str) -> int:
    if not text.isdecimal() or len(text) > 15:
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, got {text!r}")
    return int(text)


def _date(text: str) -> float:
    try:
        return dt.datetime.combine(dt.date.fromisoformat(text), dt.time(), dt.UTC).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a date as 2026-11-22, got {text!r}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 1 for a failure, 2 for a mistake in the call or the settings."""
    options = _parser().parse_args(arguments)
    if options.command == "_child":
        return _run_child(options.role)
    return _run_command(options)


def _run_command(options: argparse.Namespace) -> int:
    """A command of people's. Each imports only what it needs: making a key should not take a second."""
    if options.command == "keys":
        from gateway.commands.keys import keys  # noqa: PLC0415

        return keys(options)
    if options.command == "check-config":
        from gateway.commands.check import check_config  # noqa: PLC0415

        return check_config(options.file)
    if options.command == "limits":
        from gateway.commands.limits import limits  # noqa: PLC0415

        return limits(options)
    if options.command == "prices":
        from gateway.commands.prices import prices  # noqa: PLC0415

        return prices(options)
    if options.command == "demo":
        from gateway.commands.demo import demo  # noqa: PLC0415

        return demo(options)
    from gateway.commands.serve import serve, simulator  # noqa: PLC0415

    if options.command == "simulator":
        return simulator(options.host, options.port)
    return serve(options.command, options.config)


def _run_child(role: str) -> int:
    """A child process of the supervisor. There is nothing left to tidy up when it returns."""
    from gateway.commands.child import run_child  # noqa: PLC0415

    os._exit(run_child(role))


if __name__ == "__main__":
    sys.exit(main())
