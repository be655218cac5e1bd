"""Asks upstreams how large vector stores are."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping, Sequence

import aiohttp

from gateway.control.jobs.upstream_session import session_for, why
from gateway.settings.model import Upstream
from gateway.telemetry.logging import Logger
from gateway.upstreams import own_headers
from gateway.usage.stores import stores_of
from gateway.values import SeenStore

_ALL_S = 120.0
_AT_ONCE = 4  # of one upstream
_NOT_FOUND = 404
_JSON = "application/json"

Answers = dict[str, SeenStore | None]


class _CannotTellError(Exception):
    """An upstream does not say. The message is for people, and has no secret in it."""


class StoreSizes:
    """Of all upstreams. Each gets its own key, and `_ALL_S` for all that is asked of it."""

    def __init__(self, upstreams: Mapping[str, Upstream], log: Logger) -> None:
        self._upstreams = upstreams
        self._log = log

    async def ask(self, wanted: Sequence[tuple[str, str]]) -> Answers:
        """wanted: upstream and id of stores. Returns by id what is said of each; None where nothing is. One that its
        upstream does not know any more is gone. Raises nothing."""
        answers: Answers = {id_: None for _, id_ in wanted}
        by_upstream: dict[str, list[str]] = {}
        for name, id_ in wanted:
            by_upstream.setdefault(name, []).append(id_)
        await asyncio.gather(*(self._ask(name, ids, answers) for name, ids in by_upstream.items()))
        return answers

    async def _ask(self, name: str, ids: Sequence[str], answers: Answers) -> None:
        """Up to the first that is not answered: the others would not be, either."""
        upstream = self._upstreams.get(name)
        if upstream is None:
            return
        left = iter(ids)
        try:
            async with asyncio.timeout(_ALL_S), _session(upstream) as session, asyncio.TaskGroup() as group:
                for _ in range(min(_AT_ONCE, len(ids))):
                    group.create_task(_each(session, upstream.base_url, left, answers))
        except* _CannotTellError as errors:
            self._refused(name, str(errors.exceptions[0]))
        except* TimeoutError:
            self._refused(name, "it takes too long")
        except* (OSError, ssl.SSLError) as errors:
            self._refused(name, f"a certificate or key cannot be read: {errors.exceptions[0]}")

    def _refused(self, name: str, reason: str) -> None:
        self._log.warning("vector_stores_not_asked", upstream=name, reason=reason)


async def _each(session: aiohttp.ClientSession, base_url: str, ids: Iterable[str], answers: Answers) -> None:
    for id_ in ids:
        answers[id_] = await _one(session, f"{base_url.rstrip('/')}/vector_stores/{id_}", id_)


async def _one(session: aiohttp.ClientSession, url: str, id_: str) -> SeenStore | None:
    """Raises _CannotTellError."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            status, body = response.status, await response.read()
    except (TimeoutError, aiohttp.ClientError) as error:
        raise _CannotTellError(why(error)) from None
    if status == _NOT_FOUND and b'"error"' in body:  # and not of a path that it does not have
        return SeenStore(id=id_, gone=True)
    if status != 200:
        raise _CannotTellError(f"it answers {status}")
    return next((one for one in stores_of(body) if one.id == id_ and one.bytes is not None), None)


def _session(upstream: Upstream) -> aiohttp.ClientSession:
    """Raises as `session_for`."""
    return session_for(upstream, {"Accept": _JSON, "OpenAI-Beta": "assistants=v2", **dict(own_headers(upstream))})
