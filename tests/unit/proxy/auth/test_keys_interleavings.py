"""Questions, answers, changes and the news of changes in any order: who has heard of a revocation accepts that key no
more, wherever the answer that says otherwise was at that moment."""

import asyncio
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import ManualClock
from gateway.errors import GatewayError
from gateway.proxy.auth.keys import REFRESH_S, KeyCache, KeysAwayError
from gateway.values import Principal

KEYS = [b"a" * 32, b"b" * 32]
number = st.integers(0, 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ask", "ask", "read", "deliver", "grant", "revoke", "delete"]), number),
        st.tuples(st.sampled_from(["hear", "tick", "tick", "fail", "leave", "lose", "regain", "wait"]), st.just(0)),
    ),
    max_size=50,
)


class Question:
    """A question to Redis on its way: first it travels there, where it is answered, then the answer travels back."""

    def __init__(self, digest: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.digest = digest
        self.there: asyncio.Future[None] = loop.create_future()
        self.back: asyncio.Future[None] = loop.create_future()


class Interleaving:
    """Runs steps. heard: for each key, the version that the worker has been told of, below which nothing is true."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cache = KeyCache(self._fetch, self.clock)
        self.cache.connected()
        self.version = 0
        self.stored: dict[bytes, Principal | None] = dict.fromkeys(KEYS)
        self.versions = dict.fromkeys(KEYS, 0)
        self.heard = dict.fromkeys(KEYS, 0)
        self.news: deque[tuple[bytes, int]] = deque()
        self.subscribed = True
        self.questions: list[Question] = []
        self.asking: list[asyncio.Task[None]] = []
        self.accepted = 0

    async def _fetch(self, digest: bytes) -> Principal | None:
        question = Question(digest)
        self.questions.append(question)
        await question.there
        found = self.stored[digest]
        await question.back
        return found

    async def _ask(self, digest: bytes) -> None:
        try:
            self._check(digest, await self.cache.look_up(digest))
        except GatewayError:
            return

    def _check(self, digest: bytes, principal: Principal | None) -> None:
        if principal is not None:
            assert not principal.revoked
            assert int(principal.key_id) >= self.heard[digest]
            self.accepted += 1

    def change(self, digest: bytes, stored: Principal | None) -> None:
        self.stored[digest] = stored
        self.versions[digest] = self.version
        if self.subscribed:
            self.news.append((digest, self.version))

    async def step(self, what: str, n: int) -> None:
        self.version += 1
        if what == "tick":
            await asyncio.sleep(0)
        elif what in {"grant", "revoke", "delete", "hear", "lose", "regain"}:
            self._stored(what, KEYS[n])
        else:
            self._asked(what, KEYS[n])
        for each in KEYS:
            self._check(each, self.cache.cached(each))

    def _asked(self, what: str, digest: bytes) -> None:
        """A step of who asks, or of a question."""
        match what:
            case "ask":
                self.asking.append(asyncio.ensure_future(self._ask(digest)))
            case "leave" if self.asking:
                self.asking[-1].cancel()
            case "read":
                self._let([q.there for q in self.questions if q.digest == digest])
            case "deliver":
                self._let([q.back for q in self.questions if q.digest == digest and q.there.done()])
            case "fail":
                for way in [f for q in self.questions for f in (q.there, q.back) if not f.done()][:1]:
                    way.set_exception(KeysAwayError())
                    way.exception()  # perhaps nobody gets that far
            case "wait":
                self.clock.advance(REFRESH_S / 2)

    def _stored(self, what: str, digest: bytes) -> None:
        """A step of what is stored, or of the news of it."""
        match what:
            case "grant" | "revoke":
                self.change(digest, Principal(str(self.version), "p", "u", "o", revoked=what == "revoke"))
            case "delete":
                self.change(digest, None)
            case "hear" if self.news:
                self.hear()
            case "lose" if self.subscribed:
                self.subscribed = False
                self.news.clear()
                self.cache.disconnected()
            case "regain" if not self.subscribed:
                self.regain()

    @staticmethod
    def _let(ways: "list[asyncio.Future[None]]") -> None:
        for way in [w for w in ways if not w.done()][:1]:
            way.set_result(None)

    def hear(self) -> None:
        digest, version = self.news.popleft()
        self.heard[digest] = version
        self.cache.invalidate(digest)

    def regain(self) -> None:
        self.subscribed = True
        self.heard = dict(self.versions)
        self.cache.connected()

    async def settle(self) -> None:
        """Everything arrives; then the worker must know what is stored, and nobody may wait any more."""
        if not self.subscribed:
            self.regain()
        while self.news:
            self.hear()
        self.asking += [asyncio.ensure_future(self._ask(digest)) for digest in KEYS]
        for _ in range(60):
            await asyncio.sleep(0)
            for question in self.questions:
                self._let([question.there])
                self._let([question.back])
        assert all(task.done() for task in self.asking)
        for task in self.asking:
            if not task.cancelled():
                task.result()
        for digest in KEYS:
            stored = self.stored[digest]
            found = await self.cache.look_up(digest) if stored is None else self.cache.cached(digest)
            assert found == (None if stored is None or stored.revoked else stored)
        assert not self.cache._pending
        assert not self.cache._invalidated
        await self.cache.close()


@given(STEPS)
@settings(max_examples=400)
def test_what_was_revoked_is_not_accepted_once_that_was_heard(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        interleaving = Interleaving()
        for what, n in steps:
            await interleaving.step(what, n)
        await interleaving.settle()

    asyncio.run(run())


@given(st.integers(0, 6), st.integers(0, 6))
@settings(max_examples=49)
def test_the_news_comes_between_an_answer_and_who_waits_for_it(before: int, after: int) -> None:
    """The answer is true when it comes; a revocation is heard in the moment before who asked wakes up."""

    async def run() -> None:
        interleaving = Interleaving()
        ticks = ["tick"] * 2
        for what in ("grant", "hear", "ask", *ticks, "read", *["tick"] * before, "revoke", "deliver"):
            await interleaving.step(what, 0)
        for what in (*["tick"] * after, "hear"):
            await interleaving.step(what, 0)
        await interleaving.settle()

    asyncio.run(run())
