"""Whole gateways as real processes: started with settings made for a test, looked at through /proc, ended by pid.

The fixtures that start them are in gateway_fixtures.py.
"""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from email.message import Message
from pathlib import Path
from typing import Any, Self

import msgspec
import prometheus_client.parser
import yaml

from gateway.redisdb.embedded import dying_with_parent
from tests.fakes.redis_servers import eventually, eventually_blocking

KEY = "sk-gw-test-KEYAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1"
OTHER_KEY = "sk-gw-test-KEYBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB2"
ADMIN_KEY = "sk-gw-admin-KEYCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC3"
UPSTREAM_KEY = "sk-upstream-KEYDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD4"
SECRETS = (KEY, OTHER_KEY, ADMIN_KEY, UPSTREAM_KEY)
AUTH: Mapping[str, str] = {"Authorization": f"Bearer {KEY}"}
START_S = 30.0
END_S = 20.0
Settings = dict[str, Any]


class Process(msgspec.Struct, frozen=True):
    """One process of a gateway. role: supervisor, worker, control, simulator, valkey, or `not ready`: a worker that is
    starting or standing by. slot: a worker's.
    """

    pid: int
    role: str
    slot: str = ""


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer, whatever its status."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Gateway:
    """One gateway. `process` is its supervisor; settings: what its file says, to be changed with `rewrite`."""

    def __init__(self, folder: Path, arguments: Sequence[str], *, settings: Settings, log: Path | None = None) -> None:
        self.folder = folder
        self.arguments = list(arguments)
        self.settings = settings
        self.file = folder / "gateway.yaml"
        self.out = folder / "out"
        self.err = folder / "err"
        self.log = log or self.out
        self.process: subprocess.Popen[bytes] | None = None
        self.secrets: set[str] = set(SECRETS)
        self.homes = [folder]  # its processes work in one of these
        self.errors_allowed = False  # whether it may write plain text to standard error: people's messages

    # Starting and ending

    def start(self, **environment: str) -> None:
        """Starts the process and returns at once. It works in its folder, by which its children are found too."""
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "gateway", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self.folder,
                env={**os.environ, **environment},
                preexec_fn=dying_with_parent(),  # noqa: PLW1509 - it does next to nothing
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def data_dir(self) -> Path:
        return Path(self.settings["data_dir"])

    def until_serving(self, within_s: float = START_S) -> Self:
        """Waits until everything runs."""

        def serves() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"it has ended: {self.said()}"
            return bool(self.events("serving", since=self.pid))

        eventually_blocking(serves, within_s=within_s)
        return self

    def until_ended(self, within_s: float = END_S) -> int:
        """Waits until the supervisor has ended; its exit status."""
        assert self.process is not None
        return self.process.wait(within_s)

    def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = END_S) -> int:
        """Sends a signal to the supervisor and waits until it has ended; its exit status."""
        self.signal(number)
        return self.until_ended(within_s)

    def signal(self, number: signal.Signals, pid: int | None = None) -> None:
        os.kill(pid or self.pid, number)

    def close(self) -> None:
        """Ends what still runs, and looks at what was written. Fails if a process outlived its supervisor."""
        if self.process is not None and self.process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self.stop()
        left = self.processes()
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(END_S)
        assert not left, f"still there: {left}\n{self.said()}"
        self.check_output()

    # Its processes

    def processes(self) -> list[Process]:
        """All that run now: the supervisor's, and whatever else works in the gateway's folder."""
        return [process for pid in _all_pids() if (process := self._look(pid)) is not None]

    def pids(self, role: str, slot: str | None = None) -> list[int]:
        return [p.pid for p in self.processes() if p.role == role and slot in {None, p.slot}]

    def one(self, role: str, slot: str | None = None) -> int:
        """The pid of the process of a role. There must be one."""
        (pid,) = self.pids(role, slot)
        return pid

    def kill(self, role: str, slot: str | None = None) -> int:
        """kill -9 of the one process of a role; its pid."""
        pid = self.one(role, slot)
        self.signal(signal.SIGKILL, pid)
        return pid

    def _look(self, pid: int) -> Process | None:
        try:
            works_in = Path(f"/proc/{pid}/cwd").readlink()
            if pid != self.pid and not any(map(works_in.is_relative_to, self.homes)):
                return None
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return None
        if not runs(pid):
            return None
        if pid == self.pid:
            return Process(pid, "supervisor")
        if b"_child" in words:
            role = words[words.index(b"_child") + 1].decode()
            if role != "nursery" or not _comm(pid).startswith("worker "):
                return Process(pid, role)
            # A worker that was forked has its nursery's command line.
            ready = self.events("process_ready", child=pid)
            return Process(pid, "worker", ready[-1]["label"]) if ready else Process(pid, "not ready")
        program = Path(words[0].decode().split()[0]).name if words[0] else ""
        if not program or program.startswith("python"):
            return Process(pid, "not ready")  # it is just being started, and still looks like who starts it
        return Process(pid, "valkey" if program.endswith("-server") else program)

    # What it says

    def lines(self) -> list[dict[str, Any]]:
        """The log lines so far. Fails on a line that is not JSON."""
        if not self.log.exists():
            return []
        whole, _, _ = self.log.read_bytes().rpartition(b"\n")
        return [_parsed(line) for line in whole.split(b"\n") if line]

    def events(self, name: str, *, since: int = 0, **fields: Any) -> list[dict[str, Any]]:
        """The lines of an event with these fields. since: only those after the last start, whose pid this is."""
        found = [line for line in self.lines() if line["event"] == name]
        if since:
            found = [line for line in found if line.get("pid") == since]
        return [line for line in found if all(line.get(field) == value for field, value in fields.items())]

    def said(self) -> str:
        """All that it wrote, for a test that fails."""
        texts = [path.read_text(errors="replace")[-8000:] for path in (self.err, self.log) if path.exists()]
        return "\n".join(texts)

    def check_output(self) -> None:
        lines = self.lines()
        for line in lines:
            assert {"ts", "event", "process"} <= line.keys(), line
        assert self.errors_allowed or self.err.read_text() == ""
        written = "\n".join(map(json.dumps, lines)) + self.err.read_text(errors="replace")
        for secret in self.secrets:
            assert secret not in written, f"a secret in the output: {secret}"

    # Where it is

    @property
    def addresses(self) -> dict[str, str]:
        serving = self.events("serving", since=self.pid)[-1]
        return {name: serving[name] for name in ("proxy", "admin", "operations") if name in serving}

    @property
    def url(self) -> str:
        """Where clients call, without /v1."""
        return f"http://{self.addresses['proxy']}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def port(self) -> int:
        return int(self.addresses["proxy"].rpartition(":")[2])

    def ask(
        self, path: str, body: Any = None, *, at: str = "proxy", key: str | None = KEY, timeout_s: float = 10.0
    ) -> Answer:
        """One request, blocking: GET, or POST of a JSON body. at: proxy, admin or operations."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://{self.addresses[at]}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def chat(self, *, key: str = KEY, model: str = "gpt-4o-mini", **more: Any) -> Answer:
        return self.ask("/v1/chat/completions", {"model": model, "messages": HELLO, **more}, key=key)

    def readyz(self) -> tuple[int, Any]:
        answer = self.ask("/readyz", at="operations", key=None)
        return answer.status, answer.json()

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of /metrics by its name and labels. Fails if it is not Prometheus' text."""
        text = self.ask("/metrics", at="operations", key=None).body.decode()
        samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in prometheus_client.parser.text_string_to_metric_families(text):
            for sample in family.samples:
                where = (sample.name, frozenset(sample.labels.items()))
                assert where not in samples, sample
                samples[where] = sample.value
        return samples

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        wanted = set(labels.items())
        return sum(value for (found, of), value in self.metrics().items() if found == name and wanted <= of)

    # Its settings

    def rewrite(self, **changes: Any) -> None:
        """Writes the settings file anew, with changes that are merged into what it says: None takes something out."""
        merge(self.settings, changes)
        self.file.write_text(yaml.safe_dump(self.settings))

    async def reload(self, *, within_s: float = START_S) -> dict[str, Any]:
        """SIGHUP; returns the line that says what has come of it."""
        names = {"settings_reloaded", "reload_failed_old_settings_stay"}
        before = sum(line["event"] in names for line in self.lines())
        self.signal(signal.SIGHUP)

        def outcome() -> dict[str, Any] | None:
            found = [line for line in self.lines() if line["event"] in names]
            return found[-1] if len(found) > before else None

        line = await eventually(outcome, within_s=within_s)
        assert line is not None
        return line


HELLO: Sequence[Mapping[str, str]] = ({"role": "user", "content": "Hello!"},)


def merge(into: Settings, changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = json.loads(json.dumps(value))


def settings_for(upstream: str, data_dir: Path, changes: Mapping[str, Any]) -> Settings:
    """Settings of two workers on free ports. upstream: its URL without /v1."""
    settings: Settings = {
        "listeners": {"proxy": {"port": 0}, "operations": {"port": 0}},
        "workers": {"count": 2},
        "data_dir": str(data_dir),
        "upstreams": {"simulator": {"base_url": f"{upstream}/v1", "api_key": UPSTREAM_KEY}},
        "projects": [{"id": "proj_a", "keys": [{"name": "one", "secret": KEY}, {"name": "two", "secret": OTHER_KEY}]}],
        "admin_keys": [ADMIN_KEY],
        "timeouts": {"drain_s": 5, "drain_idle_s": 1},
    }
    merge(settings, changes)
    return settings


def gateway_command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command of the gateway to its end."""
    command = [sys.executable, "-P", "-m", "gateway", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def runs(pid: int) -> bool:
    """Whether a process runs. One that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def _comm(pid: int) -> str:
    """A process's short name; empty if it has gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def _all_pids() -> Iterator[int]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are all that is wanted
        if name.isdecimal():
            yield int(name)


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = json.loads(line)
    except ValueError:
        raise AssertionError(f"a line that is not JSON: {line!r}") from None
    return parsed


class Demo(Gateway):
    """A `gateway demo`: what it logs goes to a file, what it says to people to standard output."""

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        super().__init__(folder, arguments, settings={})
        self._kept = Path(arguments[arguments.index("--data-dir") + 1]) if "--data-dir" in arguments else None
        self.log = self._kept / "gateway.log" if self._kept else folder / "log"
        self.homes += [self._kept] if self._kept else []

    def until_serving(self, within_s: float = START_S) -> Self:
        def told() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"it has ended: {self.said()}"
            return "Ctrl-C ends it." in self.text

        eventually_blocking(told, within_s=within_s)
        self.secrets |= set(re.findall(r"sk-[\w-]{20,}", self.text))
        if self._kept is None:
            # The folder goes with the demo; its log is to be read afterwards.
            os.link(re.findall(r"data, log +(\S+)", self.text)[0], self.log)
        return super().until_serving(within_s)

    @property
    def text(self) -> str:
        """What it has said to people."""
        return self.out.read_text()

    @property
    def key(self) -> str:
        return str(re.findall(r"API key +(\S+)", self.text)[0])

    @property
    def temporary(self) -> list[Path]:
        """What is in the folder for temporary files."""
        return list((self.folder / "tmp").iterdir())
