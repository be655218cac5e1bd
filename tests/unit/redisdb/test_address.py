"""From settings to where Redis is: every form of URL, and no secret in any refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.redisdb.address import Access, Address, ssl_context, target
from gateway.redisdb.failures import RedisMisconfigured
from gateway.settings.model import Redis, Sentinel, Tls
from gateway.values import Secret


def redis(url: str, **more: object) -> Redis:
    return Redis(url=Secret(url), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "address", "access"),
    [
        ("redis://h", Address("h", 6379), Access()),
        ("redis://", Address("localhost", 6379), Access()),
        ("redis://h:1/2", Address("h", 1), Access(db=2)),
        ("redis://h:1/?db=3", Address("h", 1), Access(db=3)),
        ("redis://u:p%40%2F@h:1", Address("h", 1), Access("u", Secret("p@/"))),
        ("redis://:p@h", Address("h", 6379), Access(None, Secret("p"))),
        ("redis://[::1]:7", Address("::1", 7), Access()),
        ("rediss://h", Address("h", 6379), Access(tls=Tls())),
        ("unix:///a/b%20c.sock?db=4", Address(path="/a/b c.sock"), Access(db=4)),
        ("unix:///a?username=u&password=p", Address(path="/a"), Access("u", Secret("p"))),
    ],
)
def test_urls(url: str, address: Address, access: Access) -> None:
    found = target(redis(url))
    assert (found.address, found.access, found.cluster, found.sentinel) == (address, access, False, None)


def test_settings_go_before_the_url() -> None:
    found = target(redis("redis://u:p@h", username="v", password=Secret("q"), cluster=True))
    assert found.access == Access("v", Secret("q"))
    assert found.cluster


def test_without_a_url_the_embedded_server_is_taken() -> None:
    assert target(Redis(), "unix:///e").address == Address(path="/e")
    assert target(redis("redis://h"), "unix:///e").address == Address("h", 6379)
    with pytest.raises(RedisMisconfigured, match=r"redis\.url is not set"):
        target(Redis())


def test_sentinels_need_no_url() -> None:
    sentinel = Sentinel(nodes=["a:1"], service="s")
    assert target(Redis(sentinel=sentinel)).sentinel == sentinel
    assert target(redis("rediss://:p@/3", sentinel=sentinel)).access == Access(None, Secret("p"), 3, Tls())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (redis("redis://:sec/ret@h:1"), "percent-encoded"),
        (redis("redis://:p:secret@h:x"), "percent-encoded"),
        (redis("redis://h?password=secret&socket_timeout=3"), r"not known: socket_timeout$"),
        (redis("redis://:secret@h/sec"), "number of a database"),
        (redis("redis://:secret@h/1", cluster=True), "no database but 0"),
        (redis("unix:///secret", cluster=True), "no unix socket"),
        (redis("redis://h", cluster=True, sentinel=Sentinel(nodes=["a"], service="s")), "exclude each other"),
    ],
)
def test_what_cannot_be_is_refused_without_the_url(settings: Redis, words: str) -> None:
    with pytest.raises(RedisMisconfigured, match=words) as refusal:
        target(settings)
    assert "secret" not in str(refusal.value)
    assert "sec/ret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("h:1", Address("h", 1)),
        ("h", Address("h", 26379)),
        ("[::1]:2", Address("::1", 2)),
        ("[::1]", Address("::1", 26379)),
        ("::1:2", Address("::1", 2)),
        (":3", Address("", 3)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text, default_port=26379) == address


def test_an_address_with_a_bad_port_is_refused() -> None:
    with pytest.raises(RedisMisconfigured, match="not host:port"):
        Address.parse("h:x")


@given(st.text(min_size=1, max_size=20))
def test_no_password_is_ever_shown(text: str) -> None:
    password = f"qqq{text}qqq"
    settings = redis(f"redis://user:{password}@h:1")
    try:
        shown = repr(target(settings))
    except RedisMisconfigured as refusal:
        shown = str(refusal)
    assert "qqq" not in shown


def test_tls_without_verification_accepts_anything() -> None:
    context = ssl_context(Tls(verify=False))
    assert not context.check_hostname


def test_a_certificate_that_cannot_be_read_names_the_setting() -> None:
    with pytest.raises(RedisMisconfigured, match=r"redis\.tls"):
        ssl_context(Tls(ca_file="/does/not/exist"))
