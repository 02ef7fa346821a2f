"""A real Redis Cluster on loopback: masters with a replica each, from Debian's package, put together by hand so that nothing is left to
chance but ports. Nodes keep nothing on disk but who they are: what a killed master had, only its replica has."""
import contextlib
import signal
import subprocess
import tempfile

import servers
from redis_events import events_in

SLOTS = 16384


class Node:
    def __init__(self, folder, timeout_ms, host):
        self.folder, self.timeout_ms, self.host, self.is_hung = folder, timeout_ms, host, False

    def start(self):
        """False when it ended at once."""
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", *{"127.0.0.1", self.host}, "--save", "", "--appendonly", "no", "--dir", self.folder,
             "--cluster-enabled", "yes", "--cluster-port", str(self.bus_port), "--cluster-node-timeout", str(self.timeout_ms),
             "--cluster-announce-ip", self.host, "--protected-mode", "no", "--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        servers.wait_until(lambda: self.process.poll() is not None or servers.can_connect(self.port), "redis-server is ready")
        return self.process.poll() is None

    def start_anywhere(self):
        for _ in range(5):  # between choosing a port and listening on it another program may take it
            self.port, self.bus_port = servers.free_port(), servers.free_port()
            if self.start():
                self.id = self.command("CLUSTER", "MYID")[0]
                return
        raise AssertionError("redis-server does not start")

    def kill(self):
        self.process.kill()
        self.process.wait(servers.PATIENCE)

    @contextlib.contextmanager
    def hangs(self):
        self.process.send_signal(signal.SIGSTOP)
        self.is_hung = True
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)
            self.is_hung = False

    def is_up(self):
        return self.process.poll() is None and not self.is_hung

    def command(self, *arguments):
        result = subprocess.run(["redis-cli", "-p", str(self.port), *map(str, arguments)], capture_output=True, text=True, check=True,
                                timeout=60)
        return result.stdout.splitlines()

    def info(self, section, field):
        return next((line.split(":", 1)[1] for line in self.command("INFO", section) if line.startswith(field + ":")), None)

    def is_master(self):
        return self.info("replication", "role") == "master"


class Cluster:
    """`timeout_ms`: after which a node that does not answer has its place taken; a busy machine may be slower than that where it is
    short. `host`: an address of this machine."""

    def __init__(self, masters=3, timeout_ms=10000, host="127.0.0.1"):
        self.masters, self.timeout_ms, self.host = masters, timeout_ms, host

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.nodes = []
        for _ in range(2 * self.masters):
            node = Node(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="numberd-redis-")), self.timeout_ms, self.host)
            node.start_anywhere()
            self.stack.callback(node.kill)
            self.nodes.append(node)
        try:
            self.join()
        except BaseException:
            self.stack.close()
            raise
        return self

    def join(self):
        masters, replicas = self.nodes[:self.masters], self.nodes[self.masters:]
        for i, node in enumerate(masters):
            node.command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            node.command("CLUSTER", "ADDSLOTSRANGE", SLOTS * i // self.masters, SLOTS * (i + 1) // self.masters - 1)
        for node in self.nodes[1:]:
            node.command("CLUSTER", "MEET", self.host, self.nodes[0].port, self.nodes[0].bus_port)
        servers.wait_until(lambda: all(len(node.command("CLUSTER", "NODES")) == len(self.nodes) for node in self.nodes), "they know each other")
        for master, replica in zip(masters, replicas):
            servers.wait_until(lambda: replica.command("CLUSTER", "REPLICATE", master.id)[0] == "OK", "a replica is one")
        self.wait_until_whole()

    def wait_until_whole(self):
        """All slots are served, and each master has a replica that follows it."""
        servers.wait_until(lambda: all(node.is_up() and "cluster_state:ok" in node.command("CLUSTER", "INFO") for node in self.nodes),
                           "the cluster serves all slots", pause=0.1)
        servers.wait_until(lambda: all(node.is_master() or node.info("replication", "master_link_status") == "up" for node in self.nodes),
                           "replicas follow", pause=0.1)

    @property
    def url(self):
        return "redis://" + ",".join(f"{self.host}:{node.port}" for node in self.nodes)

    def slot_of(self, key):
        return int(self.alive()[0].command("CLUSTER", "KEYSLOT", key)[0])

    def alive(self):
        return [node for node in self.nodes if node.is_up()]

    def master_of(self, slot):
        """As those see it that are alive; None: nobody serves it now."""
        for node in self.alive():
            for line in node.command("CLUSTER", "NODES"):
                identity, _, flags, *rest = line.split()
                ranges = [part.split("-") for part in rest[5:] if not part.startswith("[")]
                if "master" in flags and "fail" not in flags and any(int(r[0]) <= slot <= int(r[-1]) for r in ranges):
                    found = next(node for node in self.nodes if node.id == identity)
                    return found if found.is_up() else None
        return None

    def kill_master_of(self, slot):
        """Waits until its replica has taken over, and gives the killed one, which can be started again."""
        node = self.master_of(slot)
        node.kill()
        servers.wait_until(lambda: self.master_of(slot) not in (None, node), "a replica takes over", pause=0.1)
        return node

    def begin_move(self, slot, to):
        """The slot moves, with none of its keys yet."""
        source = self.master_of(slot)
        to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        return source

    def move_keys(self, slot, source, to, most):
        """How many went."""
        keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, most)
        keys = [key for key in keys if key]
        for key in keys:
            assert source.command("MIGRATE", "127.0.0.1", to.port, key, 0, 5000)[0] == "OK", key
        return len(keys)

    def end_move(self, slot, source, to):
        for node in (to, source, *(node for node in self.alive() if node.is_master() and node not in (to, source))):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", to.id)

    def events(self):
        return sum(events_in(node) for node in self.alive() if node.is_master())

    def __exit__(self, *trace):
        self.stack.close()


def server_key(cluster):
    """One of the streams, which all are of one server."""
    for node in cluster.alive():
        for key in filter(None, node.command("KEYS", "querylog:{*")):
            return key
    raise AssertionError("there are no streams")
