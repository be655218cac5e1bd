"""Batches: they really run. Each line goes through the simulator's own handlers and has a record in the book."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from gateway.simulator import catalog, errors, faults, params
from gateway.simulator.book import NOTHING, Entry, Meta, Quantities
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply, read_model
from gateway.simulator.errors import ApiError
from gateway.simulator.families import files
from gateway.simulator.store import Shelf
from gateway.simulator.world import World

# Endpoint → operation.
_OPERATIONS = (
    ("/v1/chat/completions", "createChatCompletion"),
    ("/v1/completions", "createCompletion"),
    ("/v1/embeddings", "createEmbedding"),
    ("/v1/images/edits", "createImageEdit"),
    ("/v1/images/generations", "createImage"),
    ("/v1/moderations", "createModeration"),
    ("/v1/responses", "createResponse"),
    ("/v1/videos", "createVideo"),
)
_WINDOW_S = 24 * 3600
_MAX_LINES = 50_000
_MAX_ERRORS = 50
_encode = msgspec.json.Encoder().encode
Write: TypeAlias = Callable[[bytes], object]
_EXPIRED = "This request could not be executed before the completion window expired."


def _shelf(world: World) -> Shelf:
    return world.store.shelf("batches")


async def create(world: World, call: Call) -> Reply:
    """POST /batches."""
    body = call.body
    endpoint = params.need_text(body, "endpoint")
    if endpoint not in dict(_OPERATIONS):
        raise errors.wrong_value("endpoint", endpoint, tuple(known for known, _ in _OPERATIONS))
    if (window := params.need_text(body, "completion_window")) != "24h":
        raise errors.wrong_value("completion_window", window, ("24h",))
    file = files.shelf(world).find(params.need_text(body, "input_file_id"))
    if file is None or file["purpose"] != "batch":
        raise ApiError(400, f"No such File object: {body['input_file_id']}", param="input_file_id")
    value: Json = {
        "id": world.ids.hexadecimal("batch_"),
        "object": "batch",
        "endpoint": endpoint,
        "model": None,
        "errors": None,
        "input_file_id": file["id"],
        "completion_window": window,
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": world.now(),
        "in_progress_at": None,
        "expires_at": world.now() + _WINDOW_S,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "usage": _usage(NOTHING),
        "metadata": params.metadata(body) or None,
    }
    _shelf(world).add(value)
    runner = _Runner(world, value, call)
    world.start("batch", runner.run())
    return JsonReply(value, Meta(object_id=value["id"]))


async def retrieve(world: World, call: Call) -> Reply:
    """GET /batches/{batch_id}."""
    return JsonReply(_shelf(world).get(call.params["batch_id"]))


async def list_all(world: World, call: Call) -> Reply:
    """GET /batches."""
    return JsonReply(_shelf(world).page(call))


async def cancel(world: World, call: Call) -> Reply:
    """POST /batches/{batch_id}/cancel."""
    value = _shelf(world).get(call.params["batch_id"])
    if value["status"] not in {"validating", "in_progress", "finalizing", "cancelling"}:
        raise ApiError(409, f"Cannot cancel a batch with status '{value['status']}'.")
    value |= {"status": "cancelling", "cancelling_at": value["cancelling_at"] or world.now()}
    return JsonReply(value)


def _usage(total: Quantities) -> Json:
    return {
        "input_tokens": total.input_tokens,
        "input_tokens_details": {"cached_tokens": total.cached_tokens},
        "output_tokens": total.output_tokens,
        "output_tokens_details": {"reasoning_tokens": total.reasoning_tokens},
        "total_tokens": total.total_tokens,
    }


class _Runner:
    """One batch, from validation to its end."""

    def __init__(self, world: World, value: Json, call: Call) -> None:
        self._world, self._value, self._faults, self._parent = world, value, call.faults, call.entry
        self._input = files.path_of(world, value["input_file_id"])
        self._operation = dict(_OPERATIONS)[value["endpoint"]]
        self._total = NOTHING

    async def run(self) -> None:
        world, value = self._world, self._value
        await world.step()
        if self._cancelling() or not await self._validate() or self._cancelling():
            return self._finish({})
        self._become("in_progress")
        await world.step()
        done, failed = (world.data / "incoming" / f"{value['id']}-{kind}" for kind in ("done", "failed"))
        with done.open("wb") as out, failed.open("wb") as bad:
            expired = await self._lines(out.write, bad.write)
        outputs = {"output_file_id": self._keep(done, "output"), "error_file_id": self._keep(failed, "error")}
        if not self._cancelling() and not expired:
            self._become("finalizing")
            await world.step()
        self._finish(outputs, expired=expired)
        return None

    def _become(self, status: str) -> None:
        self._value |= {"status": status, f"{status}_at": self._world.now()}

    def _cancelling(self) -> bool:
        return bool(self._value["status"] == "cancelling")

    def _finish(self, outputs: Json, *, expired: bool = False) -> None:
        self._value |= outputs
        if self._value["status"] == "failed":
            return
        self._become("cancelled" if self._cancelling() else "expired" if expired else "completed")

    async def _validate(self) -> bool:
        """Looks at every line before the first one is run."""
        complaints: list[Json] = []
        seen: set[str] = set()
        total = 0
        for total, line in enumerate(_read(self._input), 1):
            if complaint := self._complaint(line, seen):
                complaints.append(complaint | {"line": total})
            if total % 200 == 0:
                await self._world.breathe()
        if total == 0 or total > _MAX_LINES:
            code, words = (
                ("empty_file", "is empty") if total == 0 else ("too_many_tasks", f"has over {_MAX_LINES} lines")
            )
            complaints = [{"code": code, "message": f"The input file {words}.", "param": None, "line": None}]
        if complaints or self._faults.fail:
            self._value["errors"] = {"object": "list", "data": complaints[:_MAX_ERRORS]}
            self._become("failed")
            return False
        self._value["request_counts"]["total"] = total
        return True

    def _complaint(self, line: bytes, seen: set[str]) -> Json | None:
        try:
            task = msgspec.json.decode(line)
        except msgspec.DecodeError:
            return {"code": "invalid_json_line", "message": "This line is not parseable as valid JSON.", "param": None}
        if not isinstance(task, dict) or not isinstance(task.get("body"), dict):
            return {
                "code": "missing_required_parameter",
                "message": "Missing required parameter: 'body'.",
                "param": "body",
            }
        custom_id = task.get("custom_id")
        if not isinstance(custom_id, str):
            message = "Missing required parameter: 'custom_id'."
            return {"code": "missing_required_parameter", "message": message, "param": "custom_id"}
        if custom_id in seen:
            message = f"The custom_id '{custom_id}' appears more than once."
            return {"code": "duplicate_custom_id", "message": message, "param": "custom_id"}
        seen.add(custom_id)
        if task.get("url") != self._value["endpoint"] or task.get("method") != "POST":
            message = "The URL or method of this request does not match the batch's endpoint."
            return {"code": "mismatched_endpoint", "message": message, "param": "url"}
        self._value["model"] = self._value["model"] or faults.split_model(str(task["body"].get("model", "")))[0] or None
        return None

    async def _lines(self, write: Write, write_error: Write) -> bool:
        """Runs the lines, as far as cancelling and the `expire` fault let it. True: it expired half way."""
        counts = self._value["request_counts"]
        last = counts["total"] // 2 if self._faults.expire else counts["total"]
        for number, line in enumerate(_read(self._input)):
            if self._cancelling():
                return False
            task = msgspec.json.decode(line)
            head = {"id": self._world.ids.hexadecimal("batch_req_"), "custom_id": task["custom_id"]}
            if number >= last:
                error = {"code": "batch_expired", "message": _EXPIRED}
                write_error(_encode(head | {"response": None, "error": error}) + b"\n")
                counts["failed"] += 1
                continue
            response, status = await self._line(task["body"])
            counts["completed" if status == 200 else "failed"] += 1
            (write if status == 200 else write_error)(_encode(head | {"response": response, "error": None}) + b"\n")
            self._value["usage"] = _usage(self._total)
            await self._world.breathe()
        return self._faults.expire

    async def _line(self, body: Json) -> tuple[Json, int]:
        """One line: its `response`, and the status in it."""
        world = self._world
        entry = self._parent.child(world.book.number(), world.ids.hexadecimal("req_"), "batch", world.clock.wall())
        entry.operation, entry.path, entry.batch = self._operation, self._value["endpoint"], True
        try:
            value = await self._answer(body, entry)
            entry.status = 200
            entry.output_tokens_sent = entry.usage.output_tokens
            entry.usage_sent = value.get("usage") is not None
        except ApiError as error:
            entry.status, entry.error = error.status, error.code or error.type
            entry.ended = "refused" if error.status < 500 else "error"
            value = {"error": error.value()}
        finally:
            entry.parent = self._value["id"]
            world.book.write(entry, world.clock.wall())
        self._total += entry.usage
        return {"status_code": entry.status, "request_id": entry.request_id, "body": value}, entry.status or 500

    async def _answer(self, body: Json, entry: Entry) -> Json:
        world = self._world
        model, specs = read_model(body, entry)
        chosen = world.choose(specs, entry.request)
        entry.faults = chosen.specs
        await world.pause(chosen.delay_s)
        if chosen.status is not None:
            raise errors.of_status(chosen.status, model, world.options.organization, chosen.retry_after)
        if model and not catalog.known(model):
            raise errors.unknown_model(model)
        body.pop("stream", None)
        call = Call(self._operation, {}, entry, seen_at=world.now(), body=body, model=model, faults=chosen)
        reply = await world.answer(call)
        entry.take(reply.meta)
        if not isinstance(reply, JsonReply):
            raise ApiError(400, "This request cannot be part of a batch.")
        return reply.value

    def _keep(self, path: Path, kind: str) -> str | None:
        """Makes a file of what was written, unless nothing was."""
        if path.stat().st_size == 0:
            path.unlink()
            return None
        name = f"{self._value['id']}_{kind}.jsonl"
        return str(files.keep(self._world, path, name, "batch_output")["id"])


def _read(path: Path) -> Iterator[bytes]:
    """The lines of a file that are not blank."""
    with path.open("rb") as source:
        for line in source:
            if line.strip():
                yield line


HANDLERS: Handlers = (
    ("createBatch", create),
    ("retrieveBatch", retrieve),
    ("listBatches", list_all),
    ("cancelBatch", cancel),
)
