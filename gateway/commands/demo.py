"""`gateway demo`: the whole gateway on embedded defaults, with a simulated OpenAI behind it."""

import argparse
import json
import os
import secrets
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from gateway.clock import SystemClock
from gateway.commands.console import complain
from gateway.commands.serve import supervise
from gateway.commands.uncaught import log_everything
from gateway.credentials import new_key
from gateway.settings.model import Listener, Settings
from gateway.settings.transfer import convert
from gateway.supervisor.listeners import ListenError, address_of, open_listeners
from gateway.supervisor.main import Companion, Plan, Supervisor
from gateway.telemetry.logging import make_logger

# What is to be copied stands at the beginning of its line: Python does not take it otherwise.
_TEXT = """
The gateway is running: {processes}.

  base URL    {url}
  API key     {api_key}
  admin key   {admin_key}
  operations  http://{operations}/readyz  http://{operations}/metrics
  data, log   {folder}

Try it with curl:

{curl}

or with OpenAI's Python package (pip install openai):

{python}

and manage it with the same package:

{admin}

Ctrl-C ends it.
"""
_PYTHON = """\
from openai import OpenAI

client = OpenAI(base_url={url}, api_key={api_key})
stream = client.chat.completions.create(
    model="gpt-4o-mini", messages=[{{"role": "user", "content": "Hello!"}}], stream=True
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
"""
_ADMIN = """\
from openai import OpenAI

admin = OpenAI(base_url={url}, admin_api_key={admin_key}).admin.organization
project = admin.projects.create(name="Chat")
print(admin.projects.service_accounts.create(project.id, name="web").api_key.value)
"""
_BODY = '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}'


class Keys(msgspec.Struct, frozen=True):
    """The keys of a demo: of its clients, of its admin API, and its own at the simulator."""

    api: str
    admin: str
    upstream: str


def demo(options: argparse.Namespace) -> int:
    """Runs the demo until a signal ends it."""
    temporary = options.data_dir is None
    try:
        folder = Path(tempfile.mkdtemp(prefix="gateway-demo-")) if temporary else options.data_dir.resolve()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        return complain(f"the data folder cannot be made: {error}")
    try:
        return _run(options, folder)
    except (ListenError, OSError) as error:
        return complain(str(error))
    finally:
        if temporary:
            shutil.rmtree(folder, ignore_errors=True)


def _run(options: argparse.Namespace, folder: Path) -> int:
    keys = Keys(
        api=options.api_key or new_key(),
        admin=options.admin_key or f"sk-gw-admin-{secrets.token_urlsafe(32)}",
        upstream=f"sk-upstream-{secrets.token_urlsafe(16)}",
    )
    sockets = open_listeners(Listener(host="127.0.0.1", port=0), 1)
    settings = _settings(options, folder, address_of(sockets[0]), keys)
    people = os.dup(1)
    log_file = os.open(folder / "gateway.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log_file, 1)  # the processes' log lines go to the file, so that people can read what is said to them
    os.close(log_file)

    def started(supervisor: Supervisor) -> None:
        text = _said(supervisor.addresses, keys, options.workers, folder)
        os.write(people, text.encode())

    simulator = folder / "simulator"  # what it stores goes with it, also if it did not come to an end in order
    shutil.rmtree(simulator, ignore_errors=True)
    simulator.mkdir(mode=0o700)
    companion = Companion("simulator", sockets, {"key": keys.upstream}, {"TMPDIR": str(simulator)})
    plan = Plan(companions=(companion,))
    log = make_logger("supervisor", settings.logs.level, SystemClock())
    log_everything()
    try:
        return supervise(settings, plan, log, None, started)
    finally:
        sys.stdout.flush()
        os.dup2(people, 1)


def _said(addresses: dict[str, str], keys: Keys, workers: int, folder: Path) -> str:
    url = f"http://{addresses['proxy']}/v1"
    authorization = shlex.quote(f"Authorization: Bearer {keys.api}")
    many = "1 worker" if workers == 1 else f"{workers} workers"
    return _TEXT.format(
        processes=f"{many}, a control process, a Valkey of its own, and a simulated OpenAI as upstream",
        url=url,
        api_key=keys.api,
        admin_key=keys.admin,
        operations=addresses["operations"],
        folder=folder / "gateway.log",
        curl=f"curl {url}/chat/completions -H {authorization} -H 'Content-Type: application/json' \\\n  -d '{_BODY}'",
        python=_PYTHON.format(url=json.dumps(url), api_key=json.dumps(keys.api)).rstrip(),
        admin=_ADMIN.format(url=json.dumps(url), admin_key=json.dumps(keys.admin)).rstrip(),
    )


def _settings(options: argparse.Namespace, folder: Path, upstream: str, keys: Keys) -> Settings:
    plain: dict[str, Any] = {
        "listeners": {"proxy": {"port": options.port}, "operations": {"port": options.operations_port}},
        "workers": {"count": options.workers},
        "data_dir": str(folder),
        "upstreams": {"simulator": {"base_url": f"http://{upstream}/v1", "api_key": keys.upstream}},
        "projects": [{"id": "proj_demo", "name": "Demo", "keys": [{"name": "demo", "secret": keys.api}]}],
        "admin_keys": [keys.admin],
    }
    return convert(plain)
