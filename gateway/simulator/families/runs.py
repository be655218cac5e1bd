"""Runs and their steps: polled or streamed. What they do is in `run_work.py`."""

from collections.abc import Iterator
from typing import Any

from gateway.simulator import errors, params
from gateway.simulator.book import Meta
from gateway.simulator.call import NAMED_DONE, Call, Event, EventReply, Handlers, Json, JsonReply, Reply
from gateway.simulator.families import assistants, threads
from gateway.simulator.families.run_work import RunWork
from gateway.simulator.store import Shelf
from gateway.simulator.world import World

_LIFETIME_S = 600
_FAIR_EVENTS = 32
_CONTENTS = 32  # how many events will carry output is not known before the run has run


def _runs(world: World, thread_id: str) -> Shelf:
    return world.store.shelf("runs", thread_id)


async def create(world: World, call: Call) -> Reply:
    """POST /threads/{thread_id}/runs."""
    thread = threads.shelf(world).get(call.params["thread_id"])
    if (run := threads.active_run(world, thread["id"])) is not None:
        raise errors.ApiError(400, f"Thread {thread['id']} already has an active run {run['id']}.")
    assistant = assistants.shelf(world).get(params.need_text(call.body, "assistant_id"))
    threads.add_all(world, thread["id"], params.items(call.body, "additional_messages"))
    return _started(world, call, thread, _run(world, call, thread, assistant), thread_is_new=False)


async def create_both(world: World, call: Call) -> Reply:
    """POST /threads/runs."""
    assistant = assistants.shelf(world).get(params.need_text(call.body, "assistant_id"))
    draft = params.mapping(call.body, "thread")
    if "tool_resources" in call.body:
        draft = draft | {"tool_resources": call.body["tool_resources"]}
    thread = threads.make(world, draft, call)
    return _started(world, call, thread, _run(world, call, thread, assistant), thread_is_new=True)


def _run(world: World, call: Call, thread: Json, assistant: Json) -> Json:
    body = call.body
    instructions = params.text(body, "instructions", assistant["instructions"] or "")
    if more := params.text(body, "additional_instructions"):
        instructions = f"{instructions} {more}".strip()
    value: Json = {
        "id": world.ids.make("run_"),
        "object": "thread.run",
        "created_at": world.now(),
        "assistant_id": assistant["id"],
        "thread_id": thread["id"],
        "status": "queued",
        "started_at": None,
        "expires_at": world.now() + _LIFETIME_S,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "model": call.model or assistant["model"],
        "instructions": instructions,
        "tools": assistant["tools"] if body.get("tools") is None else params.typed(body, "tools"),
        "tool_resources": assistant["tool_resources"],
        "metadata": params.metadata(body),
        "temperature": params.number(body, "temperature", assistant["temperature"], 0.0, 2.0),
        "top_p": params.number(body, "top_p", assistant["top_p"], 0.0, 1.0),
        "max_prompt_tokens": params.integer(body, "max_prompt_tokens", least=256),
        "max_completion_tokens": params.integer(body, "max_completion_tokens", least=1),
        "truncation_strategy": body.get("truncation_strategy") or {"type": "auto", "last_messages": None},
        "incomplete_details": None,
        "usage": None,
        "response_format": body.get("response_format") or assistant["response_format"],
        "tool_choice": body.get("tool_choice") or "auto",
        "parallel_tool_calls": params.flag(body, "parallel_tool_calls", default=True),
    }
    if effort := params.text(body, "reasoning_effort") or assistant.get("reasoning_effort"):
        value["reasoning_effort"] = effort
    return _runs(world, thread["id"]).add(value)


def _started(world: World, call: Call, thread: Json, run: Json, *, thread_is_new: bool) -> Reply:
    work = RunWork(world, call, thread, run)
    world.store.shelf("run_work", thread["id"]).add({"id": run["id"], "work": work})
    return _go(world, call, run, work.begin(thread_is_new=thread_is_new))


def _go(world: World, call: Call, run: Json, events: Iterator[Event]) -> Reply:
    """Streams the work, or has it done in the background."""
    meta = Meta(model=run["model"], object_id=run["id"], parent=run["thread_id"])
    if params.flag(call.body, "stream"):
        return EventReply(events, meta, _CONTENTS, end=NAMED_DONE, failure=_failure, detached=True)
    world.start("run", _drive(world, call, events))
    return JsonReply(run, meta)


def _failure() -> Iterator[Event]:
    error = b'{"error":{"message":"Sorry, something went wrong.","type":"server_error","param":null,"code":null}}'
    yield Event("error", error)


async def _drive(world: World, call: Call, events: Iterator[Event]) -> None:
    pace_s = call.faults.pace_s or 0.0
    await world.step()
    for i, event in enumerate(events):
        if event.name in {"thread.run.in_progress", "thread.message.completed"}:
            await world.step()
        elif event.tokens and pace_s:
            await world.pause(pace_s)
        elif i % _FAIR_EVENTS == 0:
            await world.breathe()


def _found(world: World, call: Call) -> Json:
    thread = threads.shelf(world).get(call.params["thread_id"])
    return _runs(world, thread["id"]).get(call.params["run_id"])


def _work_of(world: World, run: Json) -> RunWork:
    work: RunWork = world.store.shelf("run_work", run["thread_id"]).get(run["id"])["work"]
    return work


async def retrieve(world: World, call: Call) -> Reply:
    """GET /threads/{thread_id}/runs/{run_id}."""
    return JsonReply(_found(world, call))


async def list_all(world: World, call: Call) -> Reply:
    """GET /threads/{thread_id}/runs."""
    thread = threads.shelf(world).get(call.params["thread_id"])
    return JsonReply(_runs(world, thread["id"]).page(call))


async def modify(world: World, call: Call) -> Reply:
    """POST /threads/{thread_id}/runs/{run_id}."""
    run = _found(world, call)
    run["metadata"] = params.metadata(call.body)
    return JsonReply(run)


async def cancel(world: World, call: Call) -> Reply:
    """POST /threads/{thread_id}/runs/{run_id}/cancel."""
    run = _found(world, call)
    if run["status"] in threads.ENDED:
        raise errors.ApiError(400, f"Cannot cancel run with status '{run['status']}'.")
    waiting = run["status"] == "requires_action"
    run["status"] = "cancelling"
    shown = dict(run)
    if waiting:
        _work_of(world, run).cancel()
    return JsonReply(shown)


async def submit(world: World, call: Call) -> Reply:
    """POST /threads/{thread_id}/runs/{run_id}/submit_tool_outputs."""
    run = _found(world, call)
    if run["status"] != "requires_action":
        raise errors.ApiError(400, f'Runs in status "{run["status"]}" do not accept tool outputs.')
    wanted = [made["id"] for made in run["required_action"]["submit_tool_outputs"]["tool_calls"]]
    given: dict[str, Any] = {}
    for output in params.need_list(call.body, "tool_outputs"):
        given[str(output.get("tool_call_id"))] = str(output.get("output", ""))
    if sorted(given) != sorted(wanted):
        raise errors.ApiError(
            400, f"Expected tool outputs for call_ids {wanted}, got {list(given)}", param="tool_outputs"
        )
    run["status"] = "queued"
    return _go(world, call, run, _work_of(world, run).resume(given))


async def list_steps(world: World, call: Call) -> Reply:
    """GET /threads/{thread_id}/runs/{run_id}/steps."""
    return JsonReply(world.store.shelf("steps", _found(world, call)["id"]).page(call))


async def get_step(world: World, call: Call) -> Reply:
    """GET /threads/{thread_id}/runs/{run_id}/steps/{step_id}."""
    return JsonReply(world.store.shelf("steps", _found(world, call)["id"]).get(call.params["step_id"]))


HANDLERS: Handlers = (
    ("createRun", create),
    ("createThreadAndRun", create_both),
    ("getRun", retrieve),
    ("listRuns", list_all),
    ("modifyRun", modify),
    ("cancelRun", cancel),
    ("submitToolOuputsToRun", submit),
    ("listRunSteps", list_steps),
    ("getRunStep", get_step),
)
