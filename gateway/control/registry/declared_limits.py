"""The limits that a settings file declares, as the documents of its organization."""

from gateway.control.registry.declared import declared_keys
from gateway.limits import NONE, ORGANIZATION_FIELD, LimitDocument, LimitSet, key_field, project_field, user_field
from gateway.settings.limits import ModelLimits, limit_set
from gateway.settings.model import Settings


def declared_limits(settings: Settings) -> dict[str, LimitDocument]:
    """Documents by field: the organization's, and those of projects, users and keys for which anything is declared."""
    limits = settings.limits
    documents = {
        ORGANIZATION_FIELD: LimitDocument(
            own=limit_set(limits.organization),
            keys=limit_set(limits.keys),
            users=limit_set(limits.users),
            projects=limit_set(limits.projects),
            project_models=_by_model(limits.projects.models),
            groups={name.lower(): tuple(p.lower() for p in patterns) for name, patterns in limits.groups.items()},
            reserve=limits.reserve,
        )
    }
    for project in settings.projects:
        documents[project_field(project.id)] = LimitDocument(
            own=limit_set(project.limits),
            models=_by_model(project.limits.models),
            keys=limit_set(project.limits.keys),
            reserve=project.limits.reserve,
        )
    for user, written in limits.by_user.items():
        documents[user_field(user)] = LimitDocument(own=limit_set(written))
    for key in declared_keys(settings):
        documents[key_field(key.principal.key_id)] = LimitDocument(own=limit_set(key.limits))
    nothing = LimitDocument()
    return {f: document for f, document in documents.items() if document != nothing or f == ORGANIZATION_FIELD}


def _by_model(models: dict[str, ModelLimits]) -> dict[str, LimitSet]:
    return {name.lower(): declared for name, written in models.items() if (declared := limit_set(written)) != NONE}
