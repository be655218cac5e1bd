"""An upstream's own usage and costs, as a test puts them: OpenAI's envelope on a real socket."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from multidict import MultiMapping

ADMIN_KEY = "sk-admin-upstream-KEYEEEEEEEEEEEEEEEEEEEEEEEE5"
Result = Mapping[str, Any]


class Refusal:
    """An answer that is no page."""

    def __init__(self, status: int, body: str = "", **headers: str) -> None:
        self.status = status
        self.body = body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Organization:
    """results: by path below /v1/organization, those of whatever day is asked for; other paths are not served, unless
    `complete`: then there is nothing in them. refusals: by path, answers that come first. per_page: results on a page.
    """

    def __init__(self) -> None:
        self.url = ""
        self.results: dict[str, list[Result]] = {}
        self.complete = True
        self.refusals: dict[str, list[Refusal]] = {}
        self.per_page = 100
        self.asked: list[tuple[str, MultiMapping[str]]] = []
        self.authorizations: set[str] = set()
        self.waited: list[float] = []

    async def pause(self, seconds: float) -> None:
        """In the place of a sleep."""
        self.waited.append(seconds)

    def paths(self) -> list[str]:
        """Those that were asked for, in order."""
        return [path for path, _ in self.asked]

    async def serve(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        self.asked.append((path, request.query))
        self.authorizations.add(request.headers.get("Authorization", ""))
        if refusals := self.refusals.get(path):
            refusal = refusals.pop(0)
            return web.Response(status=refusal.status, text=refusal.body, headers=refusal.headers)
        if path not in self.results and not self.complete:
            return web.json_response({"error": {"message": "Invalid URL"}}, status=404)
        results = self.results.get(path, [])
        first = int(request.query.get("page", "page_0").removeprefix("page_"))
        begin, last = int(request.query["start_time"]), first + self.per_page
        bucket = {
            "object": "bucket",
            "start_time": begin,
            "end_time": int(request.query["end_time"]),
            "results": [dict(one) for one in results[first:last]],
        }
        following = f"page_{last}" if last < len(results) else None
        return web.json_response(
            {"object": "page", "data": [bucket], "has_more": following is not None, "next_page": following}
        )


@asynccontextmanager
async def organization() -> AsyncIterator[Organization]:
    made = Organization()
    app = web.Application()
    app.router.add_get("/v1/organization/{path:.*}", made.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield made
    finally:
        await runner.cleanup()
