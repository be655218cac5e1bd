"""Targets: what is passed on unchanged, what is administrative, and what is refused."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.proxy.http.target import parse_target


@pytest.mark.parametrize(
    ("target", "path", "raw"),
    [
        ("/v1/chat/completions", "/chat/completions", "/chat/completions"),
        ("/v1/files?limit=2&after=a%20b", "/files", "/files?limit=2&after=a%20b"),
        ("/v1/threads?include%5B%5D=x&a[]=1", "/threads", "/threads?include%5B%5D=x&a[]=1"),
        ("/v1/models/org%2Fmodel", "/models/org/model", "/models/org%2Fmodel"),
        ("/v1/models/ft:gpt-4o:acme::7p", "/models/ft:gpt-4o:acme::7p", "/models/ft:gpt-4o:acme::7p"),
        ("/v1/models/a.b..c", "/models/a.b..c", "/models/a.b..c"),
        ("/v1/files/%C3%A9", "/files/é", "/files/%C3%A9"),
        ("/v1/x?next=/../../etc", "/x", "/x?next=/../../etc"),
        ("http://evil.example/v1/models", "/models", "/models"),
        ("/v1/models#fragment", "/models", "/models"),
    ],
)
def test_accepted(target: str, path: str, raw: str) -> None:
    parsed = parse_target("GET", target)
    assert (parsed.path, parsed.raw, parsed.admin) == (path, raw, False)


@pytest.mark.parametrize(
    "target",
    [
        "/v1/organization/projects", "/v1/organization", "/v1/projects/p/roles", "/v1/projects",
        "/v1/%6frganization/users", "/v1/%256frganization/users", "/v1/Organization/x", "/v1/organization?x=1",
    ],
)  # fmt: skip
def test_administrative_by_prefix(target: str) -> None:
    assert parse_target("GET", target).admin


@pytest.mark.parametrize(
    "target",
    [
        "/", "/v1", "/v2/models", "*", "example.com:443", "", "/v1//models", "/v1/../admin", "/v1/a/../b", "/v1/a/./b",
        "/v1/a/..", "/v1/%2e%2e/x", "/v1/%2E%2e%2fx", "/v1/a%2f..%2fb", "/v1/%252e%252e/x", "/v1/..\\x",
        "/v1/a\\..\\b", "/v1/%5c..%5cx", "/v1/a%00b", "/v1/a%0d%0aX: y", "http://evil/", "//evil/v1/models",
        "/v1/%25252525252525252525252541",
    ],
)  # fmt: skip
def test_refused(target: str) -> None:
    with pytest.raises(GatewayError) as caught:
        parse_target("GET", target)
    assert caught.value.kind.status == 404


@given(st.text(st.sampled_from("/.%2eE5cC\\a?#o"), max_size=20))
def test_no_spelling_escapes(rest: str) -> None:
    """Whatever is accepted stays below the base path however often an upstream decodes and resolves it."""
    try:
        target = parse_target("GET", "/v1/" + rest)
    except GatewayError:
        return
    path = target.raw.split("?")[0]
    for _ in range(4):
        depth = 0
        for segment in path.replace("\\", "/").split("/")[1:]:
            depth += -1 if segment == ".." else 0 if segment in {"", "."} else 1
            assert depth >= 0
        assert "//" not in path.replace("\\", "/")
        path = unquote(path)


def spelled(word: str) -> st.SearchStrategy[str]:
    """A word with any of its letters in the other case, encoded, or encoded several times over."""
    ways = [
        st.sampled_from([c, c, c.upper(), f"%{ord(c):02x}", f"%25{ord(c):02X}", f"%2525{ord(c.upper()):02x}"])
        for c in word
    ]
    return st.tuples(*ways).map("".join)


slash = st.sampled_from(["/", "/", "%2f", "\\", "%5C", "%252F"])
noise = st.sampled_from(["", "", ".", "..", "x", "%2e", "%2E%2e", "%252e", "..%2f", "x%2f..", "organization2"])
administrative = st.builds(
    lambda noises, word, rest: "/v1" + "".join(s + n for n, s in noises) + word + rest,
    st.lists(st.tuples(noise, slash), max_size=3),
    st.tuples(slash, spelled("organization") | spelled("projects")).map("".join),
    st.sampled_from(["", "/", "/users", "?x=1", "%2fusers", "/..", "/../models", ".json", ";v=1"]),
)


def most_generous(path: str) -> list[str]:
    """The segments of a path as the most generous reader resolves them. Written apart from what it checks."""
    while (decoded := unquote(path)) != path:
        path = decoded
    resolved: list[str] = []
    for segment in path.replace("\\", "/").split("/"):
        if segment == "..":
            del resolved[-1:]
        elif segment not in {"", "."}:
            resolved.append(segment.lower())
    return resolved


@given(administrative)
@settings(max_examples=500)
def test_no_spelling_of_what_is_administrative_goes_upstream(target: str) -> None:
    segments = most_generous(target.partition("?")[0])
    try:
        parsed = parse_target("GET", target)
    except GatewayError:
        return
    if segments[:1] == ["v1"] and re.split(r"[^a-z0-9_-]", [*segments, ""][1])[0] in {"organization", "projects"}:
        assert parsed.admin
    if parsed.admin:
        assert segments[1].startswith(("organization", "projects"))
