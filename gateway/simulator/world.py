"""What a simulator consists of: everything that handlers share, made once by `app.py`."""

import asyncio
import hashlib
import random
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.simulator import catalog, errors
from gateway.simulator.book import Book, Ended, Entry, Meta, Quantities
from gateway.simulator.cache import PromptCache
from gateway.simulator.call import Call, Handler, Json, Reply
from gateway.simulator.faults import NONE, FaultError, Faults, choose
from gateway.simulator.headers import Limits
from gateway.simulator.ids import Ids
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.prompt import Prompt
from gateway.simulator.store import Store
from gateway.simulator.text import Prose
from gateway.tasks import Tasks


class World:
    """The state of one simulator. data: where files are; `tasks`: the jobs that run."""

    def __init__(self, options: SimulatorOptions, data: Path, handlers: Mapping[str, Handler]) -> None:
        self.options = options
        self.clock = options.clock
        self.data = data
        self.prose = Prose(seed=options.seed)
        self.book = Book(data / "book.jsonl")
        self.cache = PromptCache()
        self.limits = Limits(options.clock)
        self.ids = Ids()
        self.tasks = Tasks()
        self.store = Store(options.max_objects, self._dropped)
        self.ephemeral: dict[str, Json] = {}  # client secret → the session that it was made for
        self.tuned_models: dict[str, int] = {}  # name → created
        self.deleted_models: set[str] = set()
        self._stopping = False
        self._handlers = handlers

    def now(self) -> int:
        """Unix seconds, as OpenAI's objects have them."""
        return int(self.clock.wall())

    async def answer(self, call: Call) -> Reply:
        """Runs the operation's handler. Raises ApiError."""
        handler = self._handlers.get(call.operation)
        if handler is None:
            raise errors.unknown_path(call.entry.method, call.entry.path)
        return await handler(self, call)

    def cached(self, call: Call, prompt: Prompt) -> tuple[int, int]:
        """How many tokens of a prompt were in the cache, and how many were written to it now."""
        model = call.model
        if not self.options.caching or prompt.tokens < 1024:
            return 0, 0
        hit, length = self.cache.look_up(f"{call.entry.key}/{model}", prompt.text)
        most = (prompt.tokens - prompt.audio_tokens - prompt.image_tokens) // 128 * 128
        hit, length = min(hit, most), min(length, most)
        return hit, length - hit if catalog.writes_cache(model) else 0

    def admit(self, headers: Mapping[str, str], key: str | None) -> str:
        """The fingerprint of a caller's key. Raises ApiError for none or a wrong one, or another organization's."""
        if key is None:
            raise errors.no_key()
        accepted = self.options.keys
        if accepted is not None and key not in accepted and key not in self.ephemeral:
            raise errors.wrong_key(key)
        asked = headers.get("openai-organization")
        if asked and asked != self.options.organization:
            raise errors.mismatched_organization()
        return fingerprint(key)

    def admit_admin(self, key: str | None) -> str:
        """The same of an admin key, which an API key is not."""
        if key is None:
            raise errors.no_key()
        if key in (self.options.keys or ()):
            raise errors.missing_scopes("api.usage.read")
        accepted = self.options.admin_keys
        if accepted is not None and key not in accepted:
            raise errors.wrong_key(key)
        return fingerprint(key)

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Runs a job in the background; until it ends the book counts it as in flight."""

        async def run() -> None:
            with self.book.busy():
                await work

        self.tasks.spawn(run(), name)

    def note_job(self, cause: Entry, meta: Meta, *, ended: Ended, started_at: float, faults: Faults) -> None:
        """Writes the record of a job that a request started, at the job's end."""
        entry = cause.child(self.book.number(), self.ids.hexadecimal("req_"), "background", started_at)
        entry.request_model, entry.faults, entry.status, entry.ended = cause.request_model, faults.specs, 200, ended
        entry.output_tokens_sent = meta.usage.output_tokens
        entry.take(meta)
        self.book.write(entry, self.clock.wall())

    async def step(self) -> None:
        """How long a job stays in one state."""
        await self.pause(self.options.step_s)

    def choose(self, specs: tuple[str, ...], request: int) -> Faults:
        """The faults that hold for a request. Raises ApiError for an unknown spec."""
        if not specs:
            return NONE
        try:
            return choose(specs, random.Random(f"{self.options.seed}/{request}"))  # noqa: S311
        except FaultError as error:
            raise errors.unknown_fault(str(error)) from None

    async def pause(self, seconds: float) -> None:
        """Waits, but not much beyond the simulator's own end."""
        while seconds > 0:
            await asyncio.sleep(min(seconds, 0.5))
            if self._stopping:
                raise errors.CutError("the simulator stops")
            seconds -= 0.5

    async def breathe(self) -> None:
        """Lets others run: an answer without pauses would be written in one go."""
        await asyncio.sleep(0)

    async def stall(self, request: web.BaseRequest) -> None:
        """Does nothing until the client has left, then raises ConnectionError."""
        while (transport := request.transport) is not None and not transport.is_closing():
            await self.pause(0.02)
        raise ConnectionResetError("the client has left")

    def _dropped(self, kind: str, value: Json) -> None:
        """What is on disk goes with its object."""
        if kind in {"files", "parts"}:
            (self.data / "files" / value["id"]).unlink(missing_ok=True)

    async def reset(self) -> None:
        """Ends all jobs and forgets everything but the requests in flight."""
        await self.tasks.cancel()
        self.book.reset()
        self.cache.clear()
        self.store.clear()
        self.ephemeral.clear()
        self.tuned_models.clear()
        self.deleted_models.clear()

    def stop(self) -> None:
        """Ends all waiting, so that a server can shut down."""
        self._stopping = True


def fingerprint(key: str) -> str:
    """How the book names an upstream key: the first 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def text_usage(prompt: Prompt, cached: tuple[int, int], output_tokens: int, reasoning_tokens: int) -> Quantities:
    """The quantities of a text answer."""
    return Quantities(
        input_tokens=prompt.tokens,
        cached_tokens=cached[0],
        cache_write_tokens=cached[1],
        input_audio_tokens=prompt.audio_tokens,
        input_image_tokens=prompt.image_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=reasoning_tokens,
    )
