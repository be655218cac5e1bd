"""Which limits hold for a call: an organization's documents, and the way through them. No I/O; both planes use it.

Kind by kind and window by window, the first that is declared holds (docs/decisions/009-admission.md); `limit: null` in
a document ends the search, and nothing holds.
"""

from collections.abc import Iterator, Mapping

import msgspec

from gateway.limits import (
    CONCURRENT,
    NONE,
    ORGANIZATION_FIELD,
    RATES,
    WINDOWS,
    Applied,
    LimitDocument,
    LimitSet,
    Permissions,
    RateLimit,
    Reserve,
    Scope,
    SpendLimit,
    group_of,
    key_field,
    member_field,
    project_field,
    user_field,
)

_EMPTY = LimitDocument()
_KINDS = (*RATES, CONCURRENT, *WINDOWS)
_DECODER = msgspec.json.Decoder(LimitDocument)

Chain = tuple[tuple[str, LimitSet], ...]
"""Where a limit may be declared, the nearest first: the place in words, and what is declared there."""


class LimitDocuments(msgspec.Struct, frozen=True):
    """All documents of one organization, by field (`o`, `p:<project>`, `u:<user>`, `m:<project>:<user>`, `k:<key id>`),
    as of a version."""

    organization_id: str
    version: int = 0
    documents: Mapping[str, LimitDocument] = msgspec.field(default_factory=dict)

    def updated(
        self, version: int, changes: Mapping[str, bytes | None], *, since: int | None = None
    ) -> "LimitDocuments":
        """The same as of another version. changes: JSON, or None for a document that is gone.

        since: the version that `changes` counts from, None for this one's. They are all that there is, rather than what
        has changed, if it is 0 or above `version`: another Redis has taken the place of the one that it came from.
        Answers may come in any order; one that was overtaken changes nothing. Raises msgspec.MsgspecError for what is
        no document.
        """
        since = self.version if since is None else since
        replaced = version < since
        if not replaced and (version <= self.version or since > self.version):
            return self
        documents = {} if replaced or since == 0 else dict(self.documents)
        for field, document in changes.items():
            if document is None:
                documents.pop(field, None)
            else:
                documents[field] = _DECODER.decode(document)
        return LimitDocuments(self.organization_id, version, documents)


def resolve(
    documents: LimitDocuments, *, project_id: str, user_id: str, key_id: str, model: str | None
) -> tuple[Applied, ...]:
    """The limits that hold, from the organization's to the key's. model: as requested; None for a call without one."""
    searched = search(documents, project_id=project_id, user_id=user_id, key_id=key_id, model=model)
    return tuple(found for found in searched if not is_lifted(found.limit))


def search(
    documents: LimitDocuments, *, project_id: str, user_id: str, key_id: str, model: str | None
) -> Iterator[Applied]:
    """The same with what is lifted: where limits end that would otherwise be inherited."""
    every = documents.documents
    organization = every.get(ORGANIZATION_FIELD, _EMPTY)
    project = every.get(project_field(project_id), _EMPTY)
    yield from _first("organization", documents.organization_id, (("organization", organization.own),))
    yield from _first(
        "project", project_id, ((f"project {project_id}", project.own), ("all projects", organization.projects))
    )
    if model:
        bucket, chain = _of_model(organization, project, project_id, model.lower())
        yield from _first("project_model", project_id, chain, bucket)
    user = every.get(user_field(user_id), _EMPTY)
    yield from _first("user", user_id, ((f"user {user_id}", user.own), ("all users", organization.users)))
    member = every.get(member_field(project_id, user_id), _EMPTY)
    yield from _first("member", user_id, ((f"user {user_id} in {project_id}", LimitSet(spend=member.own.spend)),))
    key = every.get(key_field(key_id), _EMPTY)
    yield from _first(
        "key",
        key_id,
        ((f"key {key_id}", key.own), (f"keys of {project_id}", project.keys), ("all keys", organization.keys)),
    )


def reserve_mode(documents: LimitDocuments, project_id: str) -> Reserve:
    """How much calls of a project reserve: as the project says, else as the organization does, else `adaptive`."""
    for field in (project_field(project_id), ORGANIZATION_FIELD):
        reserve = documents.documents.get(field, _EMPTY).reserve
        if reserve is not None:
            return reserve
    return "adaptive"


def permissions_of(documents: LimitDocuments, project_id: str) -> Permissions | None:
    """What calls of a project may use; None: everything."""
    return documents.documents.get(project_field(project_id), _EMPTY).permissions


def is_lifted(limit: RateLimit | SpendLimit) -> bool:
    """Whether it is none: `unlimited`."""
    return (limit.limit if isinstance(limit, RateLimit) else limit.nano_usd) is None


def _of_model(organization: LimitDocument, project: LimitDocument, project_id: str, model: str) -> tuple[str, Chain]:
    """The bucket that a model's calls are counted in, and where its limits may be declared."""
    group = group_of(organization.groups, model)
    names = (model, "*") if group is None or group == model else (group, model, "*")
    chain = tuple(
        (f"models of {who}: {name}", models[name])
        for who, models in ((project_id, project.models), ("all projects", organization.project_models))
        for name in names
        if name in models
    )
    return group or model, chain


def _first(scope: Scope, subject: str, chain: Chain, model: str = "") -> Iterator[Applied]:
    """Of each kind and window, the first in the chain."""
    found: dict[str, Applied] = {}
    for origin, declared in chain:
        if declared == NONE:
            continue
        for rate in declared.rates:
            if rate.kind not in found:
                found[rate.kind] = Applied(scope, subject, rate, model, origin)
        for spend in declared.spend:
            if spend.window not in found:
                found[spend.window] = Applied(scope, subject, spend, model, origin)
    return (found[kind] for kind in _KINDS if kind in found)
