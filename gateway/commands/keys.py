"""`gateway keys`: make a key, hash one, revoke one."""

import argparse
import hashlib
import secrets
import sys

import msgspec

from gateway.commands.console import USAGE_ERROR, complain, say


class Revoked(msgspec.Struct, frozen=True):
    """The control process's answer: the key's name and id."""

    revoked: str
    id: str


def new_key() -> str:
    """A random key of 256 bits, in the form that secret scanners know keys by."""
    return f"sk-gw-{secrets.token_urlsafe(32)}"


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
    return _revoke(options)


def hash_of(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def _revoke(options: argparse.Namespace) -> int:
    from gateway.commands.telling import tell  # noqa: PLC0415 - time that `new` and `hash` can do without

    answer = tell(options, "/keys/revoke", {"key": options.key}, Revoked)
    if isinstance(answer, int):
        return answer
    say(f"revoked {answer.revoked} ({answer.id})")
    return 0
