"""Asks the admin API, for commands: of a gateway on this machine as its operator, or of any one with an admin key."""

import argparse
import http.client
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from gateway.commands.console import FAILED, USAGE_ERROR, complain
from gateway.commands.telling import NO_ANSWER, connected, data_folder, patiently, why
from gateway.settings.places import COMMAND_SOCKET, socket_path

KEY_VARIABLES = ("GATEWAY_ADMIN_KEY", "OPENAI_ADMIN_KEY")
_ANSWER_S = 30.0
_PAGE = 100

Connect = Callable[[], http.client.HTTPConnection]


class AskError(Exception):
    """There is no answer, or it says no. The message is for people. status: what the command ends with."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class NotThereError(AskError):
    """The answer is 404."""


class Api:
    """The admin API. before: what stands before /v1 in its URLs. explain: puts a failure to get an answer into words.

    Methods raise AskError.
    """

    def __init__(
        self, connect: Connect, before: str, headers: Mapping[str, str], explain: Callable[[Exception], str]
    ) -> None:
        self._connect = connect
        self._before = before
        self._headers = {"User-Agent": "gateway command line", "Content-Type": "application/json", **headers}
        self._explain = explain

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """path: behind /v1. body: members that are None are left out."""
        content = None
        if body is not None:
            content = msgspec.json.encode({name: value for name, value in body.items() if value is not None})
        try:
            connection = self._connect()
            try:
                connection.request(method, f"{self._before}/v1{path}", content, self._headers)
                response = connection.getresponse()
                data = response.read()
            finally:
                connection.close()
        except NO_ANSWER as error:
            raise AskError(self._explain(error)) from None
        return _understood(response.status, data)

    def every(self, path: str, parameters: str = "") -> list[dict[str, Any]]:
        """All of a list, in as many pages as it takes. parameters: further ones, each with & before it."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            page = self.ask("GET", f"{path}?limit={_PAGE}{parameters}{after}")
            found += page["data"]
            if not page["has_more"]:
                return found
            after = f"&after={quote(page['last_id'], safe='')}"


def _understood(status: int, data: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(data, type=dict[str, Any])
        if status == 200:
            return answer
        message = str(answer["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError):
        raise AskError(f"the answer is not one of the admin API (status {status})") from None
    raise NotThereError(message) if status == 404 else AskError(message)


def asking(options: argparse.Namespace, act: Callable[[Api], int]) -> int:
    """Does what asks the admin API; returns its exit status, or that of an error, after it has said so. options: config
    or data_dir of a gateway on this machine, or url, with admin_key_file or a key in the environment.
    """
    try:
        api = _remote(options) if options.url is not None else _local(options)
        return api if isinstance(api, int) else act(api)
    except AskError as error:
        return complain(str(error), error.status)


def _local(options: argparse.Namespace) -> Api | int:
    """Over the command socket: who may open it needs no key."""
    if options.admin_key_file is not None:
        raise AskError("--admin-key-file goes with --url: on this machine the operator needs no key", USAGE_ERROR)
    folder = data_folder(options)
    if isinstance(folder, int):
        return folder

    def connect() -> http.client.HTTPConnection:
        return patiently(folder, lambda: connected(socket_path(folder, COMMAND_SOCKET), _ANSWER_S))

    return Api(connect, "", {}, lambda error: why(folder, error))


def _remote(options: argparse.Namespace) -> Api:
    url = options.url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    kinds: Mapping[str, type[http.client.HTTPConnection]] = {
        "http": http.client.HTTPConnection,
        "https": http.client.HTTPSConnection,
    }
    kind = kinds.get(parts.scheme)
    if kind is None or host is None or "@" in parts.netloc or parts.query or parts.fragment:
        raise AskError("--url: expected http://host or https://host, with a port or a path if need be", USAGE_ERROR)
    before = parts.path.rstrip("/").removesuffix("/v1")
    headers = {"Authorization": f"Bearer {_key(options.admin_key_file)}"}
    return Api(lambda: kind(host, port, timeout=_ANSWER_S), before, headers, lambda error: f"{url}: {error}")


def _key(file: Path | None) -> str:
    """The admin key, which never stands on a command line: every user of the machine can read those."""
    if file is not None:
        try:
            key = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AskError(f"{file}: {getattr(error, 'strerror', None) or 'no text'}", USAGE_ERROR) from None
    else:
        key = next(filter(None, map(os.environ.get, KEY_VARIABLES)), "").strip()
    if not key:
        raise AskError(f"an admin key is needed: in {KEY_VARIABLES[0]}, or in a file (--admin-key-file)", USAGE_ERROR)
    if not all("!" <= letter <= "~" for letter in key):
        raise AskError("the admin key holds a space, or a letter beyond ASCII", USAGE_ERROR)
    return key
