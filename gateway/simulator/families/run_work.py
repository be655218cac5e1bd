"""What a run does: a generator of the stream's events that changes run, steps and messages as it goes.

A stream sends the events; a job in the background only drives them. Rules: a run whose tools contain the code
interpreter or file search uses each once, on the user's turn, in a step of its own; then it calls functions (see
`answers.py`) and requires action, or writes one message. A step's prompt tokens are those of the model's pass that made
it, so that the steps add up to the run.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.simulator import answers, prompt, tokens
from gateway.simulator.answers import Answer, Ask
from gateway.simulator.book import Ended, Meta, Quantities
from gateway.simulator.call import Call, Event, Json
from gateway.simulator.families import threads, vector_stores
from gateway.simulator.world import World

_encode = msgspec.json.Encoder().encode
_CODE = "import statistics\n\nvalues = [3, 1, 4, 1, 5, 9, 2, 6]\nprint(statistics.mean(values))\n"
_LIVES = ("cancelled", "completed", "failed")


class RunWork:
    """The work on one run. `thread` and `run` are the stored objects."""

    def __init__(self, world: World, call: Call, thread: Json, run: Json) -> None:
        self.run, self._world, self._call, self._thread = run, world, call, thread
        self._faults = call.faults
        self._started_at = world.clock.wall()
        self._outputs: list[str] = []
        self._usage = Quantities()
        self._step: Json | None = None
        self._message: Json | None = None
        self._step_usage = (0, 0)

    def begin(self, *, thread_is_new: bool) -> Iterator[Event]:
        """From the creation to the first end: terminal, or requiring action."""
        if thread_is_new:
            yield _event("thread.created", self._thread)
        yield self._ran("created")
        yield self._ran("queued")
        yield from self._guarded(self._work(first=True))

    def resume(self, outputs: dict[str, str]) -> Iterator[Event]:
        """On with the outputs of tools, by call id."""
        step = self._step
        assert step is not None
        for called in step["step_details"]["tool_calls"]:
            called["function"]["output"] = outputs[called["id"]]
        self._outputs += outputs.values()
        self.run |= {"required_action": None, "status": "queued"}
        yield self._end_step("completed")
        yield self._ran("queued")
        yield from self._guarded(self._work(first=False))

    def cancel(self) -> None:
        """Ends a run that nobody is working on."""
        for _ in self._stopped("cancelled"):
            pass

    def _guarded(self, events: Iterator[Event]) -> Iterator[Event]:
        """The events, until the run is asked to be cancelled."""
        for event in events:
            yield event
            if self.run["status"] == "cancelling":
                yield from self._stopped("cancelled")
                return

    def _work(self, *, first: bool) -> Iterator[Event]:
        run = self.run
        run |= {"status": "in_progress", "started_at": run["started_at"] or self._world.now()}
        yield self._ran("in_progress")
        if self._faults.expire or self._faults.fail:
            if self._faults.fail:
                run["last_error"] = {"code": "server_error", "message": "Sorry, something went wrong."}
            yield from self._stopped("failed" if self._faults.fail else "expired")
            return
        if first and run["tool_choice"] != "none":
            for tool in run["tools"]:
                if tool["type"] in {"code_interpreter", "file_search"}:
                    yield from self._use(tool["type"])
        read = self._prompt()
        answer = answers.compose(self._world.prose, self._ask(read, users_turn=first), self._faults)
        self._usage += Quantities(input_tokens=read.tokens, reasoning_tokens=answer.reasoning_tokens)
        self._step_usage = (read.tokens, 0)
        self._made(answer.reasoning_tokens)
        if answer.calls and not answer.cut:
            yield from self._call_tools(answer)
        else:
            yield from self._write(answer)

    def _prompt(self) -> prompt.Prompt:
        run, reading = self.run, prompt.Reading()
        reading.message("system")
        reading.text(run["instructions"] or "")
        for message in threads.messages(self._world, self._thread["id"]):
            reading.message(message["role"])
            for i, part in enumerate(message["content"]):
                prompt.add_part(reading, part, f"content[{i}]")
        for output in self._outputs:
            reading.message("tool")
            reading.text(output)
        if run["tools"]:
            reading.json(run["tools"])
        return reading.done()

    def _ask(self, read: prompt.Prompt, *, users_turn: bool) -> Ask:
        run = self.run
        limit = run["max_completion_tokens"]
        return Ask(
            run["model"],
            read.text,
            limit=None if limit is None else max(1, limit - self._usage.output_tokens),
            effort=run.get("reasoning_effort"),
            tools=answers.chat_tools(run),
            tool_choice=answers.chat_choice(run["tool_choice"]) if users_turn else "none",
            parallel=run["parallel_tool_calls"],
            users_turn=users_turn,
            schema=answers.format_schema(run["response_format"]),
        )

    def _made(self, count: int) -> int:
        """Counts output tokens."""
        self._usage += Quantities(output_tokens=count)
        self._step_usage = (self._step_usage[0], self._step_usage[1] + count)
        return count

    # Steps

    def _use(self, kind: str) -> Iterator[Event]:
        """One call of a tool that runs at OpenAI."""
        self._step_usage = (0, 0)
        inner: Json
        if kind == "code_interpreter":
            inner, done = (
                {"input": _CODE, "outputs": []},
                {"input": _CODE, "outputs": [{"type": "logs", "logs": "3.875\n"}]},
            )
            self._usage += Quantities(sessions=1)
            size = tokens.count(_CODE)
        else:
            query = self._world.prose.words(answers.seed_of(self.run["id"]), 5)
            inner, done = {}, self._searched(query)
            self._usage += Quantities(file_searches=1)
            size = tokens.count(query)
        called: Json = {"id": self._world.ids.make("call_"), "type": kind, kind: inner}
        yield from self._open_step("tool_calls", {"type": "tool_calls", "tool_calls": [called]})
        yield self._step_delta([{"index": 0} | called], self._made(size))
        called[kind] = done
        yield self._end_step("completed")

    def _searched(self, query: str) -> Json:
        stores: list[str] = []
        for owner in (self._thread, self.run):
            stores += ((owner.get("tool_resources") or {}).get("file_search") or {}).get("vector_store_ids") or []
        known = [store for store in stores if store in vector_stores.shelf(self._world)]
        rows = vector_stores.found(self._world, known, query, 5)
        results = [{"file_id": row["file_id"], "file_name": row["filename"], "score": row["score"]} for row in rows]
        return {"ranking_options": {"ranker": "auto", "score_threshold": 0.0}, "results": results}

    def _call_tools(self, answer: Answer) -> Iterator[Event]:
        calls: list[Json] = []
        yield from self._open_step("tool_calls", {"type": "tool_calls", "tool_calls": calls})
        for i, made in enumerate(answer.calls):
            function = {"name": made.name, "arguments": "", "output": None}
            calls.append({"id": self._world.ids.make("call_"), "type": "function", "function": function})
            size = self._made(made.tokens - len(made.pieces))
            yield self._step_delta([{"index": i} | calls[-1]], size)
            for text, size in answers.grouped(made.pieces, self._faults.chunks):
                function["arguments"] = str(function["arguments"]) + text
                part = {"index": i, "type": "function", "function": {"arguments": text}}
                yield self._step_delta([part], self._made(size))
        asked = [
            {"id": call["id"], "type": "function", "function": {n: call["function"][n] for n in ("name", "arguments")}}
            for call in calls
        ]
        action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": asked}}
        self.run |= {"status": "requires_action", "required_action": action}
        yield self._ran("requires_action")

    def _write(self, answer: Answer) -> Iterator[Event]:
        world, run = self._world, self.run
        message = threads.blank(world, run)
        step = {"type": "message_creation", "message_creation": {"message_id": message["id"]}}
        yield from self._open_step("message_creation", step)
        self._message = threads.messages(world, self._thread["id"]).add(message)
        yield _event("thread.message.created", message)
        yield _event("thread.message.in_progress", message)
        text: Json = {"value": "", "annotations": []}
        message["content"] = [{"type": "text", "text": text}]
        for piece, size in answers.grouped(answer.pieces, self._faults.chunks):
            text["value"] += piece
            delta = {"content": [{"index": 0, "type": "text", "text": {"value": piece}}]}
            value = {"id": message["id"], "object": "thread.message.delta", "delta": delta}
            yield _event("thread.message.delta", value, self._made(size))
        if answer.cut:
            run["incomplete_details"] = {"reason": "max_completion_tokens"}
            yield from self._stopped("incomplete")
            return
        message |= {"status": "completed", "completed_at": world.now()}
        yield _event("thread.message.completed", message)
        yield self._end_step("completed")
        self._message = None
        yield self._finish("completed")

    def _open_step(self, kind: str, details: Json) -> Iterator[Event]:
        run = self.run
        step: Json = {
            "id": self._world.ids.make("step_"),
            "object": "thread.run.step",
            "created_at": self._world.now(),
            "run_id": run["id"],
            "assistant_id": run["assistant_id"],
            "thread_id": run["thread_id"],
            "type": kind,
            "status": "in_progress",
            "cancelled_at": None,
            "completed_at": None,
            "expired_at": None,
            "failed_at": None,
            "last_error": None,
            "step_details": details,
            "usage": None,
            "metadata": {},
        }
        self._step = self._world.store.shelf("steps", run["id"]).add(step)
        yield _event("thread.run.step.created", step)
        yield _event("thread.run.step.in_progress", step)

    def _step_delta(self, calls: list[Json], size: int) -> Event:
        assert self._step is not None
        delta = {"step_details": {"type": "tool_calls", "tool_calls": calls}}
        value = {"id": self._step["id"], "object": "thread.run.step.delta", "delta": delta}
        return _event("thread.run.step.delta", value, size)

    def _end_step(self, status: str) -> Event:
        step, (asked, made) = self._step, self._step_usage
        assert step is not None
        self._step, self._step_usage = None, (0, 0)
        step |= {"status": status, f"{status}_at": self._world.now(), "usage": _usage(asked, made)}
        return _event(f"thread.run.step.{status}", step, usage=True)

    # Ends

    def _stopped(self, status: str) -> Iterator[Event]:
        """Ends whatever is open, then the run: cancelled, expired, failed or incomplete."""
        if self._message is not None:
            reason = "max_tokens" if status == "incomplete" else f"run_{status}"
            details = {"reason": reason}
            self._message |= {"status": "incomplete", "incomplete_at": self._world.now(), "incomplete_details": details}
            yield _event("thread.message.incomplete", self._message)
            self._message = None
        if self._step is not None:
            yield self._end_step("completed" if status == "incomplete" else status)
        yield self._finish(status)

    def _finish(self, status: str) -> Event:
        run, used = self.run, self._usage
        run |= {"status": status, "required_action": None, "expires_at": None}
        if status in _LIVES:
            run[f"{status}_at"] = self._world.now()
        run["usage"] = _usage(used.input_tokens, used.output_tokens)
        meta = Meta(used, run["model"], "default", run["id"], run["thread_id"])
        ended: Ended = "error" if status == "failed" else "complete"
        self._world.note_job(self._call.entry, meta, ended=ended, started_at=self._started_at, faults=self._call.faults)
        return self._ran(status)

    def _ran(self, status: str) -> Event:
        return _event(f"thread.run.{status}", self.run, usage=self.run["usage"] is not None)


def _usage(asked: int, made: int) -> Json:
    return {"prompt_tokens": asked, "completion_tokens": made, "total_tokens": asked + made}


def _event(name: str, value: Any, size: int = 0, *, usage: bool = False) -> Event:
    return Event(name, _encode(value), size, usage)
