"""Settings as JSON, on their way to a child process. Apart from `load`, for a worker reads no files."""

from typing import Any

import msgspec

from gateway.settings.model import Settings
from gateway.values import Secret


def convert(plain: Any) -> Settings:
    return msgspec.convert(plain, Settings, dec_hook=_into_secret)


def encode(settings: Settings) -> bytes:
    """Settings as JSON, secrets included, for handing them to a child process."""
    return msgspec.json.encode(settings, enc_hook=_from_secret)


def decode(data: bytes) -> Settings:
    return msgspec.json.decode(data, type=Settings, dec_hook=_into_secret)


def _into_secret(kind: type, value: Any) -> Any:
    assert kind is Secret, kind
    return Secret(value)


def _from_secret(value: Any) -> Any:
    assert isinstance(value, Secret), type(value)
    return value.reveal()
