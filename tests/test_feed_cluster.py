"""Registrations from a feed in a real Redis Cluster, several servers, and the query log beside it: masters that are killed or hang, slots
that move, all under changes and lookups."""
import argparse
import contextlib
import os
import random
import time

import servers
from client import *  # noqa: F403 -- the protocol's names
from redis_cluster import Cluster
from test_cluster import UNLIMITED, Asker, check_all
from test_feed import Changer, feed_of, wait_same

BASE = 12025560000
KILLS = int(os.environ.get("NUMBERD_CLUSTER_KILLS", 10))


class Crowd:
    """Servers on one cluster, each changed and asked all the while; at the end all is there that was acknowledged, on each of them."""

    def __init__(self, count=2, timeout_ms=2000, logs=1):
        self.count, self.timeout_ms, self.logs = count, timeout_ms, logs

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        try:
            self.cluster = self.stack.enter_context(Cluster(timeout_ms=self.timeout_ms))
            self.folder = self.stack.enter_context(servers.temporary_folder())
            log = ("--redis", self.cluster.url)
            self.nodes = []
            for i in range(self.count):
                flags = ["--registrations", self.cluster.url, "--min-replicas", "1", *UNLIMITED, *(log if i < self.logs else ())]
                self.nodes.append(self.stack.enter_context(servers.Numberd(self.folder / f"node{i}", *flags)))
            self.asker = self.stack.enter_context(Asker(self.nodes[0]))
            self.changers = [Changer(node, BASE + 100000 * i, 2000) for i, node in enumerate(self.nodes)]
            self.changers += [Changer(node, BASE + 900000, 100) for node in self.nodes]
            for changer in self.changers:
                changer.start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def acknowledged(self):
        return sum(changer.acknowledged for changer in self.changers)

    def goes_on(self):
        """Each server acknowledges something anew."""
        before = [changer.acknowledged for changer in self.changers]

        def all_go_on():
            assert all(changer.failure is None for changer in self.changers), [changer.failure for changer in self.changers]
            return all(changer.acknowledged > count for changer, count in zip(self.changers, before))

        try:
            servers.wait_until(all_go_on, "changes are acknowledged")
        except AssertionError as failure:
            raise AssertionError([feed_of(node) for node in self.nodes]) from failure

    def finish(self):
        for changer in self.changers:
            changer.finish()
        self.asker.end.set()
        self.asker.thread.join()
        self.cluster.wait_until_whole()
        wait_same(self.nodes)
        check_all(self.cluster, self.nodes[0], self.folder / "node0", self.asker.asked)
        for changer in self.changers[:len(self.nodes)]:
            for node in self.nodes:
                changer.check(node)
        feeds = [feed_of(node) for node in self.nodes]
        assert all(feed["state"] == "followed" for feed in feeds), feeds
        print(f"{self.acknowledged()} acknowledged, {self.asker.asked} events, entries sent twice "
              f"{sum(feed['repeated'] for feed in feeds) // len(feeds)}, longest turn of a lookup {1000 * self.asker.longest:.0f} ms", flush=True)

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                self.finish()
        finally:
            for changer in self.changers:
                changer.end.set()
            self.stack.close()


def test_masters_killed():
    """Any master dies again and again under changes, lookups and log; nothing that was acknowledged is lost, no event, and none twice."""
    with Crowd() as crowd:
        for i in range(KILLS):
            time.sleep(random.random())
            killed = crowd.cluster.kill_master_of(random.randrange(16384))
            # With one replica each and --min-replicas 1, its slots take changes again when it is back, as the new master's replica.
            assert killed.start()
            crowd.goes_on()
            crowd.cluster.wait_until_whole()
            if (i + 1) % 10 == 0:
                print(f"{i + 1} masters killed, {crowd.acknowledged()} acknowledged, {crowd.asker.asked} events", flush=True)


def test_a_master_hangs():
    """It answers nobody; its replica takes over, and when it goes on it has to forget."""
    with Crowd() as crowd:
        slot = crowd.cluster.slot_of("reg:{0}")
        hung = crowd.cluster.master_of(slot)
        with hung.hangs():
            servers.wait_until(lambda: crowd.cluster.master_of(slot) not in (None, hung), "a replica takes over", pause=0.1)
            time.sleep(2)
        crowd.goes_on()
        crowd.cluster.wait_until_whole()


def test_slots_move():
    """Partitions move from one master to another, key by key, under changes; and back."""
    with Crowd(timeout_ms=10000) as crowd:
        cluster = crowd.cluster
        for slot in [cluster.slot_of(f"reg:{{{i}}}") for i in (0, 5, 0)]:
            to = next(node for node in cluster.nodes if node.is_master() and node is not cluster.master_of(slot))
            source = cluster.begin_move(slot, to)
            crowd.goes_on()
            while cluster.move_keys(slot, source, to, 1) > 0:
                crowd.goes_on()
            cluster.end_move(slot, source, to)
            crowd.goes_on()


def test_replicas_do_not_follow():
    """A change that no replica has is not acknowledged, and not seen; when one follows again it takes effect."""
    with Cluster() as cluster, servers.temporary_folder() as folder, \
            servers.Numberd(folder / "a", "--registrations", cluster.url, "--min-replicas", "1") as a, Client(a.port) as client, \
            Client(a.port) as other:
        assert client.register((BASE, 1, 0)) == [ADDED]
        replicas = [node for node in cluster.nodes if not node.is_master()]
        with contextlib.ExitStack() as stack:
            for node in replicas:
                stack.enter_context(node.hangs())
            client.send(registrations([(BASE + 1, 1, 0)]))
            time.sleep(1)
            assert other.lookup([BASE, BASE + 1]) == [REGISTERED, NOT_REGISTERED]
            assert client.receive().code == READ_ONLY
        servers.wait_until(lambda: other.lookup([BASE + 1]) == [REGISTERED], "it took effect")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help=f"of masters ({KILLS})")
    KILLS = parser.parse_args().kills
    servers.run_tests(globals())
