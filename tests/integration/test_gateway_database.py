"""A gateway and its database, of both kinds."""

from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import KEY, OTHER_KEY, gateway_command


def test_the_database_outlives_redis_and_the_data_folder(start_gateway: StartGateway, database_url: str) -> None:
    """What was revoked is revoked for a gateway that has nothing else of the one before."""
    database = {"url": database_url}
    first = start_gateway(database=database)
    (reconciled,) = first.events("declared_reconciled")
    assert (reconciled["written"], reconciled["withdrawn"]) == (5, 0), "a project, two keys and their accounts"
    done = gateway_command("keys", "revoke", "proj_a/two", "--data-dir", str(first.data_dir))
    assert (done.returncode, done.stderr) == (0, "")
    assert [first.chat(key=key).status for key in (KEY, OTHER_KEY)] == [200, 401]
    first.stop()
    second = start_gateway(database=database)
    assert second.data_dir != first.data_dir
    (reconciled,) = second.events("declared_reconciled")
    assert (reconciled["written"], reconciled["withdrawn"]) == (0, 0)
    assert [second.chat(key=key).status for key in (KEY, OTHER_KEY)] == [200, 401]
