"""`gateway keys`: make a key, hash one, revoke one."""

import argparse
import hashlib
import http.client
import json
import secrets
import socket
import sys
import time
from pathlib import Path

import msgspec

from gateway.commands.console import USAGE_ERROR, complain, complain_of_settings, say
from gateway.settings.places import COMMAND_SOCKET, PlaceTakenError, socket_path
from gateway.supervisor.lock import is_held

_ANSWER_S = 10.0
_TRIES, _AGAIN_S = 100, 0.1


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
    folder = options.data_dir
    if folder is None:
        from gateway.commands.check import load  # noqa: PLC0415 - a half second that `new` and `hash` can do without
        from gateway.settings.load import SettingsError  # noqa: PLC0415

        try:
            folder = Path(load(options.config).data_dir)
        except SettingsError as error:
            return complain_of_settings(error)
    try:
        answer = _tell_patiently(folder, "/keys/revoke", {"key": options.key})
    except (FileNotFoundError, ConnectionError):
        return complain(f"no gateway runs on {folder}: its control process does not answer")
    except (OSError, PlaceTakenError, http.client.HTTPException, msgspec.DecodeError) as error:
        return complain(f"the control process of {folder} does not answer as it should: {error}")
    if "error" in answer:
        return complain(answer["error"])
    say(f"revoked {answer['revoked']} ({answer['id']})")
    return 0


def _tell_patiently(folder: Path, target: str, body: dict[str, str]) -> dict[str, str]:
    """The same as `_tell`, also while the control process is just being replaced, as in a reload. May say it twice."""
    path = socket_path(folder, COMMAND_SOCKET)
    for _ in range(_TRIES):
        try:
            return _tell(path, target, body)
        except (FileNotFoundError, ConnectionError):
            if not is_held(folder):
                raise
            time.sleep(_AGAIN_S)
    return _tell(path, target, body)


def _tell(path: Path, target: str, body: dict[str, str]) -> dict[str, str]:
    """Says something to the control process over its command socket. Raises OSError if it is not there."""
    connection = http.client.HTTPConnection("control", timeout=_ANSWER_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(_ANSWER_S)
        connection.sock.connect(str(path))
        connection.request("POST", target, json.dumps(body), {"Content-Type": "application/json"})
        return msgspec.json.decode(connection.getresponse().read(), type=dict[str, str])
    finally:
        connection.close()
