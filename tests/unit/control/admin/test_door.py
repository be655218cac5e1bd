"""What the door makes of requests that no client of ours would send."""

import asyncio
import zlib

import pytest
from yarl import URL

from tests.fakes.admin_api import ADMIN_KEY, AdminApi

PROJECTS = "/organization/projects"


async def send(api: AdminApi, key: str, user_agent: bytes) -> bytes:
    """A GET, for what a proper client would not write. Returns the head's first line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(api.url).port)
    writer.write(b"GET /v1/organization/users HTTP/1.1\r\nHost: a\r\nConnection: close\r\n")
    writer.write(b"Authorization: Bearer %s\r\nUser-Agent: %s\r\n\r\n" % (key.encode(), user_agent))
    try:
        return (await reader.read()).partition(b"\r\n")[0]
    finally:
        writer.close()


async def test_a_user_agent_that_is_no_text_stays_out_of_the_audit_log(api: AdminApi) -> None:
    """Anybody can have a failed login written down, without any key."""
    assert await send(api, "sk-wrong", b"curl/\xff\xc3") == b"HTTP/1.1 401 Unauthorized"
    logs = await api.ask("GET", "/organization/audit_logs?event_types=login.failed")
    assert logs.status == 200
    [event] = logs.body["data"]
    assert event["actor"]["session"]["user_agent"] == "curl/??"
    assert (await api.ask("GET", "/organization/audit_logs?actor_ids=key_1")).status == 200


@pytest.mark.parametrize("nested", [b"[", b'{"name":'])
async def test_nesting_without_end(api: AdminApi, nested: bytes) -> None:
    answer = await api.ask("POST", PROJECTS, nested * 100_000)
    assert (answer.status, answer.body["error"]["type"]) == (400, "invalid_request_error")


async def test_a_coding_that_the_body_does_not_have(api: AdminApi) -> None:
    whole, coded = zlib.compress(b'{"name":"a"}', wbits=31), {"Content-Encoding": "gzip", "Connection": "close"}
    assert (await api.ask("POST", PROJECTS, whole, **coded)).status == 200
    for content in (b'{"name":"a"}', whole[:-12] + b"\xff" * 12):
        answer = await api.ask("POST", PROJECTS, content, **coded)
        assert (answer.status, answer.body["error"]["type"]) == (400, "invalid_request_error")


async def test_a_client_that_leaves_before_its_body_ends(api: AdminApi, capsys: pytest.CaptureFixture[str]) -> None:
    """Which says nothing of the database."""
    _, writer = await asyncio.open_connection("127.0.0.1", URL(api.url).port)
    head = f"POST /v1{PROJECTS} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN_KEY}\r\nContent-Length: 100\r\n"
    head += "X-Gateway-Client-Address: 10.0.0.1\r\n\r\n"
    writer.write(head.encode() + b'{"name":')
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(5):
        while "admin_request" not in (said := capsys.readouterr().out):
            await asyncio.sleep(0.01)
    assert "database_away" not in said
    assert "address=127.0.0.1" in said  # as a client's own header says is not believed, when it has left either
    assert not (await api.ask("GET", PROJECTS)).body["data"]
