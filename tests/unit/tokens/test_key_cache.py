"""Keys at hand: fetched once for all, ahead of need, kept while they cannot be fetched; and where from."""

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.clock import ManualClock
from gateway.tokens.download import DownloadError, download, wrong_url
from gateway.tokens.key_cache import KeyCache, KeyFile, KeysAwayError, Pace, discovered_keys, keys_at
from tests.fakes.issuer import Issuer, rsa_key
from tests.fakes.wire import until

ALGORITHMS = ["RS256", "ES256"]


class Bench:
    """A cache of an issuer's keys, and what it said."""

    def __init__(self, idp: Issuer) -> None:
        self.idp = idp
        self.clock = ManualClock()
        self.said: list[str] = []
        self.cache = KeyCache(keys_at(idp.jwks_url, ALGORITHMS, private=True), self.clock, Pace(), self.said.append)

    async def has(self, kid: str = "rsa-1") -> bool:
        return await self.cache.find(kid, "RS256") is not None

    @property
    def asked(self) -> int:
        return len(self.idp.asked)


@pytest.fixture
async def bench(idp: Issuer) -> AsyncIterator[Bench]:
    made = Bench(idp)
    yield made
    idp.release.set()
    await made.cache.close()


async def test_many_at_once_fetch_once(bench: Bench) -> None:
    assert all(await asyncio.gather(*(bench.has() for _ in range(100))))
    assert bench.asked == 1
    bench.clock.advance(299)
    assert await bench.has()
    assert bench.asked == 1


async def test_ahead_of_need_in_the_background(bench: Bench) -> None:
    await bench.has()
    bench.idp.does = "stall"
    bench.clock.advance(301)
    for _ in range(10):
        assert await bench.has(), "nobody waits"
    await until(lambda: bench.asked == 2)
    bench.idp.keys["rsa-2"] = rsa_key()
    bench.idp.release.set()
    await until(lambda: bench.cache._running is None)
    assert await bench.has("rsa-2")
    assert bench.asked == 2


async def test_a_withdrawn_key_ends_when_the_keys_are_old(bench: Bench) -> None:
    await bench.has()
    del bench.idp.keys["rsa-1"]
    bench.clock.advance(901)
    assert not await bench.has(), "this one waited for the fetch"
    assert bench.asked == 2


@pytest.mark.parametrize("does", ["fail", "garbage", "huge", "away"])
async def test_kept_while_they_cannot_be_fetched_for_a_day(bench: Bench, does: str) -> None:
    await bench.has()
    bench.idp.does = does
    bench.clock.advance(901)
    assert await bench.has()
    assert bench.asked == 2
    assert await bench.has()
    assert bench.asked == 2, "not again at once"
    bench.clock.advance(11)
    assert await bench.has()
    await until(lambda: bench.asked == 3 and bench.cache._running is None)
    assert len(bench.said) == 1, "said once"
    bench.clock.advance(86_400)
    with pytest.raises(KeysAwayError):
        await bench.has()
    bench.idp.does = "ok"
    bench.clock.advance(11)
    assert await bench.has()
    assert bench.said[-1] == ""


async def test_never_fetched(bench: Bench) -> None:
    bench.idp.does = "fail"
    for _ in range(5):
        with pytest.raises(KeysAwayError, match="500"):
            await bench.has()
    assert bench.asked == 1
    bench.idp.does = "ok"
    bench.clock.advance(11)
    assert await bench.has()


async def test_unknown_names_fetch_at_most_twice_a_minute(bench: Bench) -> None:
    await bench.has()
    bench.idp.keys["rsa-2"] = rsa_key()
    for number in range(20):
        assert not await bench.has(f"made-up-{number}")
    assert bench.asked == 1, "they were fetched a moment ago"
    bench.clock.advance(30)
    made_up = [bench.has(f"made-up-{number}") for number in range(50)]
    found = await asyncio.gather(bench.has("rsa-2"), *made_up)
    assert found == [True] + [False] * 50
    assert bench.asked == 2
    bench.clock.advance(29)
    assert not await bench.has("x")
    assert bench.asked == 2


async def test_unknown_names_do_not_hurt_while_the_issuer_fails(bench: Bench) -> None:
    await bench.has()
    bench.idp.does = "fail"
    bench.clock.advance(31)
    assert not await bench.has("x")
    assert await bench.has()
    assert bench.asked == 2


async def test_who_waits_may_leave(bench: Bench) -> None:
    bench.idp.does = "stall"
    first = asyncio.ensure_future(bench.has())
    await until(lambda: bench.asked == 1)
    second = asyncio.ensure_future(bench.has())
    first.cancel()
    bench.idp.release.set()
    assert await second
    assert bench.asked == 1


async def test_a_file_is_read_again_when_it_changes(idp: Issuer, tmp_path: Path) -> None:
    path, clock, said = tmp_path / "keys.json", ManualClock(), list[str]()
    cache = KeyCache(KeyFile(str(path), ALGORITHMS).load, clock, KeyFile.PACE, said.append)
    with pytest.raises(KeysAwayError):
        await cache.find("rsa-1", "RS256")
    path.write_text(json.dumps(idp.jwks()))
    clock.advance(1)
    assert await cache.find("rsa-1", "RS256") is not None
    del idp.keys["rsa-1"]
    path.write_text(json.dumps(idp.jwks()))
    os.utime(path, (1, 1))
    assert await cache.find("rsa-1", "RS256") is not None, "within the same second"
    clock.advance(1)
    assert await cache.find("rsa-1", "RS256") is None
    assert await cache.find("ec-1", "ES256") is not None
    path.write_text("{")
    clock.advance(1)
    assert await cache.find("ec-1", "ES256") is not None, "what was good is kept"
    assert said == [said[0], "", "it is not JSON"]
    await cache.close()


async def test_by_discovery(idp: Issuer) -> None:
    url = f"{idp.url}/.well-known/openid-configuration"
    keys = await discovered_keys(url, idp.url, ALGORITHMS, private=True)()
    assert keys.find("rsa-1", "RS256") is not None
    assert idp.asked == ["/.well-known/openid-configuration", "/jwks"]
    for described, reason in (
        ({"issuer": "https://other.example"}, "another issuer"),
        ({"jwks_uri": 5}, "not one"),
        ({"jwks_uri": "file:///etc/passwd"}, "not a URL"),
        ({"jwks_uri": "http://192.168.0.1/"}, "https"),
    ):
        idp.described = described
        with pytest.raises((DownloadError, ValueError), match=reason):
            await discovered_keys(url, idp.url, ALGORITHMS, private=True)()


@pytest.mark.parametrize(
    ("url", "private", "fits"),
    [
        ("https://idp.example/jwks", False, True), ("https://8.8.8.8/jwks", False, True),
        ("https://[2606:4700::1]/", False, True), ("http://idp.example/jwks", True, False),
        ("http://127.0.0.1:1/jwks", True, True), ("http://localhost/jwks", True, True), ("http://[::1]/", True, True),
        ("http://127.0.0.1:1/jwks", False, False), ("https://127.0.0.1/jwks", False, False),
        ("https://localhost/", False, False), ("https://10.0.0.1/", False, False), ("https://10.0.0.1/", True, True),
        ("https://169.254.169.254/latest", False, False), ("https://[::ffff:127.0.0.1]/", False, False),
        ("https://[64:ff9b::7f00:1]/", False, False), ("https://[2002:7f00:1::]/", False, False),
        ("https://0.0.0.0/", False, False), ("https://224.0.0.1/", False, False), ("https://[fd00::1]/", False, False),
        ("https://user:secret@idp.example/", False, False), ("https:///jwks", False, False), ("ftp://idp.example/", True, False),
        ("https://idp.example:99999/", False, False), ("https://idp.example/a b", False, False), ("", False, False),
        ("https://[::1", False, False), ("http://127.0.0.1.example/", True, False),
    ],
)  # fmt: skip
def test_where_keys_may_come_from(url: str, private: bool, fits: bool) -> None:
    assert (wrong_url(url, private=private) is None) == fits


async def test_a_name_that_leads_into_a_private_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the URL looked like: the address that is connected to is looked at."""
    monkeypatch.setattr("gateway.tokens.download._LOOPBACK_NAMES", frozenset())  # as a name that nobody knows
    for host, reason in (("localhost", "not public"), ("127.1", "canonical")):
        with pytest.raises(DownloadError, match=reason):
            await download(f"https://{host}/jwks", private=False)


async def test_an_answer_that_is_compressed_is_not_unpacked() -> None:
    async def bomb(_request: Any) -> web.Response:
        return web.Response(body=gzip.compress(b" " * 50_000_000), headers={"Content-Encoding": "gzip"})

    app = web.Application()
    app.router.add_get("/", bomb)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    body = await download(f"http://127.0.0.1:{runner.addresses[0][1]}/", private=True)
    assert body.startswith(b"\x1f\x8b")
    await runner.cleanup()
