"""Fine-tuning jobs: through all states, with events, checkpoints and a model at the end.

Rule: `trained_tokens` is the tokens of the training file's texts (messages, prompts, completions) times the epochs,
of jobs that succeed.
"""

import msgspec

from gateway.simulator import errors, params, tokens
from gateway.simulator.book import Ended, Meta, Quantities
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.families import files
from gateway.simulator.store import Shelf, page
from gateway.simulator.world import World

_CHECKPOINTS = 3
_EPOCHS = 3
_ENDED = frozenset({"succeeded", "failed", "cancelled"})
_METHODS = ("supervised", "dpo", "reinforcement")


def _shelf(world: World) -> Shelf:
    return world.store.shelf("jobs")


async def create(world: World, call: Call) -> Reply:
    """POST /fine_tuning/jobs."""
    body, model = call.body, params.model(call)
    for name in ("training_file", "validation_file"):
        if name == "training_file" or body.get(name):
            file_id = params.need_text(body, name)
            if file_id not in files.shelf(world):
                raise errors.ApiError(400, f"invalid {name}: {file_id}", param=name)
    job: Json = {
        "id": world.ids.make("ftjob-"),
        "object": "fine_tuning.job",
        "created_at": world.now(),
        "model": model,
        "fine_tuned_model": None,
        "finished_at": None,
        "organization_id": world.options.organization,
        "result_files": [],
        "status": "validating_files",
        "training_file": body["training_file"],
        "validation_file": body.get("validation_file"),
        "hyperparameters": _hyperparameters(body),
        "trained_tokens": None,
        "error": None,
        "seed": params.integer(body, "seed", 42),
        "integrations": params.items(body, "integrations"),
        "estimated_finish": None,
        "method": _method(body),
        "metadata": params.metadata(body) or None,
    }
    _shelf(world).add(job)
    _tell(world, job, "Created fine-tuning job: " + job["id"])
    world.start("fine-tuning job", _run(world, call, job))
    return JsonReply(job, Meta(model=model, object_id=job["id"]))


def _hyperparameters(body: Json) -> Json:
    given = params.mapping(body, "hyperparameters") or _method_parameters(body)
    found: Json = {"n_epochs": _EPOCHS, "batch_size": 1, "learning_rate_multiplier": 2}
    return found | {name: value for name, value in given.items() if name in found and value != "auto"}


def _method_parameters(body: Json) -> Json:
    method = params.mapping(body, "method")
    inner = method.get(str(method.get("type"))) or {}
    return inner.get("hyperparameters") or {} if isinstance(inner, dict) else {}


def _method(body: Json) -> Json:
    kind = params.choice(params.mapping(body, "method"), "type", _METHODS, "supervised")
    return {"type": kind, kind: {"hyperparameters": _hyperparameters(body)}}


async def _run(world: World, call: Call, job: Json) -> None:
    started_at = world.clock.wall()
    await world.step()
    counted = _training_tokens(files.read(world, job["training_file"]))
    if counted is None or call.faults.fail:
        message = "The training file is not valid: every line has to be a JSON object."
        job["error"] = {"code": "invalid_training_file", "param": "training_file", "message": message}
        return _end(world, call, job, "failed", started_at=started_at)
    for status, told in (
        ("queued", "Files validated, moving job to queued state"),
        ("running", "Fine-tuning job started"),
    ):
        if job["status"] != "cancelled":
            job["status"] = status
            _tell(world, job, told)
            await world.step()
    epochs, trained = job["hyperparameters"]["n_epochs"], 0
    for number in range(1, _CHECKPOINTS + 1):
        while job["status"] == "paused":
            await world.pause(0.01)
        if job["status"] == "cancelled":
            break
        trained = counted * epochs * number // _CHECKPOINTS
        _checkpoint(world, job, number)
        await world.step()
    status = "cancelled" if job["status"] == "cancelled" else "succeeded"
    return _end(world, call, job, status, trained=trained, started_at=started_at)


def _end(world: World, call: Call, job: Json, status: str, *, started_at: float, trained: int = 0) -> None:
    used = Quantities(trained_tokens=trained) if status == "succeeded" else Quantities()
    job |= {"status": status, "finished_at": world.now()}
    if status == "succeeded":
        suffix = params.text(call.body, "suffix")
        job["fine_tuned_model"] = f"ft:{job['model']}:{world.options.organization}:{suffix}:{world.ids.make('', 8)}"
        world.tuned_models[job["fine_tuned_model"]] = world.now()
        rows = [b"step,train_loss,train_accuracy\n", *(b"%d,%.3f,0.9\n" % (n, 2 / n) for n in range(1, 11))]
        job["result_files"] = [files.keep(world, rows, "step_metrics.csv", "fine-tune-results")["id"]]
        job["trained_tokens"] = used.trained_tokens
        _tell(world, job, f"New fine-tuned model created: {job['fine_tuned_model']}")
        _tell(world, job, "The job has successfully completed")
    else:
        _tell(world, job, f"The job has {status}", "error" if status == "failed" else "info")
    ended: Ended = "error" if status == "failed" else "complete"
    meta = Meta(used, job["model"], object_id=job["id"])
    world.note_job(call.entry, meta, ended=ended, started_at=started_at, faults=call.faults)


def _training_tokens(data: bytes) -> int | None:
    """The tokens of one epoch, None for a file that cannot be trained on."""
    total = 0
    for line in data.splitlines():
        if not line.strip():
            continue
        try:
            example = msgspec.json.decode(line, type=dict[str, object])
        except msgspec.DecodeError:
            return None
        messages = example.get("messages")
        parts = messages if isinstance(messages, list) else [example]
        for part in parts:
            if isinstance(part, dict):
                texts = (part.get(name) for name in ("content", "prompt", "completion"))
                total += sum(tokens.count(text) for text in texts if isinstance(text, str))
    return total or None


def _tell(world: World, job: Json, message: str, level: str = "info") -> None:
    value: Json = {
        "id": world.ids.make("ftevent-"),
        "object": "fine_tuning.job.event",
        "created_at": world.now(),
        "level": level,
        "message": message,
        "type": "message",
        "data": {},
    }
    world.store.shelf("job_events", job["id"]).add(value)


def _checkpoint(world: World, job: Json, number: int) -> None:
    step = number * 100
    base = f"ft:{job['model']}:{world.options.organization}::{world.ids.make('', 8)}"
    metrics = {"step": step, "train_loss": round(2 / (number + 1), 3), "train_mean_token_accuracy": 0.5 + number / 10}
    value: Json = {
        "id": world.ids.make("ftckpt_"),
        "object": "fine_tuning.job.checkpoint",
        "created_at": world.now(),
        "fine_tuned_model_checkpoint": f"{base}:ckpt-step-{step}",
        "fine_tuning_job_id": job["id"],
        "step_number": step,
        "metrics": metrics,
    }
    world.store.shelf("checkpoints", job["id"]).add(value)
    _tell(world, job, f"Step {step}: training loss={metrics['train_loss']}")


def _found(world: World, call: Call) -> Json:
    return _shelf(world).get(call.params["fine_tuning_job_id"])


async def retrieve(world: World, call: Call) -> Reply:
    """GET /fine_tuning/jobs/{fine_tuning_job_id}."""
    return JsonReply(_found(world, call))


async def list_all(world: World, call: Call) -> Reply:
    """GET /fine_tuning/jobs."""
    return JsonReply(_shelf(world).page(call))


async def cancel(world: World, call: Call) -> Reply:
    """POST /fine_tuning/jobs/{fine_tuning_job_id}/cancel."""
    return _moved(world, call, "cancelled")


async def pause(world: World, call: Call) -> Reply:
    """POST /fine_tuning/jobs/{fine_tuning_job_id}/pause."""
    return _moved(world, call, "paused")


async def resume(world: World, call: Call) -> Reply:
    """POST /fine_tuning/jobs/{fine_tuning_job_id}/resume."""
    return _moved(world, call, "running")


def _moved(world: World, call: Call, status: str) -> Reply:
    job = _found(world, call)
    if job["status"] in _ENDED:
        raise errors.ApiError(400, f"Job has already {job['status']}.")
    job["status"] = status
    return JsonReply(job)


async def list_events(world: World, call: Call) -> Reply:
    """GET /fine_tuning/jobs/{fine_tuning_job_id}/events."""
    return JsonReply(world.store.shelf("job_events", _found(world, call)["id"]).page(call))


async def list_checkpoints(world: World, call: Call) -> Reply:
    """GET /fine_tuning/jobs/{fine_tuning_job_id}/checkpoints."""
    found = list(world.store.shelf("checkpoints", _found(world, call)["id"]))
    return JsonReply(page(found, call, default=10))


HANDLERS: Handlers = (
    ("createFineTuningJob", create),
    ("retrieveFineTuningJob", retrieve),
    ("listPaginatedFineTuningJobs", list_all),
    ("cancelFineTuningJob", cancel),
    ("pauseFineTuningJob", pause),
    ("resumeFineTuningJob", resume),
    ("listFineTuningEvents", list_events),
    ("listFineTuningJobCheckpoints", list_checkpoints),
)
