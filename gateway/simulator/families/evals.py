"""Evals: kept, and their runs done in the background.

Rule: a run asks its model once for each item of an inline data source (once for any other); an invocation's prompt is
the item's compact JSON, its answer 20 tokens. Odd items pass.
"""

import msgspec

from gateway.simulator import answers, params, tokens
from gateway.simulator.book import Meta, Quantities
from gateway.simulator.call import Call, Handlers, Json, JsonReply, Reply
from gateway.simulator.store import Shelf
from gateway.simulator.world import World

_ANSWER_TOKENS = 20
_encode = msgspec.json.Encoder().encode


def _shelf(world: World) -> Shelf:
    return world.store.shelf("evals")


async def create(world: World, call: Call) -> Reply:
    """POST /evals."""
    body = call.body
    config = dict(params.mapping(body, "data_source_config"))
    schema = {"type": "object", "properties": {"item": config.pop("item_schema", {"type": "object"})}}
    config.pop("include_sample_schema", None)
    value: Json = {
        "id": world.ids.hexadecimal("eval_"),
        "object": "eval",
        "created_at": world.now(),
        "name": params.text(body, "name", "Eval"),
        "data_source_config": config | {"schema": schema},
        "testing_criteria": [
            {"id": f"criterion-{i}"} | one for i, one in enumerate(params.objects(body, "testing_criteria"))
        ],
        "metadata": params.metadata(body),
    }
    return JsonReply(_shelf(world).add(value), Meta(object_id=value["id"]), 201)


async def retrieve(world: World, call: Call) -> Reply:
    """GET /evals/{eval_id}."""
    return JsonReply(_shelf(world).get(call.params["eval_id"]))


async def list_all(world: World, call: Call) -> Reply:
    """GET /evals."""
    return JsonReply(_shelf(world).page(call, order="asc"))


async def update(world: World, call: Call) -> Reply:
    """POST /evals/{eval_id}."""
    value = _shelf(world).get(call.params["eval_id"])
    value |= {name: call.body[name] for name in ("name", "metadata") if name in call.body}
    return JsonReply(value)


async def delete(world: World, call: Call) -> Reply:
    """DELETE /evals/{eval_id}."""
    value = _shelf(world).remove(call.params["eval_id"])
    return JsonReply({"object": "eval.deleted", "deleted": True, "eval_id": value["id"]})


def _runs(world: World, call: Call) -> Shelf:
    return world.store.shelf("eval_runs", _shelf(world).get(call.params["eval_id"])["id"])


async def create_run(world: World, call: Call) -> Reply:
    """POST /evals/{eval_id}/runs."""
    evaluated, source = _shelf(world).get(call.params["eval_id"]), params.need(call.body, "data_source")
    run_id = world.ids.hexadecimal("evalrun_")
    value: Json = {
        "id": run_id,
        "object": "eval.run",
        "created_at": world.now(),
        "eval_id": evaluated["id"],
        "name": params.text(call.body, "name", "Run"),
        "model": str(source.get("model") or "gpt-4o"),
        "status": "queued",
        "data_source": source,
        "error": {"code": "", "message": ""},
        "metadata": params.metadata(call.body),
        "per_model_usage": [],
        "per_testing_criteria_results": [],
        "report_url": f"https://platform.openai.com/evaluations/{evaluated['id']}?run_id={run_id}",
        "result_counts": {"total": 0, "errored": 0, "failed": 0, "passed": 0},
    }
    _runs(world, call).add(value)
    world.start("eval run", _work(world, call, evaluated, value))
    return JsonReply(value, Meta(object_id=run_id, parent=evaluated["id"]), 201)


async def _work(world: World, call: Call, evaluated: Json, run: Json) -> None:
    started_at = world.clock.wall()
    await world.step()
    if run["status"] == "canceled":
        return
    run["status"] = "in_progress"
    total, rows = Quantities(), _rows(run["data_source"])
    for number, row in enumerate(rows, 1):
        asked = tokens.count(_encode(row).decode())
        total += Quantities(input_tokens=asked, output_tokens=_ANSWER_TOKENS)
        item = _output(world, run, evaluated, row, number)
        item["sample"]["usage"] = _usage(Quantities(input_tokens=asked, output_tokens=_ANSWER_TOKENS))
        world.store.shelf("eval_items", run["id"]).add(item)
    await world.step()
    passed = (len(rows) + 1) // 2
    counts = {"total": len(rows), "errored": 0, "failed": len(rows) - passed, "passed": passed}
    criteria = [
        {"testing_criteria": one.get("name", one["id"]), "passed": passed, "failed": len(rows) - passed}
        for one in evaluated["testing_criteria"]
    ]
    usage = _usage(total) | {"model_name": run["model"], "invocation_count": len(rows)}
    run |= {"status": "completed", "result_counts": counts, "per_testing_criteria_results": criteria,
            "per_model_usage": [usage]}  # fmt: skip
    meta = Meta(total, run["model"], "default", run["id"], evaluated["id"])
    world.note_job(call.entry, meta, ended="complete", started_at=started_at, faults=call.faults)


def _rows(source: Json) -> list[Json]:
    inner = source.get("source")
    content = inner.get("content") if isinstance(inner, dict) else None
    return [row for row in content if isinstance(row, dict)] if isinstance(content, list) else [{"item": {}}]


def _usage(used: Quantities) -> Json:
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "cached_tokens": 0,
        "total_tokens": used.total_tokens,
    }


def _output(world: World, run: Json, evaluated: Json, row: Json, number: int) -> Json:
    text = world.prose.text(answers.seed_of(run["model"], number), _ANSWER_TOKENS)
    passed = number % 2 == 1
    return {
        "id": world.ids.hexadecimal("outputitem_"),
        "object": "eval.run.output_item",
        "created_at": world.now(),
        "run_id": run["id"],
        "eval_id": evaluated["id"],
        "status": "pass" if passed else "fail",
        "datasource_item_id": number,
        "datasource_item": row.get("item") or {},
        "results": [
            {"name": one.get("name", one["id"]), "passed": passed, "score": float(passed)}
            for one in evaluated["testing_criteria"]
        ],
        "sample": {
            "input": [{"role": "user", "content": _encode(row).decode()}],
            "output": [{"role": "assistant", "content": text}],
            "finish_reason": "stop",
            "model": run["model"],
            "error": {"code": "", "message": ""},
            "temperature": 1.0,
            "max_completion_tokens": 2048,
            "top_p": 1.0,
            "seed": 42,
        },
    }


async def get_run(world: World, call: Call) -> Reply:
    """GET /evals/{eval_id}/runs/{run_id}."""
    return JsonReply(_runs(world, call).get(call.params["run_id"]))


async def list_runs(world: World, call: Call) -> Reply:
    """GET /evals/{eval_id}/runs."""
    return JsonReply(_runs(world, call).page(call, order="asc"))


async def cancel_run(world: World, call: Call) -> Reply:
    """POST /evals/{eval_id}/runs/{run_id}, and the same with /cancel."""
    run = _runs(world, call).get(call.params["run_id"])
    if run["status"] == "queued":
        run["status"] = "canceled"
    return JsonReply(run)


async def delete_run(world: World, call: Call) -> Reply:
    """DELETE /evals/{eval_id}/runs/{run_id}."""
    run = _runs(world, call).remove(call.params["run_id"])
    return JsonReply({"object": "eval.run.deleted", "deleted": True, "run_id": run["id"]})


def _items(world: World, call: Call) -> Shelf:
    return world.store.shelf("eval_items", _runs(world, call).get(call.params["run_id"])["id"])


async def list_items(world: World, call: Call) -> Reply:
    """GET /evals/{eval_id}/runs/{run_id}/output_items."""
    return JsonReply(_items(world, call).page(call, order="asc"))


async def get_item(world: World, call: Call) -> Reply:
    """GET /evals/{eval_id}/runs/{run_id}/output_items/{output_item_id}."""
    return JsonReply(_items(world, call).get(call.params["output_item_id"]))


HANDLERS: Handlers = (
    ("createEval", create),
    ("getEval", retrieve),
    ("listEvals", list_all),
    ("updateEval", update),
    ("deleteEval", delete),
    ("createEvalRun", create_run),
    ("getEvalRun", get_run),
    ("getEvalRuns", list_runs),
    ("cancelEvalRun", cancel_run),
    ("cancelEvalRunByPath", cancel_run),
    ("deleteEvalRun", delete_run),
    ("getEvalRunOutputItems", list_items),
    ("getEvalRunOutputItem", get_item),
)
