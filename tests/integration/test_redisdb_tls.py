"""TLS, to a server that wants a certificate of ours too. Valkey's wheel has no TLS: the system's redis-server is used."""

import shutil
import subprocess
from pathlib import Path

import pytest
import structlog

from gateway.clock import SystemClock
from gateway.redisdb.client import Client, connect
from gateway.redisdb.failures import HotUnavailable, RedisLost
from gateway.redisdb.hot import HotRedis
from gateway.settings.model import Redis, Tls
from gateway.values import Secret
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import SYSTEM_REDIS, Server, StartServer, eventually_blocking

pytestmark = pytest.mark.skipif(
    SYSTEM_REDIS is None or shutil.which("openssl") is None, reason="needs redis-server and openssl on PATH"
)


def certificates(folder: Path) -> Tls:
    """An authority of our own, and one certificate of it for both sides."""

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca")
    openssl("req", *key, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=own")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed_by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl("x509", "-req", "-in", "own.csr", "-out", "own.pem", "-days", "2", *signed_by)
    return Tls(str(folder / "ca.pem"), str(folder / "own.pem"), str(folder / "own.key"))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure_server(tls: Tls, start_module_server: StartServer) -> tuple[Server, int]:
    port = free_port()
    files = ["--tls-ca-cert-file", f"{tls.ca_file}", "--tls-cert-file", f"{tls.cert_file}"]
    more = ["--tls-key-file", f"{tls.key_file}", "--tls-port", f"{port}"]
    cluster = ["--cluster-enabled", "yes", "--cluster-port", f"{free_port()}", "--tls-cluster", "yes"]
    server = start_module_server(Path(SYSTEM_REDIS or ""), *files, *more, *cluster)
    server.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    eventually_blocking(lambda: b"cluster_state:ok" in server.command("CLUSTER", "INFO"))
    return server, port


async def use(settings: Redis) -> object:
    client: Client = connect(settings)
    hot = HotRedis(client, settings, clock=SystemClock(), log=structlog.get_logger())
    await hot.start()
    try:
        await client.execute("SET", "k", "v")
        return await hot.call("k", "GET", "k")
    finally:
        await hot.aclose()
        await client.aclose()


@pytest.mark.parametrize("cluster", [False, True])
async def test_both_sides_show_certificates(secure_server: tuple[Server, int], tls: Tls, cluster: bool) -> None:
    url = Secret(f"rediss://127.0.0.1:{secure_server[1]}")
    assert await use(Redis(url=url, tls=tls, cluster=cluster, deadline_ms=5000)) == b"v"


@pytest.mark.parametrize("cluster", [False, True])
async def test_an_unknown_authority_is_refused(secure_server: tuple[Server, int], tls: Tls, cluster: bool) -> None:
    url = Secret(f"rediss://127.0.0.1:{secure_server[1]}")
    settings = Redis(url=url, tls=Tls(None, tls.cert_file, tls.key_file), cluster=cluster)
    with pytest.raises(RedisLost):
        await use(settings)
    client = connect(settings)
    hot = HotRedis(client, settings, clock=SystemClock(), log=structlog.get_logger())
    await hot.start()
    with pytest.raises(HotUnavailable):
        await hot.call("k", "PING")
    await hot.aclose()
    await client.aclose()


async def test_without_verification_any_will_do(secure_server: tuple[Server, int], tls: Tls) -> None:
    url = Secret(f"rediss://localhost:{secure_server[1]}")  # a name that is not in the certificate
    careless = Tls(None, tls.cert_file, tls.key_file, verify=False)
    assert await use(Redis(url=url, tls=careless, deadline_ms=5000)) == b"v"
