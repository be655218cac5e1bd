"""Reads a batch's output file as it comes, line by line. Pure; for the job that settles pending objects.

Nothing of the data plane calls this: clients that fetch such a file are not billed for reading. Whoever makes lines of
usage of it flags them `batch`: the answers inside call their tier `default` (seen at OpenAI).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.usage.deferred import USAGE
from gateway.usage.extract import Report, of_body, rules_of

LONGEST_LINE = 16 * 1024 * 1024  # bytes

# A batch's `endpoint`, and the operation whose answers stand in its lines. reference: Create batch; package:
# types/batch_create_params.py
ENDPOINTS: Mapping[str, str] = MappingProxyType({
    "/v1/chat/completions": "createChatCompletion",
    "/v1/completions": "createCompletion",
    "/v1/responses": "createResponse",
    "/v1/embeddings": "createEmbedding",
    "/v1/moderations": "createModeration",
    "/v1/images/generations": "createImage",
    "/v1/images/edits": "createImageEdit",
    "/v1/videos": "createVideo",
})  # fmt: skip


class BatchLine(msgspec.Struct, frozen=True):
    """One request of a batch. status_code: of its answer, 0 if it has none. failed: it was not answered, or refused."""

    custom_id: str
    status_code: int
    failed: bool
    reports: tuple[Report, ...]


class _Response(msgspec.Struct):
    status_code: Any = None
    body: msgspec.Raw = msgspec.Raw()


class _Line(msgspec.Struct):
    custom_id: str
    error: Any = None
    response: _Response | None = None


_decode = msgspec.json.Decoder(_Line).decode


class BatchReader:
    """Reads an output or error file of a batch, in pieces of any size.

    skipped: lines that were longer than `longest`. unreadable: lines that are no line of a batch. What such a request
    used is not known.
    """

    __slots__ = ("_longest", "_rest", "_rules", "_skipping", "skipped", "unreadable")

    def __init__(self, endpoint: str, longest: int = LONGEST_LINE) -> None:
        """endpoint: of the batch; of one that is not known, whatever `usage` is in sight counts."""
        operation = ENDPOINTS.get(endpoint)
        self._rules = rules_of(operation) if operation is not None else USAGE
        self._longest = longest
        self._rest = bytearray()  # the beginning of a line that has not ended
        self._skipping = False  # until the line ends
        self.skipped = 0
        self.unreadable = 0

    def feed(self, data: bytes) -> list[BatchLine]:
        """The lines that end in `data`."""
        *ended, rest = data.split(b"\n")
        found = []
        for piece in ended:
            self._add(piece)
            found += self._end()
        self._add(rest)
        return found

    def end(self) -> list[BatchLine]:
        """The last line, if no line feed ended it."""
        return self._end()

    def _add(self, piece: bytes) -> None:
        if not self._skipping and len(self._rest) + len(piece) > self._longest:
            self._skipping = True
            self.skipped += 1
            self._rest.clear()
        if not self._skipping:
            self._rest += piece

    def _end(self) -> list[BatchLine]:
        line, self._rest = self._rest, bytearray()
        skipped, self._skipping = self._skipping, False
        if skipped or not line.strip():
            return []
        try:
            return [self._read(_decode(line))]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.unreadable += 1
            return []

    def _read(self, line: _Line) -> BatchLine:
        answer = line.response or _Response()
        status = answer.status_code
        status = status if isinstance(status, int) and not isinstance(status, bool) and 0 < status < 1000 else 0
        failed = line.error is not None or not 200 <= status < 300
        return BatchLine(line.custom_id, status, failed, tuple(of_body(memoryview(answer.body), self._rules)))
