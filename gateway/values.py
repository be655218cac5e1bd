"""What travels between rooms. Frozen values, cheap to make: the hot path makes several a request.

Usage, of which a ledger holds thousands at once, is not looked at by the garbage collector (`gc=False`): none of it can
refer to itself.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, final

import msgspec


@final
class Secret:
    """A string that cannot be printed by accident: no repr, no str, no format, no log shows it.

    `reveal()` is the only way to it, so that every use can be found.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not pickled")


class Principal(msgspec.Struct, frozen=True):
    """Who is calling, as the read model knows it. Ids are OpenAI's style; user_id is the organization user who owns the
    key, or the key's own service account. expires_at: seconds since 1970. scopes: what the key is restricted to
    (`api.responses.write`); none: it may do everything. version: of the record, for whoever asks whether this is the
    newest; not in the record itself.
    """

    key_id: str
    project_id: str
    user_id: str
    organization_id: str
    expires_at: int | None = None
    revoked: bool = False
    version: int = 0
    scopes: tuple[str, ...] = ()


class FormFacts(msgspec.Struct, frozen=True):
    """What is kept of a multipart form after it went by.

    fields: the small ones of interest, the first of each name. prompt_bytes: size of the field `prompt`. files: how
    many parts are files. filename: of the first; file_size in bytes, file_head and file_tail its first and last 64 KiB
    at most (of a smaller file both are the whole), 0 and empty where nobody asked for them. file_middle: 1 KiB from
    the place `file_middle_at` if something between the ends tells how long the audio plays.
    """

    fields: Mapping[str, str] = MappingProxyType({})
    prompt_bytes: int = 0
    files: int = 0
    filename: str = ""
    file_size: int = 0
    file_head: bytes = b""
    file_tail: bytes = b""
    file_middle_at: int = 0
    file_middle: bytes = b""


class HeadFacts(msgspec.Struct, frozen=True):
    """What a JSON body's head says of the most that its call may use. None: not said, or not a number that bounds.

    number: of answers, `n` or `best_of`, the larger one; None if what is said is no whole number above 0. prompts: how
    many are answered, of a completion that gives a list. service_tier: lower case. stored: the input goes on from
    something that the upstream has; template: what is stored is a prompt, which may bring tools of its own. tools: the
    member as it stands in the body, empty for none. tool_calls: `max_tool_calls`. searches: there are options for a
    chat's web search.
    """

    number: int | None = 1
    prompts: int = 1
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    service_tier: str = ""
    stored: bool = False
    template: bool = False
    tools: bytes = b""
    tool_calls: int | None = None
    searches: bool = False


class Taking(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a call takes of its limits when it is reserved. The units are those of `limits.Unit`; tokens are those of
    input and output together, nano_usd is 10^-9 dollars.
    """

    requests: int = 1
    tokens: int = 0
    images: int = 0
    audio_bytes: int = 0
    batch_tokens: int = 0
    nano_usd: int = 0


class Quantities(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How much of what a call used. Tokens are counted as in OpenAI's `usage`: the totals hold their parts.

    input_tokens holds text, audio and image, cached and written to the cache; output_tokens holds reasoning, audio and
    image. duration_ms: of audio or video. bytes: stored. sessions: containers or live sessions.
    """

    input_tokens: int = 0
    cached_tokens: int = 0  # read from the prompt cache: text, audio and image
    cache_write_tokens: int = 0  # written to it, for however long
    cache_write_12h_tokens: int = 0  # of these, kept for 12 hours; the others for 30 minutes
    output_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    cached_audio_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    cached_image_tokens: int = 0
    output_image_tokens: int = 0
    trained_tokens: int = 0
    images: int = 0
    characters: int = 0
    duration_ms: int = 0
    bytes: int = 0
    sessions: int = 0
    web_searches: int = 0
    file_searches: int = 0


class Cost(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part of a line's price. item: as OpenAI's costs API has it, `gpt-6-astra, input_tokens`. unit: a key of
    `pricing.units.UNITS`, in which the quantity is counted.
    """

    item: str
    unit: str
    quantity: int
    nano_usd: int


class UsageLine(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """What one attempt used of one thing, and what that costs.

    category: of OpenAI's usage API, None for what only its costs API shows. models: as the client named it, as the
    upstream was asked, as the answer says. service_tier: as the answer says, lower case, empty if it does not.
    image_*: of images, as in the request: `1024x1024`, `image.generation`, `hd`; a video's frame size, too.
    context_level: of a web search, `low`, `medium`, `high`. vector_store_id: of a file search. Both empty if unknown.
    object_id: of what was made, for corrections and against counting twice. nano_usd: 10^-9 dollars, the sum of the
    costs; None until priced.
    """

    attempt: int = 1
    upstream: str = ""
    category: str | None = None
    request_model: str = ""
    upstream_model: str = ""
    response_model: str = ""
    service_tier: str = ""
    batch: bool = False
    source: Literal["reported", "estimated"] = "reported"
    quantities: Quantities = Quantities()
    image_size: str = ""
    image_source: str = ""
    image_quality: str = ""
    context_level: str = ""
    vector_store_id: str = ""
    object_id: str = ""
    nano_usd: int | None = None
    costs: tuple[Cost, ...] = ()


class SeenStore(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an answer said of a vector store. bytes: None if it tells only that something was put in or taken out.
    changing: files are being processed, so the size is not the last word. gone: it was deleted, or has expired.
    """

    id: str
    upstream: str = ""
    bytes: int | None = None
    changing: bool = False
    gone: bool = False


class Checked(msgspec.Struct, frozen=True, array_like=True):
    """A limit that a call was held against. limit: its name in settings, `spend.month` of spend. scope: of
    `limits.Scope`; it is counted for that one of the call's ids. value: in the limit's own unit, nano-USD of spend.
    model: as in `limits.Applied`. shadow: it refuses nothing.
    """

    limit: str
    scope: str
    value: int
    model: str = ""
    shadow: bool = False


class Tried(msgspec.Struct, frozen=True, array_like=True):
    """One attempt at an upstream. attempt: its number, 0 if the upstream could not be connected to. status: of the
    answer, 0 if none began. error: name of the error kind that ended it, empty for none. ms: from its beginning to the
    head of the answer; to the error, if there is one. request_id: the upstream's, by which clients know the call.
    """

    attempt: int
    upstream: str
    status: int = 0
    error: str = ""
    ms: int = 0
    request_id: str = ""


class UsageEvent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """All that one call used; on a socket, all that one response used. The ledger folds its lines.

    id: of the call, `req_…`, and unique; on a socket `req_…/3`. at_us: microseconds since 1970 when the call was
    admitted; spend windows and prices follow from it. operation: its id in the operation table, empty for a path that
    is not in it. category: the one in which the call counts as a request. status: of the answer; 0 if none began.
    ended: as in the access line. end_user: as the client named its own user. pending: the id of an object that tells
    later what was really used; the lines are estimates until then. A call that the upstream refused has no lines.
    unconfirmed: its worker never said what was used; the lines are what was reserved, and an event of the same id that
    is not flagged so takes its place. stores: what the answer said of vector stores, which is neither a request nor
    billed; a call that only tells that has no lines.

    For explaining the call, and not there if it is unconfirmed: what was reserved, None for nothing; the limits that it
    was held against, locally: by its worker alone, for Redis was away; its attempts.
    """

    id: str
    at_us: int
    organization_id: str
    project_id: str
    user_id: str
    key_id: str
    operation: str = ""
    category: str | None = None
    status: int = 0
    ended: str = "complete"
    stream: bool = False
    end_user: str = ""
    pending: str = ""
    unconfirmed: bool = False
    reserved: Taking | None = None
    limits: tuple[Checked, ...] = ()
    locally: bool = False
    attempts: tuple[Tried, ...] = ()
    lines: tuple[UsageLine, ...] = ()
    stores: tuple[SeenStore, ...] = ()


class Used(msgspec.Struct, frozen=True):
    """What an event amounts to for the limits of its call.

    tokens: of input and output together. model: of the line that was reported for the call itself, as its upstream
    calls it, and how much that read and wrote; empty if there is none.
    """

    tokens: int = 0
    nano_usd: int = 0
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
