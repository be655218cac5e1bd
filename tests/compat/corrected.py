"""The administrative part of OpenAI's API descriptions, corrected where they contradict themselves."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

FOLDER = Path(os.environ.get("GATEWAY_DESCRIPTIONS") or Path(__file__).resolve().parents[3] / "shared" / "spec")
_METHODS = frozenset({"get", "post", "delete"})


class Correction(msgspec.Struct, frozen=True):
    """What a description should say. at: of its components' schemas, the member to change, as `Invite.properties.role`.
    to: what it gets; None takes it away.
    """

    at: str
    to: Any
    why: str


_LISTS = ("ApiKeyList", "ProjectListResponse", "ProjectApiKeyListResponse", "ProjectServiceAccountListResponse",
          "UserListResponse", "InviteListResponse", "ProjectUserListResponse", "ProjectRateLimitListResponse",
          "ListAuditLogsResponse")  # fmt: skip
_EMPTY = "an empty list has no first and no last; the newer description has null there"
_RESULTS = ("Completions", "Embeddings", "Moderations", "Images", "AudioSpeeches", "AudioTranscriptions",
            "VectorStores", "CodeInterpreterSessions")  # fmt: skip
_NAMED_RESULTS = "all examples, the newer description and the client have `results`"
_USAGE = (
    Correction(
        "UsageTimeBucket.properties.results",
        {
            "type": "array",
            "items": {
                "oneOf": [
                    {"$ref": f"#/components/schemas/{name}"}
                    for name in (*(f"Usage{one}Result" for one in _RESULTS), "CostsResult")
                ]
            },
        },
        _NAMED_RESULTS,
    ),
    Correction("UsageTimeBucket.properties.result", None, _NAMED_RESULTS),
    Correction("UsageTimeBucket.required", ["object", "start_time", "end_time", "results"], _NAMED_RESULTS),
    Correction("UsageCodeInterpreterSessionsResult.required", ["object", "num_sessions"], "it has no `sessions`"),
    Correction("UsageResponse.properties.next_page.nullable", True, "the last page has no next one"),
)
CORRECTIONS: Mapping[str, tuple[Correction, ...]] = {
    "2.3.0": (
        *(
            Correction(f"{name}.properties.{end}_id.nullable", True, _EMPTY)
            for name in _LISTS
            for end in ("first", "last")
        ),
        *_USAGE,
    ),
    "2026-08": (
        Correction(
            "UsageTimeBucket.properties.results.items.discriminator",
            None,
            "it has no mapping, so that it would want the names of schemas in `object`, which say another word each",
        ),
    ),
}


def described(version: str) -> dict[str, Any]:
    """A description with the administrative operations alone, and what they refer to."""
    with (FOLDER / f"openai-{version}.yaml").open() as file:
        whole = yaml.load(file, yaml.CSafeLoader)
    paths = {
        path: {name: one for name, one in item.items() if name in _METHODS or name == "parameters"}
        for path, item in whole["paths"].items()
        if path.startswith(("/organization", "/projects/"))
    }
    schemas = whole["components"]["schemas"]
    for correction in CORRECTIONS[version]:
        _correct(schemas, correction)
    kept: dict[str, dict[str, Any]] = {}
    wanted = list(_references(paths))
    while wanted:
        kind, name = wanted.pop()
        if name not in kept.setdefault(kind, {}):
            kept[kind][name] = whole["components"][kind][name]
            wanted += _references(kept[kind][name])
    head = {name: whole[name] for name in ("openapi", "info", "servers")}
    return {**head, "paths": paths, "components": kept}


def _correct(schemas: dict[str, Any], correction: Correction) -> None:
    *above, last = correction.at.split(".")
    place = schemas
    for name in above:
        place = place[name]
    if correction.to is None:
        del place[last]
    else:
        assert place.get(last) != correction.to, f"{correction.at} is right as it is"
        place[last] = correction.to


def _references(value: Any) -> Iterator[tuple[str, str]]:
    """What something refers to: the kind of component and its name."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            *_, kind, name = reference.split("/")
            yield kind, name
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _references(one)
