"""Which limits hold: the way through an organization's documents, against a naive reference."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounts.limits import LimitDocuments, reserve_mode, resolve, search
from gateway.limits import CONCURRENT, RATES, WINDOWS, Applied, LimitDocument, LimitSet, RateLimit, SpendLimit

GROUPS = {"g": ("g-*",), "h": ("h1", "*-h")}
NAMES = ("g", "h", "m", "*")  # what models' limits are declared for


def rpm(limit: int | None) -> LimitSet:
    return LimitSet((RateLimit("requests_per_minute", limit),))


def of(**documents: LimitDocument) -> LimitDocuments:
    return LimitDocuments("org-a", 1, {field.replace("_", ":"): document for field, document in documents.items()})


def held(documents: LimitDocuments, model: str | None = "m") -> list[tuple[str, str, int | None, str, str]]:
    """Scope, subject, limit, model's bucket, origin."""
    applied = resolve(documents, project_id="p", user_id="u", key_id="k", model=model)
    return [
        (a.scope, a.subject, a.limit.limit if isinstance(a.limit, RateLimit) else a.limit.nano_usd, a.model, a.origin)
        for a in applied
    ]


def test_nothing_declared_nothing_holds() -> None:
    assert held(LimitDocuments("org-a")) == []
    assert reserve_mode(LimitDocuments("org-a"), "p") == "adaptive"


def test_from_the_nearest_to_the_farthest() -> None:
    organization = LimitDocument(own=rpm(1), keys=rpm(2), users=rpm(3), projects=rpm(4), project_models={"*": rpm(5)})
    assert held(of(o=organization)) == [
        ("organization", "org-a", 1, "", "organization"),
        ("project", "p", 4, "", "all projects"),
        ("project_model", "p", 5, "m", "models of all projects: *"),
        ("user", "u", 3, "", "all users"),
        ("key", "k", 2, "", "all keys"),
    ]
    nearer = of(
        o=organization,
        p_p=LimitDocument(own=rpm(40), keys=rpm(20), models={"*": rpm(50)}),
        u_u=LimitDocument(own=rpm(30)),
    )
    assert held(nearer)[1:] == [
        ("project", "p", 40, "", "project p"),
        ("project_model", "p", 50, "m", "models of p: *"),
        ("user", "u", 30, "", "user u"),
        ("key", "k", 20, "", "keys of p"),
    ]
    own = of(o=organization, p_p=LimitDocument(keys=rpm(20)), k_k=LimitDocument(own=rpm(200)))
    assert held(own)[-1] == ("key", "k", 200, "", "key k")


def test_what_is_lifted_ends_the_search() -> None:
    documents = of(o=LimitDocument(keys=rpm(2)), p_p=LimitDocument(keys=rpm(None)))
    assert held(documents) == []
    (lifted,) = search(documents, project_id="p", user_id="u", key_id="k", model=None)
    assert lifted == Applied("key", "k", RateLimit("requests_per_minute", None), "", "keys of p")


@pytest.mark.parametrize(
    ("model", "bucket", "limit"),
    [("g-1", "g", 1), ("G-1", "g", 1), ("g", "g", 1), ("m", "m", 2), ("M", "m", 2), ("other", "other", 3), ("h1", "h", 3)],
)  # fmt: skip
def test_buckets_of_models(model: str, bucket: str, limit: int) -> None:
    models = {"g": rpm(1), "m": rpm(2), "*": rpm(3)}
    documents = of(o=LimitDocument(groups=GROUPS), p_p=LimitDocument(models=models))
    assert [(a[3], a[2]) for a in held(documents, model)] == [(bucket, limit)]


@pytest.mark.parametrize("model", [None, ""])
def test_a_call_without_a_model(model: str | None) -> None:
    assert held(of(p_p=LimitDocument(own=rpm(1), models={"*": rpm(3)})), model) == [
        ("project", "p", 1, "", "project p")
    ]


def test_reserve_mode() -> None:
    documents = of(o=LimitDocument(reserve="strict"), p_p=LimitDocument(reserve="adaptive"))
    assert (reserve_mode(documents, "p"), reserve_mode(documents, "q")) == ("adaptive", "strict")


def test_updates() -> None:
    one = LimitDocuments("org-a").updated(5, {"o": msgspec.json.encode(LimitDocument(keys=rpm(None))), "p:p": b"{}"})
    assert one == LimitDocuments("org-a", 5, {"o": LimitDocument(keys=rpm(None)), "p:p": LimitDocument()})
    two = one.updated(6, {"o": None, "k:k": b'{"own": {"rates": [{"kind": "x", "limit": 3}]}}', "u:gone": None})
    assert two.documents.keys() == {"p:p", "k:k"}
    assert held(two) == [], "what a later version says, and this one does not know"
    assert two.updated(5, {"p:p": None}, since=4) is two, "an answer that was overtaken"
    assert two.updated(6, {"p:p": None}, since=0) is two
    assert two.updated(9, {"p:p": None}, since=7) is two, "what is between is not known"
    assert two.updated(9, {"p:p": None}, since=4).documents.keys() == {"k:k"}
    assert one.documents.keys() == {"o", "p:p"}, "a copy is never changed"
    with pytest.raises(msgspec.MsgspecError):
        two.updated(7, {"o": b'{"own": 3}'})


def test_another_redis() -> None:
    one = LimitDocuments("org-a").updated(5, {"o": b"{}", "p:p": b"{}"}, since=0)
    assert one.updated(3, {"o": b"{}"}, since=5) == LimitDocuments("org-a", 3, {"o": LimitDocument()}), "it has all"
    assert one.updated(0, {}, since=5) == LimitDocuments("org-a"), "it has nothing yet"


limits = st.none() | st.integers(0, 9)
sets = st.builds(
    lambda rates, spend: LimitSet(
        tuple(RateLimit(kind, limit) for kind, limit in rates.items()),
        tuple(SpendLimit(window, usd) for window, usd in spend.items()),
    ),
    st.dictionaries(st.sampled_from([*RATES, CONCURRENT]), limits, max_size=3),
    st.dictionaries(st.sampled_from(WINDOWS), limits, max_size=2),
)
by_model = st.dictionaries(st.sampled_from(NAMES), sets, max_size=3)
documents_of_all = st.builds(
    lambda o, rest: LimitDocuments("org-a", 1, {"o": o, **rest}),
    st.builds(
        LimitDocument, own=sets, keys=sets, users=sets, projects=sets, project_models=by_model, groups=st.just(GROUPS)
    ),
    st.dictionaries(
        st.sampled_from(["p:p", "u:u", "k:k", "p:q"]), st.builds(LimitDocument, own=sets, keys=sets, models=by_model)
    ),
)


def naive(documents: LimitDocuments, model: str | None) -> set[Any]:
    """The decision's words, once for every kind and scope."""
    o, p, u, k = (documents.documents.get(f, LimitDocument()) for f in ("o", "p:p", "u:u", "k:k"))
    group = {"g": "g", "g-1": "g", "h1": "h", "x-h": "h"}.get(model or "")
    names = [n for n in (group, model, "*") if n]
    chains: dict[tuple[str, str, str], list[LimitSet]] = {
        ("organization", "org-a", ""): [o.own],
        ("project", "p", ""): [p.own, o.projects],
        ("user", "u", ""): [u.own, o.users],
        ("key", "k", ""): [k.own, p.keys, o.keys],
    }
    if model:
        declared = [models.get(name, LimitSet()) for models in (p.models, o.project_models) for name in names]
        chains["project_model", "p", group or model] = declared
    holds: set[Any] = set()
    for (scope, subject, bucket), chain in chains.items():
        for kind in (*RATES, CONCURRENT):
            for limit in [rate for one in chain for rate in one.rates if rate.kind == kind][:1]:
                if limit.limit is not None:
                    holds.add((scope, subject, bucket, limit))
        for window in WINDOWS:
            for spend in [spend for one in chain for spend in one.spend if spend.window == window][:1]:
                if spend.nano_usd is not None:
                    holds.add((scope, subject, bucket, spend))
    return holds


@given(documents_of_all, st.sampled_from([None, "g", "g-1", "h1", "x-h", "m", "other"]))
def test_inheritance(documents: LimitDocuments, model: str | None) -> None:
    applied = resolve(documents, project_id="p", user_id="u", key_id="k", model=model)
    found = [(a.scope, a.subject, a.model, a.limit) for a in applied]
    assert len(set(found)) == len(found)
    assert set(found) == naive(documents, model)
