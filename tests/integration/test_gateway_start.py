"""How a gateway starts, or says in words why it does not: and then leaves nothing behind."""

import re
import signal
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.commands.keys import hash_of
from tests.fakes.gateway_fixtures import StartGateway
from tests.fakes.gateway_process import ADMIN_KEY, KEY, UPSTREAM_KEY, Gateway, gateway_command
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import VALKEY, StartServer, eventually_blocking


def refusal(gateway: Gateway, status: int = 1) -> str:
    """What a gateway says that does not start."""
    gateway.errors_allowed = True
    assert gateway.until_ended() == status
    assert gateway.processes() == []
    return gateway.err.read_text()


def test_check_config_says_all_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("upstreams: {a: {base_url: nowhere}}\nlogs: {level: loud}\nworker: 3\n")
    for arguments in (["check-config", str(file)], ["serve", "--config", str(file)], ["proxy", "--config", str(file)]):
        done = gateway_command(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines() == [
            f"{file}:1: upstreams.a.base_url: expected an http:// or https:// URL, got 'nowhere'",
            f"{file}:2: logs.level: expected one of debug, error, info, warning, got 'loud'",
            f"{file}:3: worker: is not a setting; did you mean workers?",
        ]


def test_check_config_only_checks(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("upstreams: {a: {base_url: 'https://example.com/v1'}}\n")
    done = gateway_command("check-config", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{file}: ok (1 upstream, 0 projects, 0 keys)\n"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("redis", "complaint"),
    [
        (
            "{url: 'redis://localhost/?timeout=3'}",
            "has options that are settings here, or not known: timeout",
        ),
        ("{url: 'redis://localhost/zero'}", "what follows the host is the number of a database"),
        ("{url: 'unix:///x', cluster: true}", "a cluster has no unix socket and no database but 0"),
    ],
)
def test_a_redis_url_is_read_before_anything_starts(tmp_path: Path, redis: str, complaint: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"upstreams: {{a: {{base_url: 'https://example.com/v1'}}}}\nredis: {redis}\n")
    done = gateway_command("check-config", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{file}:2: redis.url: {complaint}\n"


@pytest.mark.parametrize("name", ["ca_file", "cert_file"])
def test_a_certificate_that_is_not_there(tmp_path: Path, name: str) -> None:
    file = tmp_path / "gateway.yaml"
    more = ", key_file: /nowhere/key.pem" if name == "cert_file" else ""
    tls = f"{{{name}: /nowhere/x.pem{more}}}"
    file.write_text(f"upstreams:\n  a:\n    base_url: https://example.com/v1\n    tls: {tls}\n")
    done = gateway_command("check-config", str(file))
    assert done.returncode == 2
    complaints = done.stderr.splitlines()
    assert (
        complaints[0] == f"{file}:4: upstreams.a.tls.{name}: /nowhere/x.pem cannot be read: No such file or directory"
    )


def test_the_annotated_settings_as_they_stand(simulator_url: str, tmp_path: Path) -> None:
    """With nothing but the environment that they name."""
    file = Path(__file__).parents[2] / "config" / "gateway.yaml"
    gateway = Gateway(tmp_path, ["serve", "--config", str(file)], settings={"data_dir": str(tmp_path / "data")})
    with closing(gateway):
        gateway.start(
            GATEWAY_DATA_DIR=str(gateway.data_dir),
            GATEWAY_PORT="0",
            GATEWAY_OPERATIONS_PORT="0",
            GATEWAY_WORKERS="1",
            GATEWAY_FIRST_KEY_HASH=hash_of(KEY),
            OPENAI_BASE_URL=f"{simulator_url}/v1",
            OPENAI_API_KEY=UPSTREAM_KEY,
        )
        gateway.until_serving()
        assert gateway.chat().status == 200
        assert gateway.pids("valkey"), "an empty redis.url is none"


def test_a_child_process_is_not_for_people() -> None:
    done = gateway_command("_child", "worker", "0")
    assert done.returncode == 1
    assert "this command is for the supervisor: run `gateway serve` or `gateway demo`" in done.stdout
    assert done.stderr == ""


def test_what_lies_in_the_current_folder_is_no_part_of_it(start_gateway: StartGateway, tmp_path: Path) -> None:
    for name in ("uvloop.py", "aiohttp.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    gateway = start_gateway(folder=tmp_path, workers={"count": 1})
    gateway.until_serving()


def test_a_folder_that_is_taken(start_gateway: StartGateway) -> None:
    first = start_gateway(workers={"count": 1})
    second = start_gateway(wait=False, data_dir=str(first.data_dir))
    said = refusal(second)
    assert said == f"gateway: the data folder {first.data_dir} is in use by the gateway with pid {first.pid}\n"
    assert [line["event"] for line in second.lines()] == ["cannot_start"]
    assert first.chat().status == 200
    assert first.stop() == 0
    # However the holder ends, the folder is free again.
    third = start_gateway(data_dir=str(first.data_dir), workers={"count": 1})
    third.signal(signal.SIGKILL)
    assert third.until_ended() == -signal.SIGKILL
    start_gateway(data_dir=str(first.data_dir), workers={"count": 1})


@pytest.mark.parametrize("listener", ["proxy", "operations", "admin"])
def test_a_port_that_is_taken(start_gateway: StartGateway, listener: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        gateway = start_gateway(wait=False, listeners={listener: {"port": port}})
        assert refusal(gateway) == f"gateway: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        assert gateway.events("cannot_start")
        assert not (gateway.data_dir / "lock").read_text()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "x" * 300, "256.1.1.1"])
def test_an_address_that_is_none(start_gateway: StartGateway, host: str) -> None:
    gateway = start_gateway(wait=False, listeners={"proxy": {"host": host}})
    said = refusal(gateway)
    assert said.startswith(f"gateway: cannot listen on {host}:0: ")
    assert said.count("\n") == 1


def test_a_folder_that_cannot_be_made(start_gateway: StartGateway, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    gateway = start_gateway(wait=False, data_dir=str(tmp_path / "file" / "data"))
    assert refusal(gateway) == f"gateway: the data folder {tmp_path}/file/data cannot be used: Not a directory\n"


def test_a_valkey_that_is_not_there(start_gateway: StartGateway) -> None:
    gateway = start_gateway(wait=False, redis={"binary": "/nowhere/valkey-server"})
    said = refusal(gateway)
    assert said == "gateway: the embedded Valkey cannot start: redis.binary: /nowhere/valkey-server is not a program\n"
    assert gateway.events("cannot_start")


def test_a_valkey_that_ends_at_once(start_gateway: StartGateway) -> None:
    gateway = start_gateway(wait=False, redis={"binary": "/bin/false"})
    assert refusal(gateway).startswith("gateway: the embedded Valkey cannot start: ")


@pytest.mark.parametrize("command", ["proxy", "control"])
def test_one_plane_alone_needs_a_redis(start_gateway: StartGateway, command: str) -> None:
    said = refusal(start_gateway(command=command, wait=False))
    assert said == "gateway: expected redis.url or redis.sentinel in the settings: one plane alone has no Valkey\n"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"], "maxmemory-policy is allkeys-lru"),
        (["--appendonly", "no"], "nothing is kept on disk"),
    ],
)
def test_a_redis_that_forgets(
    start_gateway: StartGateway, start_server: StartServer, options: list[str], complaint: str
) -> None:
    server = start_server(VALKEY, *options, port=free_port())
    said = refusal(start_gateway(wait=False, redis={"url": server.url}))
    assert said.startswith(f"gateway: this Redis cannot be used: {complaint}")
    assert "(redis.allow_volatile: true accepts that)" in said
    gateway = start_gateway(redis={"url": server.url, "allow_volatile": True}, workers={"count": 1})
    assert gateway.chat().status == 200
    assert any(complaint in line["warning"] for line in gateway.events("redis_warning"))


def test_a_redis_that_comes_later(start_gateway: StartGateway, start_server: StartServer) -> None:
    server = start_server(VALKEY, "--appendonly", "yes", port=free_port(), start=False)
    gateway = start_gateway(redis={"url": server.url}, wait=False)
    eventually_blocking(lambda: gateway.events("serving"), within_s=30)
    status, state = gateway.readyz()
    assert (status, state["status"], state["workers"]["ready"]) == (503, "not ready", 2)
    assert "redis" in state["away"]
    assert gateway.ask("/livez", at="operations", key=None).status == 200
    answer = gateway.chat()
    assert answer.status == 503
    assert answer.json()["error"]["code"] == "key_check_unavailable"
    assert len(gateway.events("redis_does_not_answer")) < 4, "it says so once, not once a second"
    server.start()
    eventually_blocking(lambda: gateway.readyz() == (200, ready(2)), within_s=15)
    eventually_blocking(lambda: gateway.chat().status == 200)


def ready(workers: int) -> dict[str, Any]:
    return {"status": "ready", "workers": {"ready": workers, "starting": 0, "draining": 0}, "away": {}}


def test_a_redis_that_comes_later_and_is_unfit(start_gateway: StartGateway, start_server: StartServer) -> None:
    server = start_server(VALKEY, "--appendonly", "no", port=free_port(), start=False)
    gateway = start_gateway(redis={"url": server.url}, workers={"count": 1}, wait=False)
    eventually_blocking(lambda: gateway.events("serving"), within_s=30)
    server.start()
    assert gateway.until_ended() == 1
    assert "nothing is kept on disk" in gateway.events("ended")[0]["reason"]
    assert gateway.processes() == []


def test_a_socket_that_has_no_place(start_gateway: StartGateway, tmp_path: Path) -> None:
    """The path of the data folder is too long for sockets, but they have a place elsewhere."""
    gateway = start_gateway(data_dir=str(tmp_path / ("long" * 30)), workers={"count": 1})
    assert gateway.chat().status == 200
    assert gateway.ask("/v1/organization/projects", key=ADMIN_KEY).status == 200
    done = gateway_command("keys", "revoke", "proj_a/one", "--data-dir", str(gateway.data_dir))
    assert (done.returncode, done.stderr) == (0, "")
    eventually_blocking(lambda: gateway.chat(key=KEY).status == 401)


def test_the_operations_listener_answers_while_valkey_is_loading(start_gateway: StartGateway, tmp_path: Path) -> None:
    """A large file takes minutes to load. Whoever asks meanwhile must hear that we live, or we are killed over it."""
    slow = tmp_path / "slow-server"
    gate = tmp_path / "gate"
    slow.write_text(f'#!/bin/sh\nwhile ! [ -e "{gate}" ]; do sleep 0.02; done\nexec "{VALKEY}" "$@"\n')
    slow.chmod(0o755)
    port = free_port()
    gateway = start_gateway(
        wait=False, redis={"binary": str(slow)}, workers={"count": 1}, listeners={"operations": {"port": port}}
    )
    eventually_blocking(lambda: " 200 OK" in probe(port, "/livez"), within_s=15)
    said = probe(port, "/readyz")
    assert " 503 Service Unavailable" in said
    assert '"redis":' in said
    gate.touch()
    gateway.until_serving()
    assert gateway.readyz() == (200, ready(1))


def probe(port: int, path: str) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            return connection.makefile("rb").read().decode()
    except OSError:
        return ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts(start_gateway: StartGateway, number: signal.Signals) -> None:
    """At any moment: when its control process is there, or a worker, or nothing yet."""
    for role in ("valkey", "control", "worker"):
        gateway = start_gateway(wait=False, workers={"count": 2})
        eventually_blocking(lambda of=role, in_=gateway: in_.pids(of), within_s=30)  # type: ignore[misc]
        assert gateway.stop(number, within_s=10) == 0
        assert gateway.processes() == []
        assert not (gateway.data_dir / "lock").read_text()
        assert re.fullmatch(r"", gateway.err.read_text())
