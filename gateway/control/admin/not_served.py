"""What OpenAI's organization API has and a gateway does not: each operation says so, and why."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked
from gateway.control.admin.routes import Read, Route
from gateway.errors import NOT_SERVED, GatewayError

_ORGANIZATION = ("/organization", "api")
_PROJECT = ("/organization/projects/{project_id}", "api.organization.projects")

_LIST = (("GET", ""), ("POST", ""))
_SWITCHED = (("POST", "/activate"), ("POST", "/deactivate"))
_CHECKED = (("GET", "/{id}"), ("DELETE", "/{id}"), ("POST", "/{id}/validate"))


def routes() -> tuple[Route, ...]:
    certificates = _refusing("client certificates", "it knows its callers by keys and tokens, and TLS ends before it")
    keys = _refusing("external keys", "it keeps nothing of what calls say that they could encrypt")
    storage = _refusing("external storage", "it stores no files, its upstreams do")
    retention = _refusing("data retention settings", "it keeps nothing of what calls say, and upstreams have their own")
    one = (("GET", "/{id}"), ("POST", "/{id}"), ("DELETE", "/{id}"))
    return (
        *_family(_ORGANIZATION, "certificates", (*_LIST, *_SWITCHED, *one), certificates),
        *_family(_PROJECT, "certificates", (("GET", ""), *_SWITCHED), certificates),
        *_family(_ORGANIZATION, "external_keys", (*_LIST, *_CHECKED), keys),
        *_family(_ORGANIZATION, "external_storage", (*_LIST, *_CHECKED), storage),
        *_family(_ORGANIZATION, "data_retention", _LIST, retention),
        *_family(_PROJECT, "data_retention", _LIST, retention),
    )


def _refusing(what: str, reason: str) -> Read:
    async def refuse(_asked: Asked, _connection: AsyncConnection) -> Any:
        raise GatewayError(NOT_SERVED, what=what, reason=reason)

    return refuse


def _family(
    under: tuple[str, str], noun: str, operations: tuple[tuple[str, str], ...], refuse: Read
) -> tuple[Route, ...]:
    """Nothing is changed, so that the writing ones are reads too. under: path and permission of what it belongs to."""
    path, may = under
    return tuple(
        Route(method, f"{path}/{noun}{more}", f"{may}.{noun}.{'read' if method == 'GET' else 'write'}", read=refuse)
        for method, more in operations
    )
