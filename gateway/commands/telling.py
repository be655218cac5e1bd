"""Tells the control process of this machine what its operator wants, over its command socket."""

import argparse
import http.client
import json
import socket
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.commands.console import complain, complain_of_settings
from gateway.settings.places import COMMAND_SOCKET, PlaceTakenError, socket_path
from gateway.supervisor.lock import is_held

_ANSWER_S = 10.0
_TRIES, _AGAIN_S = 100, 0.1

Answer = TypeVar("Answer")


class Refused(msgspec.Struct, frozen=True):
    """What the control process answers if it did not do it."""

    error: str


def tell(options: argparse.Namespace, target: str, body: object, kind: type[Answer]) -> Answer | int:
    """Tells the control process something and returns its answer; or, if there is none, the exit status, after it has
    said why. options: config, the settings file, or data_dir.
    """
    folder = options.data_dir
    if folder is None:
        from gateway.commands.check import load  # noqa: PLC0415 - a half second that `--data-dir` can do without
        from gateway.settings.load import SettingsError  # noqa: PLC0415

        try:
            folder = Path(load(options.config).data_dir)
        except SettingsError as error:
            return complain_of_settings(error)
    try:
        data = _tell_patiently(folder, target, json.dumps(body))
        if "error" in msgspec.json.decode(data, type=dict[str, object]):
            return complain(msgspec.json.decode(data, type=Refused).error)
        return msgspec.json.decode(data, type=kind)
    except (FileNotFoundError, ConnectionError):
        return complain(f"no gateway runs on {folder}: its control process does not answer")
    except (OSError, PlaceTakenError, http.client.HTTPException, msgspec.DecodeError) as error:
        return complain(f"the control process of {folder} does not answer as it should: {error}")


def _tell_patiently(folder: Path, target: str, body: str) -> bytes:
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


def _tell(path: Path, target: str, body: str) -> bytes:
    """Says something to the control process over its command socket. Raises OSError if it is not there."""
    connection = http.client.HTTPConnection("control", timeout=_ANSWER_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(_ANSWER_S)
        connection.sock.connect(str(path))
        connection.request("POST", target, body, {"Content-Type": "application/json"})
        return connection.getresponse().read()
    finally:
        connection.close()
