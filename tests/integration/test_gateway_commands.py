"""The command line over the admin API of a gateway that runs: `admin-key`, `keys`, `projects`."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import ADMIN_KEY, KEY, Gateway
from tests.fakes.ports import free_port

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def gateway(start_module_gateway: StartGateway) -> Gateway:
    return start_module_gateway(workers={"count": 1})


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("keys", "list", …)`: a command's exit status, and what it has said: to standard error if it failed."""
    for name in ("GATEWAY_ADMIN_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)

    def command(*arguments: str) -> tuple[int, str]:
        try:
            status = main(list(arguments))
        except SystemExit as error:  # argparse's way to say that something is wrong
            status = int(error.code or 0)
        said = capsys.readouterr()
        assert not (said.out and said.err)
        return status, said.out or said.err

    return command


def here(gateway: Gateway) -> tuple[str, str]:
    return "--data-dir", str(gateway.data_dir)


def parsed(run: Run, *arguments: str) -> Any:
    status, said = run(*arguments, "--json")
    assert status == 0, said
    return json.loads(said)


def lines(said: str) -> list[str]:
    return [" ".join(line.split()) for line in said.splitlines()]


def test_the_first_admin_key(gateway: Gateway, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status, said = run("admin-key", "create", "ops", "--expires-in", "90d", "--config", str(gateway.file))
    assert status == 0
    key, key_id = re.findall(r"^(?:key|id): +(\S+)$", said, re.MULTILINE)
    assert key.startswith("sk-admin-gw-")
    gateway.secrets.add(key)
    assert lines(said)[3].startswith("expires: 20")
    there = gateway.ask(f"/v1/organization/admin_api_keys/{key_id}", key=key).json()
    assert (there["name"], there["expires_at"] - there["created_at"]) == ("ops", 90 * 86_400)

    file = tmp_path / "key"
    file.write_text(f"{key}\n")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", ADMIN_KEY)
    first = parsed(run, "projects", "list", "--url", gateway.url)
    assert first == parsed(run, "projects", "list", "--url", f"{gateway.url}/v1/", "--admin-key-file", str(file))
    assert first == parsed(run, "projects", "list", *here(gateway))
    monkeypatch.setenv("GATEWAY_ADMIN_KEY", "sk-admin-wrong-0123456789abcdef")
    status, said = run("projects", "list", "--url", gateway.url)
    assert (status, said.count("\n")) == (1, 1), "GATEWAY_ADMIN_KEY goes before OPENAI_ADMIN_KEY"
    assert said.startswith("gateway: Incorrect API key provided: sk-admin****")


def test_projects(gateway: Gateway, run: Run) -> None:
    status, said = run("projects", "create", "Chat", *here(gateway))
    assert (status, lines(said)[1:3]) == (0, ["name: Chat", "status: active"])
    project_id = lines(said)[0].removeprefix("id: ")
    assert run("projects", "show", project_id, *here(gateway)) == (0, said)
    assert run("projects", "show", "Chat", *here(gateway)) == (0, said)
    status, listed = run("projects", "list", *here(gateway))
    head, *rows = listed.splitlines()
    assert head.split() == ["id", "name", "status", "created"]
    ours = {"proj_a": ["proj_a", "active"], project_id: ["Chat", "active"]}
    assert {row.split()[0]: row.split()[1:3] for row in rows} == ours
    assert {row.index("active") for row in rows} == {head.index("status")}

    parsed(run, "projects", "create", "Chat", *here(gateway))
    status, said = run("projects", "show", "Chat", *here(gateway))
    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith("gateway: several projects are called Chat: proj_")
    assert project_id in said
    status, said = run("projects", "archive", "Chat", *here(gateway))
    assert (status, said) == (1, "gateway: No such project: 'Chat'.\n"), "by its id alone"
    status, said = run("projects", "archive", project_id, *here(gateway))
    assert (status, lines(said)[2]) == (0, "status: archived")
    assert lines(said)[4].startswith("archived: 20")
    assert project_id not in {one["id"] for one in parsed(run, "projects", "list", *here(gateway))}
    assert project_id in {one["id"] for one in parsed(run, "projects", "list", "--all", *here(gateway))}
    status, said = run("projects", "archive", "proj_a", *here(gateway))
    assert (status, said.count("\n"), "settings" in said) == (1, 1, True), "what the settings declare stays"


def test_keys(gateway: Gateway, run: Run) -> None:
    project_id = parsed(run, "projects", "create", "Keys", *here(gateway))["id"]
    status, said = run("keys", "create", "--project", "Keys", "web", *here(gateway))
    assert status == 0
    key, key_id = re.findall(r"^(?:key|id): +(\S+)$", said, re.MULTILINE)
    assert "expires: never" in lines(said)
    gateway.secrets.add(key)
    assert gateway.chat(key=key).status == 200

    more = ("--service-account", "web", "--scope", "api.models.read", "--expires-in", "12h")
    second = parsed(run, "keys", "create", "--project", project_id, "second", *more, *here(gateway))
    gateway.secrets.add(second["value"])
    assert second["expires_at"] - second["created_at"] == 12 * 3600
    assert [gateway.chat(key=second["value"]).status, gateway.ask("/v1/models", key=second["value"]).status] == [
        401,
        200,
    ]
    found = parsed(run, "keys", "list", "--project", "Keys", *here(gateway))
    assert {one["id"]: one["name"] for one in found} == {key_id: "web", second["id"]: "second"}
    assert len({one["owner"]["service_account"]["id"] for one in found}) == 1, "the account was there already"
    assert [one.get("scopes") for one in found if one["id"] == second["id"]] == [["api.models.read"]]

    status, said = run("keys", "list", *here(gateway))
    head, *rows = lines(said)
    assert (status, head) == (0, "id name project owner created expires last used")
    assert {row.split()[2] for row in rows} == {"proj_a", project_id}
    row = next(row for row in rows if row.startswith(f"{key_id} web {project_id} web 20"))
    assert re.search(r" UTC never (never|20\S+ \S+ UTC)$", row)  # its call may have been folded already

    assert run("keys", "revoke", key_id, *here(gateway)) == (0, f"revoked {project_id}/web ({key_id})\n")
    assert gateway.chat(key=key).status == 401
    assert [one["name"] for one in parsed(run, "keys", "list", "--project", "Keys", *here(gateway))] == ["second"]


def test_lists_of_many_pages(gateway: Gateway, run: Run) -> None:
    made = [
        gateway.ask("/v1/organization/projects", {"name": f"P {n}"}, key=ADMIN_KEY).json()["id"] for n in range(230)
    ]
    found = [one["id"] for one in parsed(run, "projects", "list", *here(gateway)) if one["name"].startswith("P ")]
    assert sorted(found) == sorted(made)


def test_mistakes(gateway: Gateway, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = ("keys", "create", "--project")
    for arguments, status, said in (
        ((*create, "proj_a", "x", "--user", "nobody"), 1, "No such user of this project: 'nobody'."),
        ((*create, "proj_none", "x"), 1, "No such project: 'proj_none'."),
        ((*create, "proj_a", "x", "--scope", "all"), 1, "Invalid value for 'scopes[0]'"),
        (("projects", "show", "a/../b?c=d"), 1, "No such project: 'a/../b?c=d'."),
        (("projects", "create", ""), 1, "Invalid value for 'name'"),
        (("projects", "list", "--admin-key-file", "/key"), 2, "--admin-key-file goes with --url"),
    ):
        assert run(*arguments, *here(gateway)) == (status, Anything(f"gateway: {said}"))
    accounts = gateway.ask("/v1/organization/projects/proj_a/service_accounts", key=ADMIN_KEY).json()["data"]
    assert "x" not in {one["name"] for one in accounts}, "none is left of a key that could not be made"
    at = ("--url", gateway.url)
    for place, said in (
        (at, "an admin key is needed: in GATEWAY_ADMIN_KEY, or in a file (--admin-key-file)"),
        ((*at, "--admin-key-file", "/nowhere"), "/nowhere: No such file or directory"),
        (("--url", "ftp://host"), "--url: expected http://host or https://host"),
        (("--url", "http://u:p@host"), "--url: expected http://host or https://host"),
        (("--url", "http://host:x"), "--url: expected http://host or https://host"),
    ):
        assert run("projects", "list", *place) == (2, Anything(f"gateway: {said}"))
    monkeypatch.setenv("GATEWAY_ADMIN_KEY", "sk-admin-with a space")
    assert run("projects", "list", *at) == (2, "gateway: the admin key holds a space, or a letter beyond ASCII\n")
    monkeypatch.setenv("GATEWAY_ADMIN_KEY", KEY)
    assert run("projects", "list", *at) == (1, Anything("gateway: "))
    nobody = f"http://127.0.0.1:{free_port()}"
    assert run("projects", "list", "--url", nobody) == (1, Anything(f"gateway: {nobody}: [Errno"))
    monkeypatch.setenv("GATEWAY_ADMIN_KEY", ADMIN_KEY)
    operations = f"http://{gateway.addresses['operations']}"
    said = "gateway: the answer is not one of the admin API (status 404)\n"
    assert run("projects", "list", "--url", operations) == (1, said)
    said = f"gateway: no gateway runs on {tmp_path}: its control process does not answer\n"
    assert run("admin-key", "create", "x", "--data-dir", str(tmp_path)) == (1, said)
    assert run("admin-key", "create", "x")[0] == 2, "no place to look"
    for time in ("90", "d", "1y", "-1d", "9999999999999d"):
        assert run("admin-key", "create", "x", "--expires-in", time, *here(gateway))[0] == 2


class Anything(str):
    """Is equal to one line that begins with it."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith(str(self)) and other.count("\n") == 1

    __hash__ = str.__hash__


def test_who_the_audit_log_names(gateway: Gateway, run: Run) -> None:
    project = parsed(run, "projects", "create", "Audited", *here(gateway))
    answer = gateway.ask("/v1/organization/audit_logs?limit=100", key=ADMIN_KEY)
    (entry,) = [one for one in answer.json()["data"] if one.get("project.created", {}).get("id") == project["id"]]
    assert entry["actor"]["type"] == "session"
    assert entry["actor"]["session"]["user"]["id"] == "operator"
