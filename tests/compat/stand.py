"""The gateways that the compat suites talk to: real ones, with an API key for each kind of client."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from gateway.control.registry.declared import declared_keys
from gateway.settings.load import load_settings
from tests.fakes.gateway_fixtures import many_gateways
from tests.fakes.gateway_process import ADMIN_KEY, UPSTREAM_KEY, Gateway

__all__ = ["ADMIN_KEY", "HALVES", "UPSTREAM_KEY", "Gate", "Line", "opened"]
HALVES = ("sync", "async")
_NAMES = (*HALVES, "raw", "node", "revoked-sync", "revoked-async")


class Line(msgspec.Struct, frozen=True):
    """An access line of a worker, as far as the suites look at it."""

    request_id: str
    method: str
    path: str
    status: int
    ended: str
    operation: str = ""
    key: str = ""
    upstream_request_id: str = ""
    error: str = ""


class Gate(msgspec.Struct, frozen=True):
    """A running gateway. url: without /v1. keys, key_ids: of the clients, by name."""

    gateway: Gateway
    url: str
    keys: Mapping[str, str]
    key_ids: Mapping[str, str]

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def calls(self) -> list[Line]:
        """The access lines so far. Workers write them a few times a second."""
        return [msgspec.convert(line, Line) for line in self.gateway.events("request")]


@contextmanager
def opened(upstream: str, folders: pytest.TempPathFactory, **settings: Any) -> Iterator[Gate]:
    """A gateway of two workers with these settings, and a key for each client. upstream: the simulator, without /v1."""
    keys = {name: f"sk-gw-compat-{name}-".ljust(48, "0") for name in _NAMES}
    declared = [{"name": name, "secret": key} for name, key in keys.items()]
    with many_gateways(upstream, folders) as start:
        # Limits that nobody reaches: clients are told of them on every answer, as OpenAI's are.
        limits = {"organization": {"requests_per_minute": 1_000_000, "tokens_per_minute": 1_000_000_000}}
        gateway = start(projects=[{"id": "proj_compat", "keys": declared}], limits=limits, **settings)
        gateway.secrets |= set(keys.values())
        known = declared_keys(load_settings(gateway.file, {}))
        yield Gate(gateway, gateway.url, keys, {key.name.partition("/")[2]: key.principal.key_id for key in known})
