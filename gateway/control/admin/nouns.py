"""All nouns of the admin API."""

from gateway.control.admin import (
    admin_api_keys,
    audit_logs,
    costs,
    federation_rules,
    group_users,
    groups,
    hosted_tool_permissions,
    identity_providers,
    invites,
    key_limits,
    model_permissions,
    not_served,
    own,
    project_api_keys,
    project_groups,
    project_users,
    projects,
    rate_limits,
    requests,
    role_assignments,
    roles,
    service_accounts,
    service_tier_settings,
    spend_alerts,
    spend_limits,
    usage,
    users,
)
from gateway.control.admin.routes import Route


def all_routes() -> list[Route]:
    """What all nouns serve."""
    nouns = (
        admin_api_keys, audit_logs, costs, federation_rules, group_users, groups, hosted_tool_permissions,
        identity_providers, invites, key_limits, model_permissions, not_served, own, project_api_keys, project_groups,
        project_users, projects, rate_limits, requests, role_assignments, roles, service_accounts,
        service_tier_settings, spend_alerts, spend_limits, usage, users,
    )  # fmt: skip
    return [route for noun in nouns for route in noun.routes()]
