"""Every operation that is passed on is metered and has golden calls to show it, or is free for a reason written here.

A new row of the table fails this test until somebody has decided which of the two it is.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from gateway.operations.table import Operation, load_operations
from gateway.usage.kinds import KINDS
from gateway.usage.rules import RULES
from tests.fakes.golden_calls import Case, cases, operations

PROXIED = [operation for operation in load_operations() if operation.plane == "proxied"]
SOCKET_TESTS = "tests/integration/test_metering_sockets.py"

READS = "reads what is there"
DELETES = "deletes what is there"
STORES = "stores, and does not run, anything"
STORAGE = "storage is sampled by the control plane's ledger job; the answer tells no bytes that count"
REPEATS = "repeats usage of something made earlier"
COUNTS = "counts tokens; OpenAI does not bill that (reference: Get input token counts)"
STEERS = "changes the state of something whose usage is counted where it was started"
ELSEWHERE = "hands out a key for what passes the gateway by; refused unless an operator allows it"

FREE: Mapping[str, str] = MappingProxyType({
    "cancelResponse": REPEATS,
    "updateChatCompletion": REPEATS,
    "cancelBatch": REPEATS,
    "cancelFineTuningJob": REPEATS,
    "pauseFineTuningJob": REPEATS,
    "resumeFineTuningJob": REPEATS,
    "cancelEvalRun": REPEATS,
    "cancelEvalRunByPath": REPEATS,
    "modifyRun": REPEATS,
    "cancelRun": REPEATS,
    "updateAgentSession": REPEATS,
    "Getinputtokencounts": COUNTS,
    "createConversation": STORES,
    "updateConversation": STORES,
    "createConversationItems": STORES,
    "CreateVideoCharacter": "stores a character for later videos; OpenAI has no price for that",
    "createVoiceConsent": STORES,
    "updateVoiceConsent": STORES,
    "createVoice": "stores a voice for later speech; OpenAI has no price for that",
    "create-realtime-session": ELSEWHERE,
    "create-realtime-client-secret": ELSEWHERE,
    "create-realtime-transcription-session": ELSEWHERE,
    "create-realtime-translation-client-secret": ELSEWHERE,
    "CreateChatSessionMethod": ELSEWHERE,
    "CancelChatSessionMethod": STEERS,
    "hangup-realtime-call": STEERS,
    "refer-realtime-call": STEERS,
    "reject-realtime-call": STEERS,
    "hangupLiveSession": STEERS,
    "referLiveSession": STEERS,
    "rejectLiveSession": STEERS,
    "createFile": STORES,
    "createUpload": STORES,
    "cancelUpload": STORES,
    "completeUpload": STORES,
    "addUploadPart": STORES,
    "createVectorStore": STORAGE,
    "createVectorStoreFile": STORAGE,
    "createVectorStoreFileBatch": STORAGE,
    "modifyVectorStore": STORES,
    "cancelVectorStoreFileBatch": STORES,
    "updateVectorStoreFileAttributes": STORES,
    "CreateContainerFile": "stores a file in a container, which is billed where it was made",
    "CreateSkill": STORES,
    "UpdateSkillDefaultVersion": STORES,
    "CreateSkillVersion": STORES,
    "validateGrader": "looks at a grader, and does not run it",
    "createFineTuningCheckpointPermission": STORES,
    "createEval": STORES,
    "updateEval": STORES,
    "createAssistant": STORES,
    "modifyAssistant": STORES,
    "createThread": STORES,
    "modifyThread": STORES,
    "createMessage": STORES,
    "modifyMessage": STORES,
    "createAgent": STORES,
    "updateAgent": STORES,
    "updateAgentAutomation": STORES,
    "pauseAgentAutomation": STEERS,
    "resumeAgentAutomation": STEERS,
    "createAgentEnvironment": STORES,
    "createAgentEnvironmentFile": STORES,
    "createAgentEnvironmentTemplate": STORES,
    "updateAgentEnvironmentTemplate": STORES,
    "createVault": STORES,
    "updateVault": STORES,
    "createVaultCredential": STORES,
    "updateVaultCredential": STORES,
    "createWebhookEndpoint": STORES,
    "updateWebhookEndpoint": STORES,
    "rotateWebhookEndpointSecret": STORES,
    "testWebhookEndpoint": "sends a made-up event to the operator's own server",
    "Createcontentprovenancecheck": "looks for OpenAI's watermark; OpenAI has no price for that",
    "attachLiveSession": REPEATS,
})  # fmt: skip


def reason(operation: Operation) -> str | None:
    """Why an operation is free; None if it is not."""
    if operation.id in KINDS:
        return None
    if "websocket" not in operation.body and operation.method in {"GET", "DELETE"}:
        return READS if operation.method == "GET" else DELETES
    return FREE.get(operation.id)


@pytest.mark.parametrize("operation", PROXIED, ids=lambda operation: operation.id)
def test_it_is_metered_and_shown_or_free_for_a_reason(operation: Operation) -> None:
    why = reason(operation)
    if why is not None:
        assert operation.category is None or why == STORAGE, f"{operation.id} has a category and is free"
        assert "deferred" not in operation.flags, f"{operation.id} has usage later and is free"
        assert (why == REPEATS) <= ("stored" in operation.flags)
        return
    assert operation.id in KINDS, f"{operation.id} is neither metered nor free: decide, and say why"
    if "websocket" in operation.body:
        return  # of those, SOCKET_TESTS
    shown = cases(operation.id)
    assert {case.ends for case in shown if not case.stream} >= {"whole", "left", "cut"}, operation.id
    if "stream" in operation.flags:
        assert {case.ends for case in shown if case.stream} >= {"whole", "left", "cut"}, operation.id
    if "deferred" in operation.flags:
        assert any(case.pending for case in shown), operation.id
    if any(operation.id in rule.operations for rule in RULES):
        assert any(reported(case) for case in shown), operation.id


def reported(case: Case) -> bool:
    return any("source" not in line for line in case.lines)


def test_nothing_here_is_about_operations_that_are_not() -> None:
    ids = {operation.id for operation in PROXIED}
    assert ids >= FREE.keys()
    assert ids >= KINDS.keys()
    assert not FREE.keys() & KINDS.keys()
    assert {*operations()} - {"unknown"} <= KINDS.keys()
    methods = {operation.id: operation.method for operation in PROXIED}
    assert {each for each in FREE if methods[each] != "POST"} == {"attachLiveSession"}  # a socket


def test_sockets_have_tests_of_their_own() -> None:
    metered = {operation.id for operation in PROXIED if "websocket" in operation.body and operation.id in KINDS}
    assert metered == {
        "connectResponses", "connectRealtime", "connectRealtimeTranslation", "connectLiveSession",
        "connectLiveSessionFork",
    }  # fmt: skip
    assert (Path(__file__).parent / Path(SOCKET_TESTS).name).exists()


def test_paths_that_nobody_knows_are_shown_too() -> None:
    assert {case.events for case in cases("unknown")} == {0, 1}
