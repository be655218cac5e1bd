"""What a gateway does not have says so."""

import openai
import pytest

from tests.fakes.admin_api import ADMIN_KEY, AdminApi

CERTIFICATES, KEYS, STORAGE, RETENTION = "client certificates", "external keys", "external storage", "data retention"
FAMILIES = [
    ("GET", "/organization/certificates?limit=3", CERTIFICATES),
    ("POST", "/organization/certificates", CERTIFICATES),
    ("POST", "/organization/certificates/activate", CERTIFICATES),
    ("POST", "/organization/certificates/deactivate", CERTIFICATES),
    ("GET", "/organization/certificates/cert_1", CERTIFICATES),
    ("POST", "/organization/certificates/cert_1", CERTIFICATES),
    ("DELETE", "/organization/certificates/cert_1", CERTIFICATES),
    ("GET", "/organization/projects/proj_1/certificates", CERTIFICATES),
    ("POST", "/organization/projects/proj_1/certificates/activate", CERTIFICATES),
    ("POST", "/organization/projects/proj_1/certificates/deactivate", CERTIFICATES),
    ("GET", "/organization/external_keys", KEYS),
    ("POST", "/organization/external_keys", KEYS),
    ("GET", "/organization/external_keys/key_1", KEYS),
    ("DELETE", "/organization/external_keys/key_1", KEYS),
    ("POST", "/organization/external_keys/key_1/validate", KEYS),
    ("GET", "/organization/external_storage", STORAGE),
    ("POST", "/organization/external_storage", STORAGE),
    ("GET", "/organization/external_storage/es_1", STORAGE),
    ("DELETE", "/organization/external_storage/es_1", STORAGE),
    ("POST", "/organization/external_storage/es_1/validate", STORAGE),
    ("GET", "/organization/data_retention", RETENTION),
    ("POST", "/organization/data_retention", RETENTION),
    ("GET", "/organization/projects/proj_1/data_retention", RETENTION),
    ("POST", "/organization/projects/proj_1/data_retention", RETENTION),
]


async def test_every_operation_says_what_is_not_there(api: AdminApi) -> None:
    for method, path, what in FAMILIES:
        found = await api.ask(method, path, {"anything": True} if method == "POST" else None)
        assert found.error == (404, "not_supported", None), (method, path)
        assert found.body["error"]["message"].startswith(f"This gateway does not have {what}"), (method, path)


async def test_the_official_client_gets_its_own_error(api: AdminApi) -> None:
    organization = api.client.admin.organization
    for call in (
        organization.certificates.list(),
        organization.certificates.create(certificate="-----BEGIN CERTIFICATE-----"),
        organization.data_retention.retrieve(),
        organization.projects.data_retention.update("proj_1", retention_type="none"),
        organization.projects.certificates.activate("proj_1", certificate_ids=["cert_1"]),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            await call
        assert caught.value.code == "not_supported"


async def test_only_who_may_ask_hears_of_it(api: AdminApi) -> None:
    made = await api.ask("POST", "/organization/admin_api_keys", {"name": "reads", "scopes": ["*.read"]})
    reading = made.body["value"]
    assert (await api.ask("GET", "/organization/certificates", key=reading)).status == 404
    assert (await api.ask("POST", "/organization/certificates", {}, key=reading)).status == 401
    assert (await api.ask("PUT", "/organization/certificates", {}, key=ADMIN_KEY)).error[0] == 405
