"""A Redis Cluster of local processes."""

from pathlib import Path

from tests.fakes.ports import free_port
from tests.fakes.redis_servers import Server, StartServer, cluster_options, eventually_blocking

SLOTS = 16_384


class Cluster:
    """`primaries` share the slots evenly, in order; `replica` follows the first."""

    def __init__(self, binary: Path, start_server: StartServer, *, replica: bool = False) -> None:
        count = 4 if replica else 3
        self.nodes = [start_server(binary, *cluster_options(), port=free_port()) for _ in range(count)]
        self.primaries = self.nodes[:3]
        for number, node in enumerate(self.primaries):
            first, beyond = SLOTS * number // 3, SLOTS * (number + 1) // 3
            node.command("CLUSTER", "ADDSLOTSRANGE", first, beyond - 1)
        first_node = self.nodes[0]
        for node in self.nodes[1:]:
            bus = node.options[node.options.index("--cluster-port") + 1]
            first_node.command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        eventually_blocking(lambda: all(self.knows_all(node) for node in self.nodes))
        if replica:
            self.nodes[3].command("CLUSTER", "REPLICATE", self.id_of(first_node))
            eventually_blocking(lambda: self.nodes[3].info("replication").get("master_link_status") == "up")

    def knows_all(self, node: Server) -> bool:
        lines = node.command("CLUSTER", "INFO").decode().split()
        wanted = {"cluster_state:ok", f"cluster_known_nodes:{len(self.nodes)}", f"cluster_slots_ok:{SLOTS}"}
        return wanted <= set(lines)

    def id_of(self, node: Server) -> str:
        name: str = node.command("CLUSTER", "MYID").decode()
        return name

    def owner(self, slot: int) -> Server:
        return self.primaries[next(n for n in range(3) if slot < SLOTS * (n + 1) // 3)]

    def begin_move(self, slot: int, there: Server) -> None:
        """From now on the owner says ASK for keys of the slot that it does not have."""
        here = self.owner(slot)
        there.command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(here))
        here.command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(there))

    def end_move(self, slot: int, there: Server) -> None:
        """Moves the keys; from now on the owner says MOVED."""
        here = self.owner(slot)
        while keys := here.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            here.command("MIGRATE", "127.0.0.1", there.port, "", 0, 5000, "KEYS", *keys)
        for node in (there, here, *self.nodes):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(there))
