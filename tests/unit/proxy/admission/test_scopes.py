"""What a restricted key may do, as a table."""

import pytest

from gateway.errors import MISSING_SCOPES, GatewayError
from gateway.operations.matcher import Matcher
from gateway.operations.table import load_operations
from gateway.proxy.admission.scopes import Scopes
from gateway.proxy.http.headers import Headers
from gateway.proxy.http.request import Request
from gateway.proxy.http.target import parse_target
from gateway.values import Principal

OPERATIONS = load_operations()
MATCHER = Matcher(OPERATIONS)
SCOPES = Scopes(OPERATIONS)
ALL = {"api.all", "api.all.write"}
ASKING = {"api.model.request", "model.request"}
READING = {"api.all.read"}
EVERY_SCOPE = {
    *(f"api.{area}.{what}" for area in (
        "chat", "completions", "responses", "conversations", "embeddings", "moderations", "images", "videos", "audio",
        "realtime", "live", "models", "files", "uploads", "batches", "vector_stores", "containers", "fine_tuning",
        "evals", "assistants", "threads", "agents", "brand", "model", "all",
    ) for what in ("read", "write")),
    *ALL, *ASKING, "model.read", "api.chat", "chat.write", "api.chat.write.more", "API.CHAT.WRITE",
}  # fmt: skip


def missing(method: str, path: str, *scopes: str, websocket: bool = False) -> str | None:
    """The scope that is said to be missing; None if the key may do it."""
    target = parse_target(method, "/v1" + path)
    request = Request(method, target, Headers([], {}), 0, False, websocket)
    principal = Principal("key_1", "proj_1", "user_1", "org-1", scopes=scopes)
    try:
        SCOPES.check(principal, MATCHER.match(method, target.path), request)
    except GatewayError as found:
        error = found
    else:
        return None
    assert error.kind is MISSING_SCOPES
    assert (error.kind.status, error.kind.code, error.param) == (401, "insufficient_permissions", None)
    words = "You have insufficient permissions for this operation. Missing scopes: "
    assert error.message.startswith(words)
    return error.message.removeprefix(words).split(". ")[0]


@pytest.mark.parametrize(
    ("call", "enough"),
    [
        ("POST /chat/completions", {"api.chat.write"} | ASKING),
        ("GET /chat/completions", {"api.chat.read", "api.chat.write"} | READING),
        ("POST /chat/completions/chatcmpl_1", {"api.chat.write"}),
        ("POST /completions", {"api.completions.write"} | ASKING),
        ("POST /embeddings", {"api.embeddings.write"} | ASKING),
        ("POST /moderations", {"api.moderations.write"} | ASKING),
        ("POST /images/generations", {"api.images.write"} | ASKING),
        ("POST /images/edits", {"api.images.write"} | ASKING),
        ("POST /audio/speech", {"api.audio.write"} | ASKING),
        ("POST /audio/transcriptions", {"api.audio.write"} | ASKING),
        ("POST /audio/voices", {"api.audio.write"}),
        ("POST /responses", {"api.responses.write"} | ASKING),
        ("POST /responses/input_tokens", {"api.responses.write"} | ASKING),
        ("POST /responses/resp_1/cancel", {"api.responses.write"}),
        ("GET /responses/resp_1", {"api.responses.read", "api.responses.write"} | READING),
        ("DELETE /responses/resp_1", {"api.responses.write"}),
        ("WEBSOCKET /responses", {"api.responses.write"} | ASKING),
        ("WEBSOCKET /realtime", {"api.realtime.write"} | ASKING),
        ("WEBSOCKET /live/sessions/s_1/attach", {"api.live.write"}),
        ("GET /models", {"api.models.read", "api.models.write", "api.model.read", "model.read"} | READING),
        ("GET /models/gpt-4o", {"api.models.read", "api.models.write", "api.model.read", "model.read"} | READING),
        ("DELETE /models/ft:x", {"api.models.write"}),
        ("GET /files", {"api.files.read", "api.files.write"} | READING),
        ("HEAD /files", {"api.files.read", "api.files.write"} | READING),
        ("POST /files", {"api.files.write"}),
        ("POST /uploads", {"api.uploads.write", "api.files.write"}),
        ("POST /vector_stores/vs_1/search", {"api.vector_stores.write"}),
        ("POST /fine_tuning/jobs", {"api.fine_tuning.write"}),
        ("POST /assistants", {"api.assistants.write"}),
        ("POST /threads/thread_1/runs", {"api.threads.write"}),
        ("POST /batches", {"api.batches.write"}),
        ("POST /videos", {"api.videos.write"}),
        ("GET /brand/new", {"api.brand.read", "api.brand.write"} | READING),
        ("POST /Brand/new", {"api.brand.write"}),
        ("PUT /brand/new", {"api.brand.write"}),
        ("WEBSOCKET /brand/new", {"api.brand.write"}),
    ],
)  # fmt: skip
def test_what_each_call_needs(call: str, enough: set[str]) -> None:
    method, _, path = call.partition(" ")
    socket = method == "WEBSOCKET"
    method = "GET" if socket else method
    assert {scope for scope in EVERY_SCOPE if missing(method, path, scope, websocket=socket) is None} == enough | ALL
    assert missing(method, path, websocket=socket) is None, "a key that is not restricted"
    assert missing(method, path, "api.other.write", next(iter(enough)), websocket=socket) is None
    area = path.lower().split("/")[1]
    reads = f"api.{area}.read" in enough
    assert missing(method, path, "api.other.write", websocket=socket) == f"api.{area}.{'read' if reads else 'write'}"


def test_every_operation_is_open_to_its_area_and_no_other() -> None:
    for one in OPERATIONS:
        if one.plane == "proxied":
            path, socket = one.path.replace("{", "").replace("}", ""), "websocket" in one.body
            area = one.path.split("/")[1]
            assert missing(one.method, path, f"api.{area}.write", websocket=socket) is None, one.id
            assert missing(one.method, path, f"api.{area}.read", websocket=socket) == (
                None if one.method == "GET" and not socket else f"api.{area}.write"
            )
            assert missing(one.method, path, "api.nothing.write", websocket=socket), one.id


def test_a_path_may_say_anything() -> None:
    said = missing("POST", "/" + "x" * 5000 + "/y", "api.files.read")
    assert said == "api." + "x" * 96
    assert missing("POST", "/", "api.files.read") == "api..write"
