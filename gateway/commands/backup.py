"""`gateway backup`: a copy of the control plane's database, made while it is used."""

import argparse
from pathlib import Path

import msgspec

from gateway.commands.console import complain, say
from gateway.commands.telling import tell

_COPIED_S = 600.0


class BackedUp(msgspec.Struct, frozen=True):
    """The control process's answer: the file and its size; or the command that does it, for PostgreSQL."""

    file: str = ""
    bytes: int = 0
    command: str = ""


def backup(options: argparse.Namespace) -> int:
    file = Path.cwd() / options.file
    answer = tell(options, "/backup", {"file": str(file)}, BackedUp, within_s=_COPIED_S)
    if isinstance(answer, int):
        return answer
    if answer.command:
        say(answer.command)
        return complain("nothing is copied: the database is PostgreSQL's, whose own program does it, as above")
    say(f"{answer.file}: {answer.bytes} bytes")
    return 0
