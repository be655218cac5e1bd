"""The usage events of a whole gateway, wherever they are: in Redis still, or folded into its SQLite file."""

import shutil
import sqlite3
import tempfile
from pathlib import Path

import msgspec

from gateway.values import UsageEvent
from tests.fakes.events import KEYS, ORG
from tests.fakes.gateway_process import Gateway
from tests.fakes.redis_servers import Server

_NAME = "registry.sqlite"
_ATTEMPTS = 20


def events_so_far(server: Server, *gateways: Gateway) -> list[UsageEvent]:
    """All events that have reached Redis of this server, in order of their ids. One that is in the ledger twice, or more
    than once in the stream, is here as often."""
    found = server.command("XRANGE", KEYS.usage(ORG), "-", "+")  # first: what is folded leaves it later
    waiting = [msgspec.json.decode(fields[3], type=UsageEvent) for _, fields in found]
    kept = [event for gateway in gateways for event in _kept(gateway.data_dir)]
    confirmed = {event.id for event in kept if not event.unconfirmed}
    ids = {event.id for event in kept}
    rest = [one for one in waiting if one.id not in confirmed and not (one.unconfirmed and one.id in ids)]
    replaced = {one.id for one in rest if not one.unconfirmed}
    return sorted([*(one for one in kept if one.id not in replaced), *rest], key=lambda one: one.id)


def _kept(folder: Path) -> list[UsageEvent]:
    """What the ledger has. Its file is one process's alone, so it is a copy that is read: again, if it was written to
    meanwhile."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with tempfile.TemporaryDirectory() as copies:
                copied = copy_of(folder, Path(copies))
                connection = sqlite3.connect(copied)
                try:
                    assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
                    rows = connection.execute("SELECT event FROM usage_events").fetchall()
                finally:
                    connection.close()
                return [msgspec.json.decode(body, type=UsageEvent) for (body,) in rows]
        except (sqlite3.Error, AssertionError, FileNotFoundError):
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def copy_of(folder: Path, to: Path) -> Path:
    """Of the SQLite file in a data folder, in another folder. It may be torn, if it was written to meanwhile."""
    for ending in ("-wal", ""):  # a checkpoint between the two leaves what is in both
        if (one := folder / (_NAME + ending)).exists():
            shutil.copy(one, to)
    return to / _NAME
