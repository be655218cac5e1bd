"""The documents that a settings file becomes."""

from pathlib import Path
from typing import Any

import msgspec

from gateway.commands.check import load
from gateway.control.registry.declared import declared_keys
from gateway.control.registry.declared_limits import declared_limits
from gateway.limits import LimitDocument, LimitSet, RateLimit, SpendLimit
from gateway.settings.transfer import convert

CONFIG = Path(__file__).parents[4] / "config"


def declared(**settings: Any) -> dict[str, LimitDocument]:
    return declared_limits(convert({"upstreams": {"a": {"base_url": "http://a/v1"}}, **settings}))


def rpm(limit: int | None) -> LimitSet:
    return LimitSet((RateLimit("requests_per_minute", limit),))


def test_the_organizations_document_is_always_there() -> None:
    assert declared() == {"o": LimitDocument(reserve="adaptive")}
    assert declared(projects=[{"id": "proj_a", "keys": [{"name": "k", "secret": "1"}]}]).keys() == {"o"}


def test_all_documents() -> None:
    one = {"requests_per_minute": 1}
    settings = convert(
        {
            "upstreams": {"a": {"base_url": "http://a/v1"}},
            "limits": {
                "reserve": "strict",
                "groups": {"GPT-6": ["gpt-6-*"]},
                "organization": one,
                "projects": {"requests_per_minute": 2, "models": {"*": {"requests_per_minute": 3}, "o3": {}}},
                "users": {"requests_per_minute": 4},
                "keys": {"requests_per_minute": 5},
                "by_user": {"ada": {"spend": {"day": 1}}},
            },
            "projects": [
                {
                    "id": "proj_a",
                    "limits": {"requests_per_minute": "unlimited", "models": {"GPT-6": one}, "reserve": "adaptive"},
                    "keys": [{"name": "k", "secret": "1", "user": "ada", "limits": one}, {"name": "l", "secret": "2"}],
                },
                {"id": "proj_b", "limits": {"keys": one}},
                {"id": "proj_c"},
            ],
        }
    )
    key_id = declared_keys(settings)[0].principal.key_id
    documents = declared_limits(settings)
    assert documents == {
        "o": LimitDocument(
            own=rpm(1),
            projects=rpm(2),
            project_models={"*": rpm(3)},
            users=rpm(4),
            keys=rpm(5),
            groups={"gpt-6": ("gpt-6-*",)},
            reserve="strict",
        ),
        "p:proj_a": LimitDocument(own=rpm(None), models={"gpt-6": rpm(1)}, reserve="adaptive"),
        "p:proj_b": LimitDocument(keys=rpm(1)),
        "u:ada": LimitDocument(own=LimitSet(spend=(SpendLimit("day", 1_000_000_000),))),
        f"k:{key_id}": LimitDocument(own=rpm(1)),
    }
    again = {f: msgspec.json.decode(msgspec.json.encode(d), type=LimitDocument) for f, d in documents.items()}
    assert again == documents


def test_the_example() -> None:
    assert len(declared_limits(load(CONFIG / "limits.yaml"))) == 6
