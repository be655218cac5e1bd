"""Each operation of OpenAI's API description 2.3.0, called once: its answer fits the description's schema.

Needs the description beside the project, and jsonschema; is skipped without.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import yaml

from gateway.operations.table import load_operations
from gateway.simulator import media
from tests.integration.test_simulator_operations import DESCRIBED
from tests.unit.simulator.kit import Simulation, simulation

decode, encode = msgspec.json.decode, msgspec.json.encode
jsonschema: Any = pytest.importorskip("jsonschema")
DESCRIPTION = Path(__file__).resolve().parents[3] / "shared" / "spec" / "openai-2.3.0.yaml"
PATHS = {operation.id: operation for operation in load_operations()}

# Where the description contradicts its own examples, and the simulator follows the examples: these members may be null,
# this value is no member of its enum.
NULLS = {
    "createBatch": {"errors", "output_file_id", "error_file_id", "in_progress_at", "finalizing_at", "completed_at",
                    "failed_at", "expired_at", "cancelling_at", "cancelled_at"},
}  # fmt: skip
NULLS |= dict.fromkeys(("retrieveBatch", "listBatches", "cancelBatch"), NULLS["createBatch"])
BINARY = {"downloadFile"}  # described as a JSON string
FILE_BATCHES = {"createVectorStoreFileBatch", "getVectorStoreFileBatch", "cancelVectorStoreFileBatch"}


class Caller:
    """Calls operations by id and keeps their answers."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.answers: dict[str, Any] = {}

    async def __call__(self, operation_id: str, json: Any = None, form: Any = None, **params: str) -> Any:
        operation = PATHS[operation_id]
        url = f"{self._sim.url}/v1{operation.path.format(**params)}"
        headers = self._sim.headers
        async with self._sim.session.request(operation.method, url, json=json, data=form, headers=headers) as response:
            data = await response.read()
            assert response.status == 200, (operation_id, data)
            is_json = response.content_type == "application/json"
        self.answers[operation_id] = decode(data) if is_json else data
        return self.answers[operation_id]


def form(**fields: Any) -> aiohttp.FormData:
    made = aiohttp.FormData()
    for name, value in fields.items():
        if isinstance(value, bytes):
            made.add_field(name, value, filename=f"{name}.bin", content_type="application/octet-stream")
        else:
            made.add_field(name, value)
    return made


async def text_and_media(call: Caller) -> None:
    said = [{"role": "user", "content": "Hello"}]
    await call("createChatCompletion", {"model": "gpt-4o", "messages": said, "logprobs": True, "top_logprobs": 2})
    await call("createCompletion", {"model": "gpt-3.5-turbo-instruct", "prompt": "Once", "logprobs": 2})
    await call("createEmbedding", {"model": "text-embedding-3-small", "input": "Hello"})
    await call("createModeration", {"input": "Hello"})
    await call("createImage", {"model": "gpt-image-1", "prompt": "A kite"})
    await call("createImageEdit", form=form(model="dall-e-2", prompt="A kite", image=media.png(9, 9, 1)))
    await call("createImageVariation", form=form(image=media.png(9, 9, 1)))
    await call("createSpeech", {"model": "tts-1", "voice": "alloy", "input": "Hello"})
    await call("createTranscription", form=form(model="whisper-1", response_format="verbose_json", file=media.wav(1)))
    await call("createTranslation", form=form(model="whisper-1", file=media.wav(1)))
    await call("create-realtime-session", {"model": "gpt-4o-realtime-preview"})
    await call("listModels")
    await call("retrieveModel", model="gpt-4o")


async def files_and_batches(call: Caller, sim: Simulation) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings",
            "body": {"model": "text-embedding-3-small", "input": "x"}}  # fmt: skip
    file = await call("createFile", form=form(purpose="batch", file=encode(line)))
    await call("listFiles")
    await call("retrieveFile", file_id=file["id"])
    await call("downloadFile", file_id=file["id"])
    asked = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
    batch = await call("createBatch", asked)
    await call("cancelBatch", batch_id=batch["id"])
    await sim.records()
    await call("retrieveBatch", batch_id=batch["id"])
    await call("listBatches")
    for last in ("completeUpload", "cancelUpload"):
        wanted = {"bytes": 3, "filename": "a", "mime_type": "text/plain", "purpose": "batch"}
        upload = await call("createUpload", wanted)
        part = await call("addUploadPart", form=form(data=b"abc"), upload_id=upload["id"])
        await call(last, {"part_ids": [part["id"]]}, upload_id=upload["id"])
    await call("deleteFile", file_id=file["id"])


async def fine_tuning(call: Caller, sim: Simulation) -> None:
    example = encode({"messages": [{"role": "user", "content": "Hello"}]})
    file = await call("createFile", form=form(purpose="fine-tune", file=example))
    job = await call("createFineTuningJob", {"model": "gpt-4o-mini", "training_file": file["id"]})
    await sim.records()
    done = await call("retrieveFineTuningJob", fine_tuning_job_id=job["id"])
    await call("listFineTuningEvents", fine_tuning_job_id=job["id"])
    await call("listFineTuningJobCheckpoints", fine_tuning_job_id=job["id"])
    second = await call("createFineTuningJob", {"model": "gpt-4o-mini", "training_file": file["id"]})
    await call("cancelFineTuningJob", fine_tuning_job_id=second["id"])
    await call("listPaginatedFineTuningJobs")
    await call("deleteModel", model=done["fine_tuned_model"])


async def vector_stores(call: Caller, sim: Simulation) -> None:
    file = await call("createFile", form=form(purpose="assistants", file=b"Some text."))
    store = await call("createVectorStore", {"name": "x", "expires_after": {"anchor": "last_active_at", "days": 1}})
    here = {"vector_store_id": store["id"]}
    await call("createVectorStoreFile", {"file_id": file["id"]}, **here)
    await sim.records()
    await call("getVectorStoreFile", **here, file_id=file["id"])
    await call("listVectorStoreFiles", **here)
    batch = await call("createVectorStoreFileBatch", {"file_ids": [file["id"]]}, **here)
    await call("listFilesInVectorStoreBatch", **here, batch_id=batch["id"])
    await call("cancelVectorStoreFileBatch", **here, batch_id=batch["id"])
    await call("getVectorStoreFileBatch", **here, batch_id=batch["id"])
    await call("deleteVectorStoreFile", **here, file_id=file["id"])
    await call("modifyVectorStore", {"name": "y"}, **here)
    await call("getVectorStore", **here)
    await call("listVectorStores")
    await call("deleteVectorStore", **here)


async def assistants(call: Caller, sim: Simulation) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    helper = await call("createAssistant", {"model": "gpt-4o", "tools": tools})
    await call("modifyAssistant", {"name": "Helper"}, assistant_id=helper["id"])
    await call("getAssistant", assistant_id=helper["id"])
    await call("listAssistants")
    thread = await call("createThread", {})
    here = {"thread_id": thread["id"]}
    message = await call("createMessage", {"role": "user", "content": "Hello"}, **here)
    await call("modifyMessage", {"metadata": {"a": "b"}}, **here, message_id=message["id"])
    await call("getMessage", **here, message_id=message["id"])
    run = await call("createRun", {"assistant_id": helper["id"]}, **here)
    await sim.records()
    waiting = await call("getRun", **here, run_id=run["id"])
    made = waiting["required_action"]["submit_tool_outputs"]["tool_calls"]
    outputs = [{"tool_call_id": one["id"], "output": "x"} for one in made]
    await call("submitToolOuputsToRun", {"tool_outputs": outputs}, **here, run_id=run["id"])
    await sim.records()
    await call("modifyRun", {"metadata": {}}, **here, run_id=run["id"])
    steps = await call("listRunSteps", **here, run_id=run["id"])
    await call("getRunStep", **here, run_id=run["id"], step_id=steps["data"][0]["id"])
    await call("listRuns", **here)
    await call("listMessages", **here)
    second = await call("createThreadAndRun", {"assistant_id": helper["id"], "thread": {}})
    await call("cancelRun", thread_id=second["thread_id"], run_id=second["id"])
    await call("modifyThread", {"metadata": {"a": "b"}}, **here)
    await call("getThread", **here)
    await call("deleteMessage", **here, message_id=message["id"])
    await call("deleteThread", **here)
    await call("deleteAssistant", assistant_id=helper["id"])


def converted(node: Any) -> Any:
    """An OpenAPI 3.0 schema as a JSON schema: `nullable` becomes a type, discriminators and examples go."""
    if isinstance(node, list):
        return [converted(part) for part in node]
    if not isinstance(node, dict):
        return node
    found = {name: converted(part) for name, part in node.items() if name not in {"discriminator", "example"}}
    if found.pop("nullable", False):
        return {"anyOf": [found, {"type": "null"}]}
    return found


def schemas() -> Iterator[tuple[str, Any]]:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document = yaml.load(DESCRIPTION.read_bytes(), Loader=loader)
    components = {"components": {"schemas": converted(document["components"]["schemas"])}}
    for methods in document["paths"].values():
        for operation in methods.values():
            answer = operation["responses"].get("200") or operation["responses"].get("201") or {}
            schema = (answer.get("content") or {}).get("application/json", {}).get("schema")
            if schema is not None:
                yield operation["operationId"], converted(schema) | components


def complaints(operation_id: str, schema: Any, answer: Any) -> list[str]:
    """What does not fit, leaving out what is known to be wrong with the description."""
    found = []
    for error in jsonschema.Draft7Validator(schema).iter_errors(answer):
        last = error.absolute_path[-1] if error.absolute_path else ""
        if error.instance is None and last in NULLS.get(operation_id, ()):
            continue
        if operation_id in FILE_BATCHES and error.instance == "vector_store.file_batch":
            continue
        if operation_id == "createTranscription" and error.validator == "oneOf":
            continue  # a verbose answer is a short one too
        found.append(f"{operation_id} at {list(error.absolute_path)}: {error.message[:300]}")
    return found


@pytest.mark.skipif(not DESCRIPTION.exists(), reason="OpenAI's API description is not beside the project")
async def test_all_answers_fit_their_schemas() -> None:
    async with simulation() as sim:
        call = Caller(sim)
        await text_and_media(call)
        await files_and_batches(call, sim)
        await fine_tuning(call, sim)
        await vector_stores(call, sim)
        await assistants(call, sim)
    assert sorted(call.answers) == sorted(DESCRIBED)
    found = [
        line
        for name, schema in schemas()
        if name in call.answers and name not in BINARY
        for line in complaints(name, schema, call.answers[name])
    ]
    assert found == []
