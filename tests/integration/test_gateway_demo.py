"""`gateway demo`: what it prints works when it is pasted, and nothing is left of it afterwards."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.gateway_fixtures import StartDemo
from tests.fakes.gateway_process import ADMIN_KEY, KEY
from tests.fakes.redis_servers import eventually_blocking


def blocks(text: str) -> tuple[str, str, str]:
    """The curl line and the two Python examples, as they stand in the text."""
    found = re.search(
        r"Try it with curl:\n\n(.*?)\n\nor with .*?:\n\n(.*?)\n\nand manage .*?:\n\n(.*?)\n\nCtrl-C", text, re.DOTALL
    )
    assert found is not None, text
    return found[1], found[2], found[3]


def test_what_it_prints_works_when_pasted(start_demo: StartDemo, tmp_path: Path) -> None:
    demo = start_demo()
    curl, python, admin = blocks(demo.text)
    answer = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, timeout=30)
    assert answer.returncode == 0
    assert '"chat.completion"' in answer.stdout
    (tmp_path / "example.py").write_text(python)
    told = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (told.returncode, told.stderr) == (0, "")
    assert len(told.stdout) > 10
    # Into Python's prompt too, where a block ends with an empty line.
    typed = subprocess.run([sys.executable, "-i"], input=python + "\n\n", capture_output=True, text=True, timeout=60)
    assert "Error" not in typed.stderr
    assert len(typed.stdout) > 10
    made = subprocess.run([sys.executable, "-c", admin], capture_output=True, text=True, timeout=60)
    assert (made.returncode, made.stderr) == (0, "")
    assert demo.chat(key=made.stdout.strip()).status == 200
    assert demo.base_url in demo.text
    status, state = demo.readyz()
    assert (status, state["status"], state["workers"]["ready"], state["away"]) == (200, "ready", 2, {})
    assert {p.role for p in demo.processes()} == {"supervisor", "worker", "control", "simulator", "valkey", "nursery"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_its_folder(start_demo: StartDemo, number: signal.Signals) -> None:
    """SIGHUP too: it is what the end of the terminal sends, and there are no settings to reload."""
    demo = start_demo("--workers", "1")
    assert len(demo.temporary) == 1
    assert demo.stop(number) == 0
    assert demo.temporary == []
    assert demo.processes() == []


def test_its_options(start_demo: StartDemo, tmp_path: Path) -> None:
    folder = tmp_path / "not there yet" / "data"
    demo = start_demo("--workers", "1", "--api-key", KEY, "--admin-key", ADMIN_KEY, "--data-dir", str(folder))
    assert len(demo.pids("worker")) == 1
    assert demo.chat(key=KEY).status == 200
    assert demo.ask("/v1/organization/projects", key=ADMIN_KEY).status == 200
    assert demo.ask("/v1/organization/projects", key=KEY).status == 401
    assert demo.chat(key=ADMIN_KEY).status == 401
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "gateway.log").stat().st_mode & 0o777 == 0o600


def test_a_kept_folder_is_used_again(start_demo: StartDemo, tmp_path: Path) -> None:
    """With what was in its Valkey, and with the same key or another one."""
    folder = tmp_path / "data"
    first = start_demo("--workers", "1", "--api-key", KEY, "--data-dir", str(folder))
    assert revoke(folder, "proj_demo/demo") == ""
    eventually_blocking(lambda: first.chat(key=KEY).status == 401)
    assert first.stop(signal.SIGINT) == 0
    again = start_demo("--workers", "1", "--api-key", KEY, "--data-dir", str(folder))
    assert again.chat(key=KEY).status == 401, "what was revoked stays revoked"
    assert again.stop(signal.SIGINT) == 0
    other = start_demo("--workers", "1", "--data-dir", str(folder))
    assert other.chat(key=other.key).status == 200


def revoke(folder: Path, key: str) -> str:
    command = [sys.executable, "-m", "gateway", "keys", "revoke", key, "--data-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.stderr


def test_a_port_that_is_taken(start_demo: StartDemo) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option in ("--port", "--operations-port"):
            demo = start_demo(option, str(port), wait=False)
            demo.errors_allowed = True
            assert demo.until_ended() == 1
            assert demo.err.read_text() == f"gateway: cannot listen on 127.0.0.1:{port}: Address already in use\n"
            assert demo.out.read_text() == ""
            assert demo.processes() == []
            assert demo.temporary == []


def test_a_second_demo_on_the_same_port_gets_no_share_of_the_first(start_demo: StartDemo) -> None:
    """Its workers' sockets share a port among them; another gateway must not join in."""
    first = start_demo("--workers", "2")
    second = start_demo("--port", str(first.port), wait=False)
    second.errors_allowed = True
    assert second.until_ended() == 1
    assert "Address already in use" in second.err.read_text()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--port", "70000"], "expected a port number, 0 to 65535, got '70000'"),
        (["--port", "http"], "expected a port number"),
        (["--workers", "0"], "expected a number from 1 to 1024, got '0'"),
        (["--api-key", "too-short"], "expected 20 characters or more"),
        (["--api-key", "a key with spaces in it, long"], "expected 20 characters or more"),
        (["--admin-key", "schlüssel-schlüssel-schlüssel"], "expected 20 characters or more"),
    ],
)
def test_mistakes_in_the_call(start_demo: StartDemo, options: list[str], complaint: str) -> None:
    demo = start_demo(*options, wait=False)
    demo.errors_allowed = True
    assert demo.until_ended() == 2
    assert complaint in demo.err.read_text()
    if options[0].endswith("-key"):
        assert options[1] not in demo.err.read_text()


def test_a_folder_that_cannot_be_made(start_demo: StartDemo, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    demo = start_demo("--data-dir", str(tmp_path / "file" / "data"), wait=False)
    demo.errors_allowed = True
    assert demo.until_ended() == 1
    assert demo.err.read_text().startswith("gateway: the data folder cannot be made: ")


def test_a_signal_while_it_starts(start_demo: StartDemo) -> None:
    demo = start_demo("--workers", "1", wait=False)
    eventually_blocking(lambda: demo.pids("control"), within_s=30)
    began = os.times().elapsed
    assert demo.stop(signal.SIGINT) == 0
    assert os.times().elapsed - began < 10
    assert demo.processes() == []
    assert demo.temporary == []
