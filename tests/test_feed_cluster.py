"""Registrations from a feed in a real Redis Cluster, several servers, and the query log beside it: masters that are killed or hang, slots
that move, all under changes and lookups."""
import contextlib
import multiprocessing
import os
import random
import shutil
import statistics
import time

import servers
from client import *  # noqa: F403 -- the protocol's names
from namespaces import Namespace
from redis_cluster import Cluster
from test_cluster import UNLIMITED, Asker, check_all
from test_feed import Changer, check_cut_off, export, feed_of, wait_same

BASE = 12025560000
KILLS = int(os.environ.get("NUMBERD_CLUSTER_KILLS", 10))
NODES = 2  # cluster.sh says 4
# Of the tests with figures; cluster.sh says more, and has the bars count: a build with sanitizers beside other programs is no measure.
LAG_SECONDS, RATE, JOIN_NUMBERS = 4, 5000, 300000
ROUNDS, BARS_COUNT = 1, False


class Crowd:
    """Servers on one cluster, each changed and asked all the while; at the end all is there that was acknowledged, on each of them."""

    def __init__(self, timeout_ms=2000, logs=1):
        self.count, self.timeout_ms, self.logs = NODES, timeout_ms, logs

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


def follow(cluster, folder, *flags, **options):
    return servers.Numberd(folder, "--registrations", cluster.url, "--min-replicas", "1", *UNLIMITED, *flags, **options)


def test_cut_off():
    """Servers in a network namespace whose way to the cluster is cut, and given back: what they say and do meanwhile, and that all have the same
    then."""
    with Namespace() as space, Cluster(host=space.here) as cluster, servers.temporary_folder() as folder, follow(cluster, folder / "a") as a, \
            follow(cluster, folder / "b", "--stale-seconds", "1", wrapper=space.wrapper) as b, \
            follow(cluster, folder / "c", "--stale-seconds", "1", "--stale", "refuse", wrapper=space.wrapper) as c:
        check_cut_off(a, b, c, space.cut, space.do)
        assert all(space.do(one.stats)["feed"]["failures"] > 0 for one in (b, c))
        servers.wait_until(lambda: space.do(lambda: feed_of(b)["waiting"]) == 0, "nothing waits")

        def all_same():
            return export(a) == space.do(lambda: export(b)) == space.do(lambda: export(c))
        servers.wait_until(all_same, "the same on each", pause=0.5)
        assert len(export(a)) == 1 + 4


def register_steadily(port, first, rate, end, done):
    """So many a second, all acknowledged, 50 times a second; in a process of its own."""
    size, count, begun = rate // 50, 0, time.monotonic()
    with Client(port) as client:
        while not end.is_set():
            reply = client.ask(registrations([(first + count + i, 1, 0) for i in range(size)]))
            assert reply.code == OK and set(reply.body) == {ADDED}, reply.code
            count += size
            time.sleep(max(0, begun + count / rate - time.monotonic()))
    done.put((count, time.monotonic() - begun))


@contextlib.contextmanager
def steadily(nodes, rate):
    """All nodes take their share of the rate; at the end it has to have been reached, but for a tenth, if bars count."""
    end, done = multiprocessing.Event(), multiprocessing.Queue()
    writers = [multiprocessing.Process(target=register_steadily, args=(node.port, BASE + 10**8 * (i + 1), rate // len(nodes), end, done))
               for i, node in enumerate(nodes)]
    for writer in writers:
        writer.start()
    try:
        yield
    finally:
        end.set()
        results = [done.get(timeout=servers.PATIENCE) for _ in writers]
        for writer in writers:
            writer.join()
    reached = sum(count / seconds for count, seconds in results)
    print(f"{reached:.0f} registrations a second", flush=True)
    assert reached > (0.9 * rate if BARS_COUNT else 0), reached


def percentile(values, percent):
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def test_lag():
    """From the acknowledgement on one node until it is visible on all, with all of them taking changes."""
    with Cluster() as cluster, servers.temporary_folder() as folder, contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(follow(cluster, folder / f"node{i}")) for i in range(4)]
        clients = [stack.enter_context(Client(node.port)) for node in nodes]
        lags = []
        with steadily(nodes, RATE):
            end = time.monotonic() + LAG_SECONDS
            while time.monotonic() < end:
                at, number = random.randrange(4), BASE + len(lags)
                assert clients[at].register((number, 1, 0)) == [ADDED]
                acknowledged = time.monotonic()
                assert clients[at].lookup([number]) == [REGISTERED]  # at once where it was acknowledged
                left = [client for i, client in enumerate(clients) if i != at]
                while left:
                    left = [client for client in left if client.lookup([number]) == [NOT_REGISTERED]]
                lags.append(time.monotonic() - acknowledged)
                time.sleep(0.01)
        text = ", ".join(f"p{percent} {1000 * percentile(lags, percent):.1f} ms" for percent in (50, 90, 99))
        print(f"lag of {len(lags)}: {text}, at most {1000 * max(lags):.1f}", flush=True)
        assert percentile(lags, 99) <= (0.05 if BARS_COUNT else 1), text


def ask_steadily(port, ended, done):
    """The time of each of a hundred requests a second, in a process of its own."""
    times = []
    with Client(port) as client:
        while not ended.is_set():
            asked = time.monotonic()
            assert client.ask(numbers(LOOKUP, [BASE + i for i in range(100)])).code == OK
            times.append(time.monotonic() - asked)
            time.sleep(0.01)
    done.put(times)


def ask_while(port, during):
    """As long as the function takes; returns the times."""
    ended, done = multiprocessing.Event(), multiprocessing.Queue()
    process = multiprocessing.Process(target=ask_steadily, args=(port, ended, done))
    process.start()
    during()
    ended.set()
    times = done.get(timeout=servers.PATIENCE)
    process.join()
    return times


def test_join():
    """A node with nothing is ready, and does not make the lookups of another wait: one that reads all the feed has had while the others have
    nothing else to do, and one that begins with what another has, and reads the rest, while they take their share of changes."""
    with Cluster() as cluster, servers.temporary_folder() as folder, contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(follow(cluster, folder / f"node{i}", "--share", "yes")) for i in range(NODES)]
        (folder / "rows.csv").write_text("".join(f"+{BASE + i},{i},0\n" for i in range(JOIN_NUMBERS)))
        nodes[0].ctl("import", folder / "rows.csv")
        nodes[1].ctl("snapshot")
        seconds = max(2, JOIN_NUMBERS / 1e6)

        def beside_new(fetches, took):
            """Until it is ready: that it stops again is no part of joining."""
            with contextlib.ExitStack() as new:
                def join():
                    begun = time.monotonic()
                    if fetches:
                        servers.ctl("fetch", "--from", f"http://127.0.0.1:{nodes[1].stats_port}", "--data-dir", folder / "new")
                    server = new.enter_context(follow(cluster, folder / "new", wait=False))
                    servers.wait_until(server.is_ready, "the new one is ready", seconds=300, pause=0.1)  # seldom enough to be no load itself
                    took.append(time.monotonic() - begun)
                    assert server.stats()["directory"]["registered"] >= JOIN_NUMBERS
                times = ask_while(nodes[0].port, join)
            shutil.rmtree(folder / "new")
            return times

        def measure(load, fetches):
            """How many times as long the 99th percentile of a node's lookups takes."""
            took, alone, beside = [], [], []
            for _ in range(ROUNDS):
                alone.append(1000 * percentile(ask_while(nodes[0].port, lambda: time.sleep(seconds)), 99))
                beside.append(1000 * percentile(beside_new(fetches, took), 99))
            ratio = statistics.median(beside) / statistics.median(alone)
            print(f"{JOIN_NUMBERS} numbers, {'fetched' if fetches else 'read from Redis'}, {load} registrations/s: ready after "
                  f"{statistics.median(took):.1f} s; p99 of others {statistics.median(alone):.2f} ms alone, {statistics.median(beside):.2f} "
                  f"beside the new server: {ratio:.2f} times as long", flush=True)
            return ratio

        ratio = measure(0, fetches=False)
        with steadily(nodes, RATE):
            measure(RATE, fetches=True)  # a figure without a bar: these processors are as good as full before the new one comes
        assert not BARS_COUNT or ratio <= 1.5


if __name__ == "__main__":
    servers.run_tests(globals())
