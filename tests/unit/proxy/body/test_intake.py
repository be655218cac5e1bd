"""How a body is to be read, where its model stands, and what is taken in without waiting."""

import pytest

from gateway.errors import BODY_TOO_LARGE, DUPLICATE_MEMBER, INVALID_JSON, GatewayError
from gateway.operations.matcher import Matcher
from gateway.operations.table import Operation, load_operations
from gateway.proxy.body.budget import Budget
from gateway.proxy.body.intake import Intake, body_kind, named_in_target
from gateway.proxy.body.outgoing import Streamed, Whole
from gateway.proxy.http.headers import Headers
from gateway.proxy.http.request import Request
from gateway.proxy.http.target import parse_target
from gateway.settings.model import Bodies
from tests.unit.proxy.body.test_read import FILE, FORM, MODEL, Coming

MIB = 1024 * 1024


def known(request: Request) -> Operation | None:
    return Matcher(load_operations()).match(request.method, request.target.path)


def made(method: str, target: str, content_type: str = "", *, body: bool = True, encoding: str = "") -> Request:
    headers = {"Content-Type": content_type, "Content-Encoding": encoding}
    raw = [(name.encode(), value.encode()) for name, value in headers.items() if value]
    named = {name.lower(): value for name, value in raw}
    parsed = parse_target(method, "/v1" + target)
    return Request(method, parsed, Headers(raw, named), None if body else 0, has_body=body, websocket=False)


@pytest.mark.parametrize(
    ("method", "target", "content_type", "kind"),
    [
        ("POST", "/chat/completions", "application/json", "json"), ("POST", "/chat/completions", "", "json"),
        ("POST", "/chat/completions", "multipart/form-data; boundary=x", "json"), ("POST", "/responses", "text/plain", "json"),
        ("POST", "/audio/transcriptions", "multipart/form-data; boundary=x", "form"), ("POST", "/audio/transcriptions", "application/json", "form"),
        ("POST", "/images/edits", "Multipart/Form-Data; boundary=x", "form"), ("POST", "/images/edits", "application/json", "json"),
        ("POST", "/images/edits", "", "json"), ("POST", "/files", "multipart/form-data; boundary=x", "stream"),
        ("POST", "/uploads/u/parts", "multipart/form-data; boundary=x", "stream"), ("POST", "/new/thing", "application/json; charset=utf-8", "json"),
        ("POST", "/new/thing", "application/octet-stream", "stream"), ("POST", "/new/thing", "", "stream"),
    ],
)  # fmt: skip
def test_how_a_body_is_read(method: str, target: str, content_type: str, kind: str) -> None:
    request = made(method, target, content_type)
    assert body_kind(request, known(request)) == kind
    without = made(method, target, content_type, body=False)
    assert body_kind(without, known(without)) == "none"


@pytest.mark.parametrize(
    ("method", "target", "where", "model"),
    [
        ("GET", "/models/gpt-4o", "path", "gpt-4o"), ("DELETE", "/models/ft:a:b", "path", "ft:a:b"), ("GET", "/models/org%2Fm", "", None),
        ("GET", "/models", "", None), ("GET", "/new?model=x", "", None), ("GET", "/realtime?model=a%2Bb", "query", "a+b"), ("GET", "/realtime", "query", None),
    ],
)  # fmt: skip
def test_models_in_targets(method: str, target: str, where: str, model: str | None) -> None:
    request = made(method, target, body=False)
    place, found = named_in_target(request, known(request))
    assert (place.where, found) == (where, model)


def test_two_models_in_a_query() -> None:
    request = made("GET", "/realtime?model=a&mod%65l=b", body=False)
    with pytest.raises(GatewayError) as caught:
        named_in_target(request, known(request))
    assert caught.value.kind is DUPLICATE_MEMBER


def at_once(request: Request, body: bytes, budget: Budget, *, complete: bool = True) -> Whole | None:
    coming = Coming(body)
    coming.total_bytes = len(body)
    coming.ended = complete
    taken = Intake(Bodies(json_mib=1), budget).at_once(request, known(request), coming)
    assert taken is None or isinstance(taken, Whole)
    return taken


def test_what_is_taken_in_at_once() -> None:
    budget = Budget(4 * MIB, 1.0)
    chat = made("POST", "/chat/completions")
    small = at_once(chat, b'{"model":"m","stream":true}', budget)
    assert small is not None
    assert (small.model, small.stream, small.size, budget.used) == ("m", True, 27, 0)
    large = at_once(chat, b'{"model":"m"}' + b" " * 10_000, budget)
    assert large is not None
    assert budget.used == large.size == 10_013
    large.release()
    assert budget.used == 0
    assert at_once(chat, b"{}", budget, complete=False) is None
    assert at_once(made("POST", "/files"), b"{}", budget) is None
    assert at_once(made("POST", "/chat/completions", encoding="gzip"), b"{}", budget) is None
    share = budget.take_now(4 * MIB - 300 * 1024) or budget.take_now(3 * MIB)
    assert share is not None
    assert at_once(chat, b"{}" + b" " * 900_000, budget) is None  # has to wait for its turn
    for body, kind in ((b"{}" + b" " * MIB, BODY_TOO_LARGE), (b"{" + b" " * 10_000, INVALID_JSON)):
        with pytest.raises(GatewayError) as caught:
            at_once(chat, body, budget)
        assert caught.value.kind is kind
    assert budget.used == share.size


def test_a_body_that_is_no_json_is_only_refused_where_json_is_wanted() -> None:
    budget = Budget(4 * MIB, 1.0)
    unknown = at_once(made("POST", "/new/thing", "application/json"), b"no json", budget)
    assert unknown is not None
    assert (unknown.model, bytes(unknown.whole or b"")) == (None, b"no json")
    with pytest.raises(GatewayError):
        at_once(made("POST", "/chat/completions", "application/json"), b"no json", budget)
    with pytest.raises(GatewayError):
        at_once(made("POST", "/new/thing", "application/json"), b'{"model":"a","model":"b"}', budget)


@pytest.mark.parametrize(
    ("target", "size"), [("/audio/transcriptions", 3000), ("/audio/translations", 3000), ("/images/edits", 0)]
)
async def test_only_sound_is_measured(target: str, size: int) -> None:
    request = made("POST", target, FORM)
    coming = Coming(MODEL + FILE + b"--b--\r\n")
    taken = await Intake(Bodies(), Budget(4 * MIB, 1.0)).take(request, known(request), coming, coming.waiting)
    assert isinstance(taken, Streamed)
    assert (taken.model, taken.facts.files, taken.facts.file_size) == ("m", 1, size)
