"""`gateway check-config`, and the settings as all commands read them."""

import os
from collections.abc import Iterator
from pathlib import Path

from gateway.commands.console import complain_of_settings, say
from gateway.pricing.names import Names
from gateway.pricing.own import price_problems
from gateway.pricing.tables import load_tables
from gateway.redisdb.address import target
from gateway.redisdb.failures import RedisMisconfigured
from gateway.settings.load import SettingsError, load_settings
from gateway.settings.model import Prices, Settings
from gateway.settings.tree import Place


def load(path: Path) -> Settings:
    """The settings in a file. Raises SettingsError."""
    return load_settings(path, os.environ, _redis_problems, _price_problems)


def _redis_problems(settings: Settings) -> Iterator[tuple[Place, str]]:
    """What is wrong with the address of Redis, which only its client knows to read."""
    if settings.redis.url is None:
        return
    try:
        target(settings.redis)
    except RedisMisconfigured as error:
        text = str(error)
        about_url = text.removeprefix("redis.url")
        yield ("redis",) if about_url == text else ("redis", "url"), about_url.lstrip(": ")


def _price_problems(settings: Settings) -> Iterator[tuple[Place, str]]:
    """What is wrong with prices, which only the price book knows to tell."""
    if settings.prices != Prices():
        yield from price_problems(settings.prices, Names(load_tables().models))


def check_config(path: Path) -> int:
    try:
        settings = load(path)
    except SettingsError as error:
        return complain_of_settings(error)
    keys = sum(len(project.keys) for project in settings.projects)
    counts = ((len(settings.upstreams), "upstream"), (len(settings.projects), "project"), (keys, "key"))
    say(f"{path}: ok ({', '.join(_many(*count) for count in counts)})")
    return 0


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
