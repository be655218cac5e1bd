# ruff: noqa: N818 - these names say what happened; "Error" would not add to that
"""What can go wrong with Redis, sorted by what the caller may conclude about its call.

| error | did the call run? |
| --- | --- |
| `HotUnavailable` | no |
| `HotTimeout`, `HotLost`, `RedisLost` | nobody knows: cancel it by id, or repeat it if it is idempotent |
| `HotReplyError`, `RedisReplyError` | the server refused it, or a script of ours failed in the middle: a bug |
| `RedisMisconfigured` | no, and none will until somebody changes a setting or the server |

No message carries an argument of a command, a URL or a password.
"""

from typing import Self

# A server's own words for "not now": nothing ran, and trying elsewhere or later is right.
NOT_SERVING = frozenset({"LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "BUSY", "MISCONF", "OOM", "NOREPLICAS"})
_LONGEST = 300
_ARGUMENTS_FOLLOW = ", with args beginning with"


class RedisFailure(Exception):
    """Anything of this room."""


class RedisMisconfigured(RedisFailure):
    """The settings or the server cannot be used as they are; the message names what to change."""


class RedisLost(RedisFailure):
    """No answer: the connection broke or could not be made, or time ran out."""


class RedisReplyError(RedisFailure):
    """An error reply. `code` is its first word (`ERR`, `NOSCRIPT`, `MOVED`); the text has no arguments in it."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code} {text}" if text else code)
        self.code = code
        self.text = text

    @classmethod
    def parse(cls, reply: str) -> Self:
        """From the line after the `-`. Servers quote the arguments of a command that they do not know: cut off."""
        code, _, text = reply.partition(" ")
        return cls(code, text.split(_ARGUMENTS_FOLLOW, 1)[0][:_LONGEST])


class HotError(RedisFailure):
    """A call on the request path failed."""


class HotUnavailable(HotError):
    """The call did not run: no connection, an open breaker, a full queue, or a server that is not serving."""


class HotTimeout(HotError):
    """The deadline passed after the call was sent: it may have run, or may still."""


class HotLost(HotError):
    """The connection broke, or the server turned out to be no primary, after the call was sent: it may have run."""


class HotReplyError(HotError, RedisReplyError):
    """The server answered with an error; see `RedisReplyError`."""


def hot_reply_failure(reply: str) -> HotError:
    """What an error reply means for a hot call.

    READONLY is what a demoted primary says. A script may have gone some way until it met it, hence "may have run".
    """
    error = HotReplyError.parse(reply)
    if error.code == "READONLY":
        return HotLost("the server is not a primary any more")
    if error.code in NOT_SERVING:
        return HotUnavailable(f"the server is not serving: {error.code}")
    return error
