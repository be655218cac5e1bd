"""OpenAI's official Node package runs a compat suite of its own through the gateway: `node/*.test.mjs`.

Each file is one test here; what its tests say is read from the report that Node writes. The package is installed from
`package-lock.json` into `node/node_modules`, once for each content of that file.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway.operations.table import load_operations
from tests.compat.stand import ADMIN_KEY, Gate
from tests.fakes.tls_front import OPENSSL, Certificate, self_signed, tls_front

pytestmark = pytest.mark.node
HERE = Path(__file__).parent / "node"
FILES = sorted(path.name for path in HERE.glob("*.test.mjs"))
OLDEST_NODE = 20
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "ERR_SOCKET_TIMEOUT")


@pytest.fixture(scope="module")
def node() -> str:
    """Node.js, with the suite's packages installed."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        pytest.skip("needs node and npm on PATH")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"needs Node.js {OLDEST_NODE} or newer, found {version.strip()}")
    install(npm)
    return program


def install(npm: str) -> None:
    """`npm ci`, unless what is installed is what the lock file says."""
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    installed = HERE / "node_modules" / ".installed"
    with (HERE / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once would delete each other's packages
        if installed.exists() and installed.read_text() == wanted:
            return
        quietly = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        command = [npm, "ci", *quietly, "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=110)
        if done.returncode != 0 and any(word in done.stderr for word in UNREACHABLE):
            pytest.skip(f"the npm registry cannot be reached: {done.stderr.strip().splitlines()[0]}")
        assert done.returncode == 0, done.stderr
        installed.write_text(wanted)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate | None:
    return self_signed(tmp_path_factory.mktemp("tls")) if OPENSSL is not None else None


@pytest.fixture
async def environment(
    gate: Gate, strict: Gate, certificate: Certificate | None, tmp_path: Path
) -> AsyncIterator[dict[str, str]]:
    """What the suite is told: where the gateway is, with which keys, and the operation table."""
    table = tmp_path / "operations.json"
    rows = [{"id": row.id, "method": row.method, "path": row.path, "plane": row.plane} for row in load_operations()]
    table.write_bytes(msgspec.json.encode(rows))
    told = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "GATEWAY_URL": gate.base_url,
        "GATEWAY_STRICT_URL": strict.base_url,
        "GATEWAY_KEY": gate.keys["node"],
        "GATEWAY_ADMIN_KEY": ADMIN_KEY,
        "GATEWAY_OPERATIONS": str(table),
    }
    if certificate is None:
        yield told
        return
    async with tls_front(certificate, gate.url) as url:
        yield told | {"GATEWAY_TLS_URL": f"{url}/v1", "NODE_EXTRA_CA_CERTS": str(certificate.cert)}


@pytest.mark.parametrize("file", FILES)
async def test_the_suite(node: str, environment: dict[str, str], file: str, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    process = await asyncio.create_subprocess_exec(
        node, "--no-warnings", "--test-reporter=junit", f"--test-reporter-destination={report}",
        "--test-reporter=tap", "--test-reporter-destination=stdout", file,
        cwd=HERE, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    told = out.decode() + err.decode()
    assert report.exists(), told
    passed, skipped, failed = results(report.read_text(), told)
    assert not failed, "\n\n".join(f"{file}: {name}\n{why}" for name, why in failed.items()) + err.decode()
    assert process.returncode == 0, told
    assert passed or skipped, f"no tests in {file}"
    if skipped:
        pytest.skip(f"{len(passed)} passed, {len(skipped)} skipped: {', '.join(skipped)}")


def results(report: str, told: str) -> tuple[list[str], list[str], dict[str, str]]:
    """What a JUnit report says: the tests that passed, those that were skipped, and those that failed with why.

    It lacks its end where something was still open at the end of the tests. told: as much as is known then.
    """
    assert report.rstrip().endswith("</testsuites>"), told
    passed: list[str] = []
    skipped: list[str] = []
    failed: dict[str, str] = {}
    for case in ET.fromstring(report).iter("testcase"):
        name = case.get("name", "?")
        if (failure := case.find("failure")) is not None:
            failed[name] = "\n".join(filter(None, (failure.get("message"), failure.text)))
        else:
            (passed if case.find("skipped") is None else skipped).append(name)
    return passed, skipped, failed
