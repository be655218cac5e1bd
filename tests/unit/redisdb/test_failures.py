"""What an error reply means."""

import pytest

from gateway.redisdb.failures import (
    HotError,
    HotLost,
    HotReplyError,
    HotUnavailable,
    RedisReplyError,
    hot_reply_failure,
)


def test_code_and_text() -> None:
    error = RedisReplyError.parse("NOSCRIPT No matching script.")
    assert (error.code, error.text, str(error)) == (
        "NOSCRIPT",
        "No matching script.",
        "NOSCRIPT No matching script.",
    )
    assert str(RedisReplyError.parse("ODD")) == "ODD"


def test_arguments_that_the_server_quotes_are_cut_off() -> None:
    reply = "ERR unknown command 'FOO', with args beginning with: 'sk-secret' "
    assert str(hot_reply_failure(reply)) == "ERR unknown command 'FOO'"


def test_long_texts_are_cut() -> None:
    assert len(str(RedisReplyError.parse("ERR " + "x" * 10_000))) < 400


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("ERR wrong", HotReplyError),
        ("MOVED 1 h:2", HotReplyError),
        ("READONLY You can't write against a read only replica.", HotLost),
        ("LOADING Valkey is loading the dataset in memory", HotUnavailable),
        ("CLUSTERDOWN The cluster is down", HotUnavailable),
        ("TRYAGAIN Multiple keys request during rehashing of slot", HotUnavailable),
        ("OOM command not allowed when used memory > 'maxmemory'.", HotUnavailable),
    ],
)
def test_who_can_still_be_trusted(reply: str, kind: type[HotError]) -> None:
    assert type(hot_reply_failure(reply)) is kind
