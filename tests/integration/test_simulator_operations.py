"""Which operations the simulator serves."""

import asyncio
import re
from typing import Any

import pytest

from gateway.operations.table import Operation, load_operations
from gateway.simulator.families import HANDLERS, SOCKETS
from tests.unit.simulator.kit import Simulation, simulation

# The 69 operations of OpenAI's API description 2.3.0 that are not administrative.
DESCRIBED = """
createChatCompletion createCompletion createEmbedding createModeration createImage createImageEdit createImageVariation
createSpeech createTranscription createTranslation create-realtime-session listModels retrieveModel deleteModel
createFile listFiles retrieveFile deleteFile downloadFile createUpload addUploadPart completeUpload cancelUpload
createBatch listBatches retrieveBatch cancelBatch
createFineTuningJob listPaginatedFineTuningJobs retrieveFineTuningJob cancelFineTuningJob listFineTuningEvents
listFineTuningJobCheckpoints
createAssistant listAssistants getAssistant modifyAssistant deleteAssistant
createThread getThread modifyThread deleteThread createMessage listMessages getMessage modifyMessage deleteMessage
createRun listRuns getRun modifyRun cancelRun createThreadAndRun submitToolOuputsToRun listRunSteps getRunStep
createVectorStore listVectorStores getVectorStore modifyVectorStore deleteVectorStore
createVectorStoreFile listVectorStoreFiles getVectorStoreFile deleteVectorStoreFile
createVectorStoreFileBatch getVectorStoreFileBatch cancelVectorStoreFileBatch listFilesInVectorStoreBatch
""".split()  # noqa: SIM905 - a list of 69 lines reads worse

# Newer families that are served by their own handlers.
NEWER = """
createResponse getResponse deleteResponse cancelResponse listInputItems Compactconversation Getinputtokencounts
createConversation getConversation updateConversation deleteConversation listConversationItems createConversationItems
getConversationItem deleteConversationItem
listChatCompletions getChatCompletion updateChatCompletion deleteChatCompletion getChatCompletionMessages createDecision
createVideo ListVideos GetVideo DeleteVideo RetrieveVideoContent CreateVideoRemix CreateVideoEdit CreateVideoExtend
CreateVideoCharacter GetVideoCharacter
CreateContainer ListContainers RetrieveContainer DeleteContainer CreateContainerFile ListContainerFiles
RetrieveContainerFile DeleteContainerFile RetrieveContainerFileContent
createEval listEvals getEval updateEval deleteEval createEvalRun getEvalRuns getEvalRun cancelEvalRun
cancelEvalRunByPath deleteEvalRun getEvalRunOutputItems getEvalRunOutputItem
updateVectorStoreFileAttributes retrieveVectorStoreFileContent searchVectorStore pauseFineTuningJob resumeFineTuningJob
create-realtime-client-secret create-realtime-transcription-session create-realtime-translation-client-secret
create-realtime-call accept-realtime-call hangup-realtime-call refer-realtime-call reject-realtime-call
createLiveSession forkLiveSession acceptLiveSession hangupLiveSession referLiveSession rejectLiveSession
""".split()  # noqa: SIM905
PROXIED = [operation for operation in load_operations() if operation.plane == "proxied"]


def test_these_operations_have_handlers() -> None:
    assert len(DESCRIBED) == 69
    assert sorted(name for name, _ in HANDLERS) == sorted(DESCRIBED + NEWER)
    sockets = {operation.id for operation in PROXIED if "websocket" in operation.body}
    assert {name for name, _ in SOCKETS} == sockets


async def test_every_operation_of_the_table_answers_in_openais_shape() -> None:
    async with simulation() as sim:
        for operation in PROXIED:
            status, body = await asyncio.wait_for(call(sim, operation), 5)
            known = {200, 201, 400, 404, 426}
            assert status in known, (operation.id, status, body)
            if status >= 400:
                assert body["error"].keys() == {"message", "type", "param", "code"}
                assert not body["error"]["message"].startswith("Invalid URL"), operation.id
        records = await sim.records()
        assert [record.operation for record in records if record.transport == "http"] == [one.id for one in PROXIED]


async def call(sim: Simulation, operation: Operation) -> tuple[int, Any]:
    path = re.sub(r"\{\w+\}", "unknown_1", operation.path)
    body: Any = {} if operation.method == "POST" else None
    url = f"{sim.url}/v1{path}"
    async with sim.session.request(operation.method, url, json=body, headers=sim.headers) as response:
        data = await response.read()
        return response.status, await response.json(content_type=None) if data.startswith(b"{") else data


@pytest.mark.parametrize("collection", ["/vaults", "/agents/environments/templates", "/skills"])
async def test_families_without_handlers_keep_plausible_objects(collection: str) -> None:
    async with simulation() as sim:
        status, _, made = await sim.post(collection, {"name": "mine"})
        assert (status, made["name"]) == (200, "mine")
        status, _, changed = await sim.post(f"{collection}/{made['id']}", {"name": "yours", "id": "no"})
        assert (changed["name"], changed["id"]) == ("yours", made["id"])
        async with sim.session.get(f"{sim.url}/v1{collection}", headers=sim.headers) as response:
            assert [one["id"] for one in (await response.json())["data"]] == [made["id"]]
        url = f"{sim.url}/v1{collection}/{made['id']}"
        async with sim.session.delete(url, headers=sim.headers) as response:
            assert (await response.json())["deleted"]
        async with sim.session.get(url, headers=sim.headers) as response:
            assert response.status == 404
