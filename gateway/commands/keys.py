"""`gateway keys`: make a key, hash one, revoke one; those of projects are made and listed in project_keys.py."""

import argparse
import hashlib
import sys

import msgspec

from gateway.commands.console import USAGE_ERROR, complain, say
from gateway.credentials import new_key


class Revoked(msgspec.Struct, frozen=True):
    """The control process's answer: the key's name and id."""

    revoked: str
    id: str


def keys(options: argparse.Namespace) -> int:
    if options.action == "new":
        key = new_key()
        say(f"key:  {key}\nhash: {hash_of(key)}\nPut the hash into the settings; the key itself is shown only here.")
        return 0
    if options.action == "hash":
        key = sys.stdin.readline().strip()
        if not key:
            return complain("expected a key on standard input", USAGE_ERROR)
        say(hash_of(key))
        return 0
    if options.action == "revoke":
        return _revoke(options)
    from gateway.commands.project_keys import create_key, list_keys  # noqa: PLC0415 - as below

    return create_key(options) if options.action == "create" else list_keys(options)


def hash_of(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def _revoke(options: argparse.Namespace) -> int:
    from gateway.commands.telling import tell  # noqa: PLC0415 - time that `new` and `hash` can do without

    answer = tell(options, "/keys/revoke", {"key": options.key}, Revoked)
    if isinstance(answer, int):
        return answer
    say(f"revoked {answer.revoked} ({answer.id})")
    return 0
