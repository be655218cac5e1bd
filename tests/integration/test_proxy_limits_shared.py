"""Limits through a worker, counted in a real Redis: who shares a bucket, what is counted, and how changes arrive."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.limits import LimitDocument, LimitSet, RateLimit, SpendLimit
from tests.fakes.limited import Limited, levels, limited, limits, own
from tests.fakes.redis_servers import Server
from tests.fakes.upstream import saying
from tests.fakes.wire import chunk
from tests.fakes.worker import KEY, OTHER_KEY, request
from tests.integration.test_proxy_limits import ANSWERS, ASKED, CHAT, PRICE

ONE = LimitSet((RateLimit("requests_per_minute", 1),))
SPOKEN = saying(
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n" + b'{"text": "Hello"}'
)


def asking(model: str) -> bytes:
    return ASKED.replace(b"gpt-5-mini", model.encode())


async def status(stand: Limited, body: bytes = ASKED, key: str = KEY) -> int:
    return (await stand.gw.ask(CHAT, body, key=key)).status


# Who shares

SHARED: dict[str, tuple[dict[str, LimitDocument | None], set[str]]] = {
    "its own": ({"k:key_1": LimitDocument(own=ONE)}, set()),
    "each key": ({"o": LimitDocument(keys=ONE)}, set()),
    "each key of the project": ({"p:proj_1": LimitDocument(keys=ONE)}, set()),
    "the user": ({"u:user_1": LimitDocument(own=ONE)}, {"user"}),
    "each user": ({"o": LimitDocument(users=ONE)}, {"user"}),
    "the project": ({"p:proj_1": LimitDocument(own=ONE)}, {"project"}),
    "each project": ({"o": LimitDocument(projects=ONE)}, {"project"}),
    "the organization": ({"o": LimitDocument(own=ONE)}, {"user", "project", "organization"}),
}
OTHERS = {
    "organization": {"key_id": "key_2", "project_id": "proj_2", "user_id": "user_2"},
    "project": {"key_id": "key_3", "project_id": "proj_1", "user_id": "user_3"},
    "user": {"key_id": "key_4", "project_id": "proj_4", "user_id": "user_1"},
}


@pytest.mark.parametrize("name", SHARED)
async def test_who_shares_a_bucket(name: str, valkey: Server, tmp_path: Path) -> None:
    """With keys that have the organization in common, or a project, or a user."""
    documents, sharing = SHARED[name]
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await stand.publish(documents)
        assert [await status(stand), await status(stand)] == [200, 429]
        for scope, ids in OTHERS.items():
            key = OTHER_KEY[:-1] + scope[0]
            stand.add_key(key, **ids)
            assert await status(stand, key=key) == (429 if scope in sharing else 200), scope
        await stand.settled()


async def test_models_and_groups_of_models(valkey: Server, tmp_path: Path) -> None:
    everything = LimitDocument(groups={"five": ("gpt-5*",)}, project_models={"five": ONE, "*": ONE})
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await stand.publish({"o": everything})
        stand.add_key(OTHER_KEY, key_id="key_2", project_id="proj_2")
        assert await status(stand, asking("gpt-5-mini")) == 200
        assert await status(stand, asking("GPT-5-nano")) == 429, "the group shares one, in large and small letters"
        assert await status(stand, asking("gpt-4o")) == 200, "every other model has one of its own"
        assert await status(stand, asking("gpt-4o")) == 429
        assert await status(stand, asking("gpt-4.1")) == 200
        assert await status(stand, asking("gpt-5-mini"), OTHER_KEY) == 200, "and so has every project"
        await stand.settled()


async def test_spend_is_counted_for_all_who_are_concerned(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        stand.add_key(OTHER_KEY, key_id="key_2", project_id="proj_2")
        for key in (KEY, OTHER_KEY, OTHER_KEY):
            assert await status(stand, key=key) == 200
        await stand.settled()
        assert await stand.spent("o", "p:proj_1", "p:proj_2", "u:user_1", "k:key_1", "k:key_2") == [
            3 * PRICE, PRICE, 2 * PRICE, 3 * PRICE, PRICE, 2 * PRICE,
        ], "without a limit too"  # fmt: skip


# How changes arrive


async def test_a_changed_limit_holds_for_the_next_call(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        for number in (None, 600, 1200):
            if number:
                await stand.publish({"k:key_1": own(RateLimit("requests_per_minute", number))})
            assert levels(await stand.gw.ask(CHAT, ASKED)).get("limit-requests") == (str(number) if number else None)
        await stand.publish({"p:proj_1": own(RateLimit("requests_per_minute", 0))})
        found = await stand.gw.ask(CHAT, ASKED)
        assert (found.status, found.header(b"x-should-retry")) == (429, b"false")
        await stand.publish({"p:proj_1": None, "k:key_1": None})
        assert levels(await stand.gw.ask(CHAT, ASKED)) == {}
        await stand.settled()


async def test_a_spend_limit_holds_for_what_is_already_spent(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        assert await status(stand) == 200
        await stand.settled()
        await stand.publish({"u:user_1": own(SpendLimit("week", PRICE))})
        assert await status(stand) == 429
        await stand.settled()


async def test_a_revoked_key_is_refused_though_nobody_told_the_worker(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        assert await status(stand) == 200
        await stand.change_key(revoked=True)
        found = await stand.gw.ask(CHAT, ASKED)
        assert (found.status, found.error["code"]) == (401, "invalid_api_key")
        assert len(stand.up.requests) == 1
        await stand.settled()


async def test_a_key_that_moved_is_counted_where_it_is_now(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        assert await status(stand) == 200
        await stand.change_key(project_id="proj_2")
        assert await status(stand) == 200
        await stand.settled()
        assert await stand.spent("p:proj_1", "p:proj_2") == [PRICE, PRICE]
        assert [event.project_id for event in stand.events()] == ["proj_1", "proj_2"]
        assert stand.gw.access[-1]["project"] == "proj_2"


async def test_a_record_that_is_older_than_its_version(valkey: Server, tmp_path: Path) -> None:
    """As when a server has lost the record's last change: nobody can say whether the key is good."""
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await stand.publish_key_version("key_1", 9)
        found = await stand.gw.ask(CHAT, ASKED)
        assert (found.status, found.error["code"]) == (503, "key_check_unavailable")
        assert not stand.up.requests


async def test_counters_that_are_not_open(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS, opened=False) as stand:
        assert await status(stand) == 200, "who has no spend limit goes on"
        await stand.publish({"o": own(SpendLimit("day", 10**12))})
        found = await stand.gw.ask(CHAT, ASKED)
        assert (found.status, found.header(b"retry-after")) == (503, b"1")
        await stand.open()
        assert await status(stand) == 200
        await stand.settled()


# Shadows and refusals


async def test_a_shadow_counts_and_tells_and_refuses_nobody(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        shadows = RateLimit("requests_per_minute", 1, shadow=True), SpendLimit("day", 1, shadow=True)
        await stand.publish({"k:key_1": own(*shadows, RateLimit("concurrent_requests", 0, shadow=True))})
        assert [await status(stand) for _ in range(3)] == [200] * 3
        await stand.settled()
        said = {line["limit"] for line in stand.gw.log if line["event"] == "limit_would_refuse"}
        assert said == {"requests_per_minute", "spend.day", "concurrent_requests"}
        for name, number in (("requests_per_minute", 2), ("spend.day", 3), ("concurrent_requests", 3)):
            found = stand.gw.metric("gateway_limit_refusals_total", limit=name, scope="key", shadow="true")
            assert found == number
        recorded = await stand.recorded()
        assert {(one.shadow, one.limit) for one in recorded} == {(True, name) for name in said}
        assert len(stand.events()) == 3


async def test_refusals_are_recorded_ten_and_then_how_many(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await stand.publish({"k:key_1": LimitDocument(own=LimitSet((RateLimit("requests_per_day", 1),)))})
        assert [await status(stand) for _ in range(26)] == [200] + [429] * 25
        recorded = await stand.recorded()
        # The minute may have turned meanwhile; then there are two groups.
        assert sum(one.count for one in recorded) == 25
        assert 11 <= len(recorded) <= 22
        first = recorded[0]
        assert (first.limit, first.scope, first.subject, first.model) == (
            "requests_per_day",
            "key",
            "key_1",
            "gpt-5-mini",
        )
        assert (first.organization_id, first.project_id, first.user_id) == ("org-1", "proj_1", "user_1")
        assert first.request_id == stand.gw.access[1]["request_id"]
        assert [one.request_id for one in recorded if one.count > 1].count("") >= 1
        await stand.settled()
        assert len(stand.events()) == 1
        found = stand.gw.metric("gateway_limit_refusals_total", limit="requests_per_day", scope="key", shadow="false")
        assert found == 25


async def test_how_much_of_a_projects_limit_is_used(valkey: Server, tmp_path: Path) -> None:
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        await stand.publish({"p:proj_1": own(RateLimit("requests_per_day", 10))})
        for _ in range(4):
            await status(stand)
        found = stand.gw.metric("gateway_limit_utilization", project="proj_1", limit="requests_per_day")
        assert found == pytest.approx(0.4)
        await stand.settled()


# What is counted


async def test_audio_is_counted_by_the_size_of_its_form(valkey: Server, tmp_path: Path) -> None:
    parts = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    parts += (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        + b"x" * 600_000
        + b"\r\n--b--\r\n"
    )
    kind = b"Content-Type: multipart/form-data; boundary=b"
    target = "/v1/audio/transcriptions"
    async with limited(valkey, tmp_path, SPOKEN) as stand:
        await stand.publish(
            {"p:proj_1": LimitDocument(models={"*": limits(RateLimit("audio_megabytes_per_minute", 1))})}
        )
        assert (await stand.gw.ask(target, parts, kind)).status == 200
        found = await stand.gw.ask(target, parts, kind)
        assert (found.status, found.error["type"]) == (429, "requests")
        assert (
            "for whisper-1 in project proj_1 organization org-1 on audio megabytes per min: Limit 1, Used 0.6"
            in (found.error["message"])
        )
        assert len(stand.up.requests) == 1
        client = await stand.gw.connect()  # of one whose size is not said, the most that it can be
        client.send(
            request("POST", target, chunk(parts) + b"0\r\n\r\n", kind, b"Transfer-Encoding: chunked", length=False)
        )
        found = await client.response()
        assert found.error["message"].startswith("Request too large for whisper-1 in project proj_1 organization org-1")
        await stand.settled()


async def test_images_are_counted_by_their_number(valkey: Server, tmp_path: Path) -> None:
    def images(number: int) -> bytes:
        body: dict[str, Any] = {"model": "dall-e-2", "prompt": "A cat", "n": number, "size": "256x256"}
        return json.dumps(body).encode()

    async with limited(valkey, tmp_path) as stand:
        await stand.publish({"p:proj_1": own(RateLimit("images_per_minute", 5))})
        target = "/v1/images/generations"
        assert (await stand.gw.ask(target, images(4))).status == 200
        found = await stand.gw.ask(target, images(2))
        assert (found.status, found.error["type"]) == (429, "requests")
        assert "on images per min (IPM): Limit 5, Used 4, Requested 2. Please try again in 1" in found.error["message"]
        assert (await stand.gw.ask(target, images(6))).error["message"].startswith("Request too large for dall-e-2")
        assert (await stand.gw.ask(target, images(1))).status == 200
        await stand.settled()


@pytest.mark.parametrize("model", ['quo"ted\\', "ünïcödé 😀", "line\nbreak\x00", "x" * 50_000, "{org}:b:*"])
async def test_models_are_the_clients_words(model: str, valkey: Server, tmp_path: Path) -> None:
    body = json.dumps({"model": model, "messages": [], "max_tokens": 5}).encode()
    async with limited(valkey, tmp_path, ANSWERS) as stand:
        everything = LimitDocument(models={"*": ONE})
        await stand.publish({"p:proj_1": everything})
        assert [await status(stand, body), await status(stand, body)] == [200, 429]
        assert len((await stand.recorded())[0].model) <= 200
        await stand.settled()
        assert all(len(key) < 200 for key in valkey.command("KEYS", "*"))
