"""docs/admin-api.md names all that is served."""

import re
from pathlib import Path

import gateway.control.admin.not_served as refused
from gateway.control.admin.nouns import all_routes

PAGE = Path(__file__).parents[4] / "docs" / "admin-api.md"


def test_every_path_is_on_the_page() -> None:
    named = set()
    for row in re.findall(r"^\| .* \|$", PAGE.read_text(), re.MULTILINE):
        bases: set[str] = set()
        for word in re.findall(r"`([/…][^`]*)`", row):
            if word.startswith("/"):
                bases.add(word)
                named.add(word)
            else:
                named |= {parent + word.removeprefix("…") for base in bases for parent in _parents(base)}
    assert {route.path for route in all_routes()} - {route.path for route in refused.routes()} - named == set()


def _parents(path: str) -> list[str]:
    """`…` stands for the path before it, or what that begins with."""
    words = path.split("/")
    return ["/".join(words[:end]) for end in range(2, len(words) + 1)]
