"""A primary, a replica and three sentinels, as local processes, with passwords."""

from pathlib import Path
from typing import Any

from gateway.settings.model import Redis, Sentinel
from gateway.values import Secret
from tests.fakes.ports import free_port
from tests.fakes.redis_servers import Server, StartServer, eventually_blocking

SERVICE = "gate"
PASSWORD, SENTINEL_PASSWORD = "for-servers", "for-sentinels"


class Watched:
    """`servers` are the primary and its replica; `sentinels` agree by two on who is dead."""

    def __init__(self, binary: Path, start_server: StartServer) -> None:
        auth = ["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"]
        self.servers = [start_server(binary, *auth, port=free_port(), start=False) for _ in range(2)]
        self.servers[1].options += ["--replicaof", f"127.0.0.1 {self.servers[0].port}"]
        for server in self.servers:
            server.password = PASSWORD
            server.start()
        # Before the sentinels look, for they look again only after ten seconds.
        eventually_blocking(lambda: self.servers[1].info("replication")["master_link_status"] == "up")
        self.sentinels = [self.sentinel(binary, start_server) for _ in range(3)]
        eventually_blocking(lambda: all(self.knows_all(sentinel) for sentinel in self.sentinels))

    def sentinel(self, binary: Path, start_server: StartServer) -> Server:
        sentinel = start_server(binary, "--sentinel", port=free_port(), start=False)
        sentinel.password = SENTINEL_PASSWORD
        sentinel.config = f"""
            requirepass {SENTINEL_PASSWORD}
            sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} 2
            sentinel auth-pass {SERVICE} {PASSWORD}
            sentinel down-after-milliseconds {SERVICE} 300
            sentinel failover-timeout {SERVICE} 3000
        """
        sentinel.start()
        return sentinel

    def state(self, sentinel: Server) -> dict[bytes, bytes]:
        words = sentinel.command("SENTINEL", "MASTER", SERVICE)
        return dict(zip(words[::2], words[1::2], strict=True))

    def knows_all(self, sentinel: Server) -> bool:
        state = self.state(sentinel)
        return (state[b"num-slaves"], state[b"num-other-sentinels"]) == (b"1", b"2")

    def settings(self, **more: Any) -> Redis:
        """The first sentinel of the list does not exist."""
        ports = [free_port(), *(sentinel.port for sentinel in self.sentinels)]
        nodes = [f"127.0.0.1:{port}" for port in ports]
        sentinel = Sentinel(nodes=nodes, service=SERVICE, password=Secret(SENTINEL_PASSWORD))
        return Redis(sentinel=sentinel, password=Secret(PASSWORD), **more)
