"""The query log in a real Redis Cluster: failovers and moving slots; nothing is lost, nothing there twice."""
import contextlib
import os
import random
import threading
import time

import servers
from client import *  # noqa: F403 -- the protocol's names
from redis_cluster import Cluster, server_key
from test_redis import log_of, wait_stored

BASE = 12025550000
# Who asks here asks for longer than anybody's budget.
UNLIMITED = ("--principal-budget", "none", "--principal-rate", "0", "--network-budget", "none", "--network-rate", "0")
KILLS = int(os.environ.get("NUMBERD_CLUSTER_KILLS", 10))


class Asker:
    """Asks all the while from a thread of its own, for several requesters, so that there are several streams."""

    def __init__(self, server):
        self.server, self.asked, self.failure = server, 0, None
        self.longest = 0.0  # that an answer took
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            with Client(self.server.port) as client:
                while not self.end.is_set():
                    body = struct.pack("<Q16s", random.randrange(40), bytes(10) + b"\xff\xff\x0a\0\0\1") + struct.pack("<20Q", *[BASE] * 20)
                    begun = time.monotonic()
                    assert client.ask(frame(LOOKUP, body, 20, flags=1)).code == OK
                    self.longest = max(self.longest, time.monotonic() - begun)
                    self.asked += 20
                    time.sleep(0.002)
        except Exception as failure:  # said by whoever waits for it
            self.failure = failure

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *trace):
        self.end.set()
        self.thread.join()
        assert self.failure is None, self.failure


@contextlib.contextmanager
def asked_all_the_while(timeout_ms=10000):
    """A cluster, a server that logs to it and is asked, and the log's slot; at the end all is there that was asked, once."""
    with Cluster(timeout_ms=timeout_ms) as cluster, servers.temporary_folder() as folder, \
            servers.Numberd(folder / "data", "--redis", cluster.url, *UNLIMITED) as server:
        with Asker(server) as asker:
            servers.wait_until(lambda: asker.asked > 2000 and log_of(server)["stored"] > 1000, "some streams")
            yield cluster, server, asker, cluster.slot_of(server_key(cluster))
        check_all(cluster, server, folder / "data", asker.asked)


def goes_on(server, what):
    stored = log_of(server)["stored"]
    servers.wait_until(lambda: log_of(server)["stored"] > stored + 200, what)


def check_all(cluster, server, data, count):
    """Exactly so many, by Redis, by the server, and by a disclosure."""
    wait_stored(server, count)
    servers.wait_until(lambda: cluster.events() == count, f"{count} events in the cluster, there are {cluster.events()}", seconds=20)
    rows = servers.disclose(data, "--number", f"+{BASE}", "--redis", cluster.url).splitlines()[1:]
    assert len(rows) == count, (len(rows), count)
    assert "nothing is overdue, nor in Redis" in servers.ctl("check", data, "--query-log", "--redis", cluster.url)


def test_any_node():
    """Whichever node is named, the streams are where their slot is served; and a disclosure finds them from any node."""
    with Cluster() as cluster, servers.temporary_folder() as folder:
        asked = 0
        for i, node in enumerate(cluster.nodes):
            url = f"redis://127.0.0.1:{node.port}"
            with servers.Numberd(folder / "data", "--redis", url) as server, Client(server.port) as client:
                client.lookup([BASE] * 10)
                asked += 10
                servers.wait_until(lambda: log_of(server)["stored"] >= 10, "stored")
            assert len(servers.disclose(folder / "data", "--number", f"+{BASE}", "--redis", url).splitlines()) == asked + 1, i
        holders = [node for node in cluster.nodes if node.is_master() and "querylog:servers" in node.command("KEYS", "querylog:servers")]
        assert holders == [cluster.master_of(cluster.slot_of("querylog:servers"))]
        assert cluster.events() == asked


def test_masters_killed():
    """The master of the log's slot dies again and again under lookups: its replica takes over, and gets what it had not."""
    with asked_all_the_while(2000) as (cluster, server, asker, slot):
        for i in range(KILLS):
            time.sleep(random.random())
            killed = cluster.kill_master_of(slot)
            goes_on(server, "the log goes on")
            assert killed.start()
            cluster.wait_until_whole()
            if (i + 1) % 10 == 0:
                print(f"{i + 1} masters killed, {asker.asked} events, {log_of(server)}", flush=True)


def test_a_master_hangs():
    """It answers nobody, and nobody refuses its connections; its replica takes over, and when it goes on it has to forget."""
    with asked_all_the_while(2000) as (cluster, server, _, slot):
        hung = cluster.master_of(slot)
        with hung.hangs():
            servers.wait_until(lambda: cluster.master_of(slot) not in (None, hung), "a replica takes over", pause=0.1)
            goes_on(server, "the log goes on")
        cluster.wait_until_whole()


def test_slot_moves():
    """The log's slot moves from one master to another and back, key by key, under lookups; and so does that of the list."""
    with asked_all_the_while() as (cluster, server, _, slot):
        for moving in 2 * [slot, cluster.slot_of("querylog:servers")]:
            to = next(node for node in cluster.nodes if node.is_master() and node is not cluster.master_of(moving))
            source = cluster.begin_move(moving, to)
            goes_on(server, "the log goes on meanwhile")
            while cluster.move_keys(moving, source, to, 5) > 0:
                goes_on(server, "the log goes on meanwhile")
            cluster.end_move(moving, source, to)
            goes_on(server, "the log goes on behind it")
        assert "takes it again" not in server.read_log(), server.read_log()
        for error in ("ASK", "MOVED"):  # it was asked for, and done
            assert any(node.info("errorstats", f"errorstat_{error}") for node in cluster.nodes), error


def test_the_list_is_away():
    """The log goes on when no node serves the list of servers, which is in a slot of its own; and gets onto it when one does."""
    with Cluster(timeout_ms=2000) as cluster, servers.temporary_folder() as folder:
        listed = cluster.slot_of("querylog:servers")
        with servers.Numberd(folder / "data", "--redis", cluster.url) as server, Client(server.port) as client:
            client.lookup([BASE] * 10)
            wait_stored(server, 10)
            slot = cluster.slot_of(server_key(cluster))
            other = next(node for node in cluster.nodes if node.is_master() and node is not cluster.master_of(slot))
            if cluster.master_of(listed) is not other:
                source = cluster.begin_move(listed, other)
                cluster.move_keys(listed, source, other, 10)
                cluster.end_move(listed, source, other)
        down = [other, next(node for node in cluster.nodes if node.info("replication", "master_port") == str(other.port))]
        for node in reversed(down):
            node.kill()
        with servers.Numberd(folder / "data", "--redis", cluster.url) as server, Client(server.port) as client:
            client.lookup([BASE] * 10)
            servers.wait_until(lambda: log_of(server)["stored"] == 20, "the log goes on")
            assert "until the list of servers is written" in server.read_log()
            for node in down:
                assert node.start()
            server.wait_for("the list of servers in Redis is written again")
            assert len(servers.disclose(folder / "data", "--number", f"+{BASE}", "--redis", cluster.url).splitlines()) == 21


def test_no_node_serves():
    """Without a master and its replica the log waits in the spool, with a reason; and goes on when they are back."""
    with Cluster(timeout_ms=2000) as cluster, servers.temporary_folder() as folder, \
            servers.Numberd(folder / "data", "--redis", cluster.url) as server, Client(server.port) as client:
        client.lookup([BASE] * 10)
        wait_stored(server, 10)
        master = cluster.master_of(cluster.slot_of(server_key(cluster)))
        replica = next(node for node in cluster.nodes if node.info("replication", "master_port") == str(master.port))
        replica.kill()
        master.kill()
        client.lookup([BASE] * 10)
        server.wait_for("the query log goes to the spool until Redis takes it again")
        assert log_of(server)["stored"] == 10
        for node in (master, replica):
            assert node.start()
        servers.wait_until(lambda: log_of(server)["stored"] == 20, "the log goes on")
        servers.wait_until(lambda: cluster.events() == 20, "what they had forgotten is there again")


if __name__ == "__main__":
    servers.run_tests(globals())
