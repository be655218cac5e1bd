"""`gateway control rebuild`: the read model of a running gateway, written into Redis again."""

import argparse

import msgspec

from gateway.commands.console import say
from gateway.commands.telling import tell

_WRITTEN_S = 600.0


class Rebuilt(msgspec.Struct, frozen=True):
    """The control process's answer: how much was not there as it should have been."""

    keys: int
    withdrawn: int
    limits: int


def rebuild(options: argparse.Namespace) -> int:
    answer = tell(options, "/read-model/rebuild", {}, Rebuilt, within_s=_WRITTEN_S)
    if isinstance(answer, int):
        return answer
    if answer == Rebuilt(0, 0, 0):
        say("Redis has everything that workers have to know; nothing was written")
    else:
        say(f"written: {answer.keys} keys ({answer.withdrawn} of them withdrawn), {answer.limits} documents of limits")
    return 0
