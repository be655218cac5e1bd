"""Tells the control process of this machine what its operator wants, over its command socket."""

import argparse
import http.client
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.commands.console import complain, complain_of_settings
from gateway.settings.places import COMMAND_SOCKET, PlaceTakenError, socket_path
from gateway.supervisor.lock import is_held

NO_ANSWER = (OSError, PlaceTakenError, http.client.HTTPException, msgspec.DecodeError)
_ANSWER_S = 10.0
_TRIES, _AGAIN_S = 100, 0.1

Answer = TypeVar("Answer")


class Refused(msgspec.Struct, frozen=True):
    """What the control process answers if it did not do it."""

    error: str


def tell(
    options: argparse.Namespace, target: str, body: object, kind: type[Answer], *, within_s: float = _ANSWER_S
) -> Answer | int:
    """Tells the control process something and returns its answer; or, if there is none, the exit status, after it has
    said why. options: config, the settings file, or data_dir.
    """
    folder = data_folder(options)
    if isinstance(folder, int):
        return folder
    try:
        path = socket_path(folder, COMMAND_SOCKET)
        data = patiently(folder, lambda: _tell(path, target, json.dumps(body), within_s))  # it may be said twice
        if "error" in msgspec.json.decode(data, type=dict[str, object]):
            return complain(msgspec.json.decode(data, type=Refused).error)
        return msgspec.json.decode(data, type=kind)
    except NO_ANSWER as error:
        return complain(why(folder, error))


def data_folder(options: argparse.Namespace) -> Path | int:
    """The gateway's data folder; or the exit status, after it has been said what is wrong with the settings."""
    if options.data_dir is not None:
        return Path(options.data_dir)
    from gateway.commands.check import load  # noqa: PLC0415 - a half second that `--data-dir` can do without
    from gateway.settings.load import SettingsError  # noqa: PLC0415

    try:
        return Path(load(options.config).data_dir)
    except SettingsError as error:
        return complain_of_settings(error)


def patiently(folder: Path, attempt: Callable[[], Answer]) -> Answer:
    """Tries again while the control process is just being replaced, as in a reload. Raises OSError."""
    for _ in range(_TRIES):
        try:
            return attempt()
        except (FileNotFoundError, ConnectionError):
            if not is_held(folder):
                raise
            time.sleep(_AGAIN_S)
    return attempt()


def why(folder: Path, error: Exception) -> str:
    """For people: what it means that there was no answer."""
    if isinstance(error, FileNotFoundError | ConnectionError):
        return f"no gateway runs on {folder}: its control process does not answer"
    return f"the control process of {folder} does not answer as it should: {error}"


def connected(path: Path, within_s: float) -> http.client.HTTPConnection:
    """A connection to a control process over its socket, where every answer is to come in time. Raises OSError if it is
    not there."""
    connection = http.client.HTTPConnection("control")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(within_s)
        connection.sock.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def _tell(path: Path, target: str, body: str, within_s: float) -> bytes:
    connection = connected(path, within_s)
    try:
        connection.request("POST", target, body, {"Content-Type": "application/json"})
        return connection.getresponse().read()
    finally:
        connection.close()
