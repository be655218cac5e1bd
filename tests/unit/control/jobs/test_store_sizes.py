"""Upstreams are asked for vector stores with their own key; what they do not say is not known, and said once."""

from typing import Any

import structlog
from aiohttp import web
from structlog.testing import capture_logs

from gateway.control.jobs.store_sizes import StoreSizes
from gateway.settings.model import Upstream
from gateway.values import Secret, SeenStore
from tests.fakes.ports import free_port
from tests.unit.simulator.kit import KEY, simulation


def sizes(base_url: str, **more: Any) -> StoreSizes:
    upstream = Upstream(base_url=base_url, api_key=Secret(KEY), **more)
    return StoreSizes({"openai": upstream}, structlog.get_logger())


async def test_what_the_simulator_has() -> None:
    async with simulation() as sim:
        client = sim.client()
        made = await client.files.create(file=("a.txt", b"twelve bytes"), purpose="assistants")
        full = await client.vector_stores.create()
        await client.vector_stores.files.create_and_poll(made.id, vector_store_id=full.id, poll_interval_ms=5)
        empty, gone = await client.vector_stores.create(), await client.vector_stores.create()
        await client.vector_stores.delete(gone.id)
        wanted = [("openai", one.id) for one in (full, empty, gone)]
        with capture_logs() as logged:
            answers = await sizes(f"{sim.url}/v1/").ask([*wanted, ("removed", "vs_of_another")])
        assert answers == {
            full.id: SeenStore(id=full.id, bytes=12),
            empty.id: SeenStore(id=empty.id, bytes=0),
            gone.id: SeenStore(id=gone.id, gone=True),
            "vs_of_another": None,
        }
        assert logged == []


async def test_one_that_does_not_answer_is_not_asked_on() -> None:
    """Its stores are as they were: only who knows stores may say that one has gone."""
    asked: list[dict[str, str]] = []

    async def serve(request: web.Request) -> web.Response:
        asked.append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response({"detail": "Not Found"}, status=404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        wanted = [("openai", f"vs_{number}") for number in range(50)]
        with capture_logs() as logged:
            answers = await sizes(base_url, auth="api-key", organization="org-x").ask(wanted)
    finally:
        await runner.cleanup()
    assert answers == dict.fromkeys(id_ for _, id_ in wanted)
    assert 1 <= len(asked) <= 8
    assert (asked[0]["api-key"], asked[0]["openai-organization"]) == (KEY, "org-x")
    assert "authorization" not in asked[0]
    assert [(line["event"], line["reason"]) for line in logged] == [("vector_stores_not_asked", "it answers 404")]


async def test_one_that_is_away() -> None:
    with capture_logs() as logged:
        answers = await sizes(f"http://127.0.0.1:{free_port()}/v1").ask([("openai", "vs_1")])
    assert answers == {"vs_1": None}
    assert logged[0]["reason"].startswith("no connection to 127.0.0.1")
