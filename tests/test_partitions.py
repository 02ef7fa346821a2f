"""Servers that hold some partitions of the feed each: who answers what, the map, the client library, partitions that change hands."""
import contextlib
import itertools
import random
import re
import signal
import subprocess
import threading
import time
import urllib.error

import restart
import servers
from client import *  # noqa: F403 -- the protocol's names
from test_feed import export, feed_of, node

BASE = 12025550000
PARTITIONS = 8
USAGE, NOPERM = 64, 77


def partition_of(number):
    """As hashing/partition.h has it."""
    return ((number * 0x9E3779B97F4A7C15 % 2**64) >> 32) % PARTITIONS


def in_partitions(partitions, count=10**9, start=BASE):
    return list(itertools.islice((n for n in range(start, start + 100000) if partition_of(n) in partitions), count))


NO_BUDGETS = ("--detect", "off", "--principal-budget", "none", "--principal-rate", "0", "--network-budget", "none", "--network-rate", "0")


def some(folder, redis, holds, *flags, **options):
    return node(folder, redis, "--partitions", str(PARTITIONS), "--holds", holds, *NO_BUDGETS, *flags, **options)


def read_map(client):
    """Version and, by address, state and what is held."""
    lines = client.ask(frame(MAP)).body.decode().splitlines()
    assert re.fullmatch(r"feed [0-9a-f]{16}", lines[0]) and re.fullmatch(r"version \d+", lines[1]), lines
    assert lines[2] in (f"partitions {PARTITIONS}", "partitions 0"), lines
    words = [line.split(" ") for line in lines[3:]]
    assert all(len(line) == 5 and line[0] == "node" for line in words), lines
    return int(lines[1].split()[1]), {address: (state, holds) for _, _, address, state, holds in words}


def wait_known(*nodes):
    """Until each has heard of all as ready."""
    for one in nodes:
        with Client(one.port) as client:
            servers.wait_until(lambda: all(read_map(client)[1].get(other.address, "-")[0] == "ready" for other in nodes), "the map is whole", 15)


class Cluster:
    """The client library, in a program of its own (cluster_client.c)."""

    def __init__(self, *nodes, patience=5000):
        self.servers, self.patience = ",".join(one.address for one in nodes), patience

    def __enter__(self):
        program = servers.BIN.parent / "tests/cluster_client"
        self.process = subprocess.Popen([program, self.servers, str(self.patience)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.connected = self.process.stdout.readline().strip()
        return self

    def __exit__(self, *_):
        self.process.communicate(timeout=30)

    def ask(self, verb, words):
        self.process.stdin.write(f"{verb} {' '.join(map(str, words))}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        return [int(word) if word.isdigit() else word for word in answer[1:]] if answer[0] == "ok" else " ".join(answer)

    def lookup(self, values):
        return self.ask("L", values)

    def register(self, values, account=1):
        return self.ask("R", [f"{value}:{account}" for value in values])


def held(one):
    """The numbers it has."""
    return {int(row.split(",")[0].lstrip("+")) for row in export(one) if row[1:2].isdigit()}


def settled(nodes, *sets):
    """Until each node has these numbers."""
    for one, wanted in zip(nodes, sets, strict=True):
        servers.wait_until(lambda: one.stats()["directory"]["registered"] == len(wanted), "as many as there should be")
        assert held(one) == set(wanted)


@contextlib.contextmanager
def three(folder, redis):
    with some(folder / "a", redis, "0-3") as a, some(folder / "b", redis, "4-7") as b, some(folder / "c", redis, "2-5") as c:
        wait_known(a, b, c)
        yield a, b, c


def test_who_answers():
    """A server answers for what it holds; a request with any other number is answered ELSEWHERE, and nothing of it is done."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, three(folder, redis) as (a, b, c), Client(a.port) as client:
        version, nodes = read_map(client)
        assert nodes == {a.address: ("ready", "0-3"), b.address: ("ready", "4-7"), c.address: ("ready", "2-5")}
        here, there = in_partitions({0}, 5), in_partitions({7}, 5)
        assert client.register(*[(n, 1, 0) for n in here]) == [ADDED] * 5
        fresh = in_partitions({1}, 1)[0]
        for request in (numbers(LOOKUP, [*here, there[0]]), numbers(LOOKUP_RECORDS, [there[0]]), numbers(DEREGISTER, [here[0], there[0]]),
                        registrations([(fresh, 1, 0), (there[0], 1, 0)]), moves([(here[0], there[0])]), moves([(there[0], here[0])])):
            reply = client.ask(request)
            assert reply.code == ELSEWHERE and reply.count == 0 and len(reply.body) == 8, reply.code
            assert int.from_bytes(reply.body, "little") >= version
        assert client.lookup([*here, fresh]) == [REGISTERED] * 5 + [NOT_REGISTERED]
        stats = a.stats()
        assert stats["requests_elsewhere"] == 6 and feed_of(a)["held"] == 4 and feed_of(a)["map_version"] == version
        assert "numberd_requests_elsewhere_total 6" in a.get("/metrics") and "numberd_feed_partitions_held 4" in a.get("/metrics")
        shown = servers.ctl("cluster", "--registrations", redis.url)
        assert all(text in shown for text in ("0-3", "4-7", "2-5")), shown


def test_client_library():
    """Batches of all partitions through any server that is named; results by index; each server has what it holds and nothing else."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, three(folder, redis) as (a, b, c):
        values = random.Random(1).sample(range(BASE, BASE + 30000), 20000)
        known, unknown = values[:12000], values[12000:]
        with Cluster(b) as cluster:
            assert cluster.connected == "ok" and cluster.ask("V", [])[1:] == [PARTITIONS, 1]
            assert cluster.register(known) == [ADDED] * len(known)
            assert cluster.register([7, known[0]], account=2) == [INVALID, REPLACED]
            # The other server that holds it may be behind by some milliseconds, but this client keeps to the one that it registered with.
            assert cluster.lookup(values) == [REGISTERED] * len(known) + [NOT_REGISTERED] * len(unknown)
            assert cluster.ask("A", [known[0], unknown[0], known[1]]) == ["1:2", "0:0", "1:1"]
            assert cluster.ask("D", [known[1], unknown[0]]) == [REMOVED, ABSENT]
            pair = [in_partitions({2}, 1)[0], in_partitions({5}, 1, BASE + 50000)[0]]
            cluster.register(pair[:1], 5)
            # c alone holds both, and may have to hear of the registration first.
            servers.wait_until(lambda: cluster.ask("M", pair) == [MOVED], "it is moved")
            servers.wait_until(lambda: cluster.ask("A", pair) == ["0:0", "1:5"], "the move is seen")
            assert "no server holds the partitions of both" in cluster.ask("M", [in_partitions({0}, 1)[0], in_partitions({7}, 1)[0]])
        left = {*known, pair[1]} - {known[1], pair[0]}
        settled((a, b, c), *({n for n in left if partition_of(n) in range(*span)} for span in ((0, 4), (4, 8), (2, 6))))


def test_one_server():
    """A server without a feed, or one that holds all, is a cluster of one."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server, Cluster(server) as cluster:
        assert cluster.ask("V", []) == [0, 0, 0]
        assert cluster.register([BASE]) == [ADDED] and cluster.lookup([BASE, BASE + 1]) == [REGISTERED, NOT_REGISTERED]
    with servers.Redis() as redis, servers.temporary_folder() as folder, node(folder / "a", redis, "--partitions", str(PARTITIONS)) as server:
        wait_known(server)
        with Cluster(server) as cluster, Client(server.port) as client:
            assert cluster.ask("V", [])[1:] == [PARTITIONS, 0]
            assert cluster.register([BASE]) == [ADDED] and cluster.lookup([BASE, BASE + 1]) == [REGISTERED, NOT_REGISTERED]
            assert read_map(client)[1] == {server.address: ("ready", "0-7")}


def test_failover():
    """A server that is killed, or hangs, is left for another that holds the same; where there is none the error says so."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, some(folder / "a", redis, "0-7") as a, \
            some(folder / "b", redis, "0-5") as b:
        wait_known(a, b)
        values = in_partitions(range(PARTITIONS), 3000)
        with Cluster(a, b) as one, Cluster(a, b) as other, Cluster(a, b, patience=300) as hasty:
            assert one.register(values) == [ADDED] * len(values)
            servers.wait_until(lambda: other.lookup(values) == [REGISTERED] * len(values), "all is seen")
            shared = [n for n in values if partition_of(n) < 6]
            a.process.send_signal(signal.SIGSTOP)
            try:
                # A change that a server may still carry out is not repeated at another one; it is not asked then, for a second.
                for cluster in (one, other):
                    changed = cluster.register(shared[:1])
                    assert changed == [REPLACED] or "did not answer in time" in changed, changed
                    assert cluster.lookup(shared) == [REGISTERED] * len(shared)
            finally:
                a.process.send_signal(signal.SIGCONT)
            a.kill()
            for cluster in (one, other):
                assert cluster.lookup(shared) == [REGISTERED] * len(shared)
                assert set(cluster.register(shared, 2)) == {REPLACED}
            started = time.monotonic()
            failed = hasty.lookup(values)
            assert isinstance(failed, str) and failed.startswith("error") and time.monotonic() - started < 5, failed
            assert hasty.lookup(shared) == [REGISTERED] * len(shared)  # it may be asked again
        servers.wait_until(lambda: "silent" in servers.ctl("cluster", "--registrations", redis.url, status=None), "a is silent", 15)


class Asker(threading.Thread):
    """Asks about numbers of all partitions again and again, and registers more; stops at the first wrong answer."""

    def __init__(self, cluster, known, unknown):
        super().__init__()
        self.cluster, self.known, self.unknown = cluster, known, unknown
        self.fault, self.asked, self.over = None, 0, False
        self.fresh = iter(range(BASE + 60000, BASE + 90000))

    def run(self):
        wanted = [REGISTERED] * len(self.known) + [NOT_REGISTERED] * len(self.unknown)
        while not self.over and self.fault is None:
            found = self.cluster.lookup(self.known + self.unknown)
            more = list(itertools.islice(self.fresh, 20))
            added = self.cluster.register(more)
            # What was sent twice, since its answer was lost, is REPLACED.
            if found != wanted or not isinstance(added, list) or not set(added) <= {ADDED, REPLACED}:
                self.fault = (found if isinstance(found, str) else [(n, a, w) for n, a, w in zip(self.known + self.unknown, found, wanted) if a != w][:20],
                              added)
            else:
                self.known += more
                wanted = [REGISTERED] * len(self.known) + [NOT_REGISTERED] * len(self.unknown)
                self.asked += 1


def test_partitions_change_hands():
    """A new server takes over some of an old one's partitions, while clients ask and register: no answer is wrong."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, contextlib.ExitStack() as stack:
        ports = [f"127.0.0.1:{servers.free_port()}" for _ in range(2)]
        start = lambda name, holds, *flags: some(folder / name, redis, holds, *flags)
        a = stack.enter_context(start("a", "0-4", "--listen", ports[0]))
        b = stack.enter_context(start("b", "5-7", "--listen", ports[1]))
        wait_known(a, b)
        values = in_partitions(range(PARTITIONS), 4000)
        with Cluster(a, b, patience=20000) as filler:
            filler.register(values[:2000])
        with Cluster(a, b, patience=20000) as cluster:
            asker = Asker(cluster, values[:2000], values[2000:])
            asker.start()
            try:
                c = stack.enter_context(start("c", "2-4"))
                wait_known(a, b, c)
                a.process.send_signal(signal.SIGTERM)
                assert a.process.wait(30) == 0
                with start("a", "0-1", "--listen", ports[0]) as again:
                    wait_known(again, b, c)
                    assert "what is not held any more is removed" in again.read_log()
                    before = asker.asked
                    servers.wait_until(lambda: asker.asked > before + 5 or asker.fault, "it goes on")
                    asker.over = True
                    asker.join()
                    assert asker.fault is None, asker.fault
                    spans = ((0, 2), (5, 8), (2, 5))
                    settled((again, b, c), *({n for n in asker.known if partition_of(n) in range(*span)} for span in spans))
                    assert not any(re.search(again.stats()["server"], line) for p in (2, 3, 4)
                                                for line in redis.command("XINFO", "GROUPS", f"reg:{{{p}}}"))
            finally:
                asker.over = True
                asker.join()


def test_hand_over():
    """A successor by SIGUSR2 that holds less answers at once, one that holds more when it has read that; never wrongly."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, some(folder / "b", redis, "0-7") as b:
        config = folder / "numberd.conf"
        config.write_text(f"holds = 0-5\nregistrations = {redis.url}\npartitions = {PARTITIONS}\n")
        with restart.Service(folder / "a", "--config", str(config), *NO_BUDGETS, "--listen", f"127.0.0.1:{servers.free_port()}") as a:
            wait_known(a, b)
            values = in_partitions(range(PARTITIONS), 4000)
            with Cluster(a, b, patience=20000) as cluster:
                cluster.register(values[:2000])
                servers.wait_until(lambda: b.stats()["directory"]["registered"] == 2000, "all is there")
                asker = Asker(cluster, values[:2000], values[2000:])
                asker.start()
                try:
                    for holds in ("0-3", "0-3,6", "0-7", "5"):
                        config.write_text(config.read_text().replace(config.read_text().splitlines()[0], f"holds = {holds}"))
                        a.succeed()
                        with Client(a.port) as client:
                            servers.wait_until(lambda: read_map(client)[1].get(a.address) == ("ready", holds), "it says so")
                        before = asker.asked
                        servers.wait_until(lambda: asker.asked > before + 3 or asker.fault, "it goes on")
                        assert asker.fault is None, asker.fault
                finally:
                    asker.over = True
                    asker.join()
                servers.wait_until(lambda: feed_of(a)["waiting"] == feed_of(b)["waiting"] == 0, "nothing waits")
                settled((a, b), {n for n in asker.known if partition_of(n) == 5}, set(asker.known))


def reason(one):
    """Why the feed is not followed."""
    return (feed_of(one) or {"reason": "loading"})["reason"]


def test_the_last_one_stays():
    """What no other server that is ready holds is not left, and nothing is lost by trying."""
    with servers.Redis() as redis, servers.temporary_folder() as folder:
        with some(folder / "a", redis, "0-7") as a, some(folder / "b", redis, "0-3") as b, Cluster(a, b) as cluster:
            wait_known(a, b)
            values = in_partitions(range(PARTITIONS), 500)
            assert cluster.register(values) == [ADDED] * 500
        with some(folder / "b", redis, "0-3"), some(folder / "a", redis, "0-2", wait=False) as a:
            servers.wait_until(lambda: "partition 4 is on no other node" in reason(a), "it says why not")
            assert "is on no other node" in a.read_log()
            with Client(a.port) as client:
                assert client.ask(numbers(LOOKUP, values[:1])).code == NOT_READY
            with contextlib.suppress(urllib.error.HTTPError):
                raise AssertionError(a.get("/readyz"))
        with some(folder / "a", redis, "0-7") as a:
            settled((a,), set(values))
        # b has ended some moments ago, and counts for nothing, whatever it said then.
        with some(folder / "a", redis, "4-7", wait=False) as a:
            servers.wait_until(lambda: "partition 0 is on no other node" in reason(a), "it says why not")


def test_killed_while_leaving():
    """Killed at any moment of it, it leaves what it began to leave; and who holds it again reads it from the beginning."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, some(folder / "b", redis, "0-7") as b:
        with some(folder / "a", redis, "0-7") as a:
            wait_known(a, b)
            rows = folder / "rows.csv"
            rows.write_text("".join(f"+{BASE + i},{i}\n" for i in range(60000)))
            a.ctl("import", rows)
            with Client(a.port) as client:
                client.ask(numbers(DEREGISTER, in_partitions(range(PARTITIONS), 1000, BASE + 500)))
            servers.wait_until(lambda: b.stats()["directory"]["registered"] == 59000, "all is there")
        everything = held(b)
        for _ in range(4):
            with some(folder / "a", redis, "1", wait=False) as a:
                a.wait_for("what is not held any more is removed|numberd: ready")
                time.sleep(random.uniform(0, 0.02))
                a.kill()
        with some(folder / "a", redis, "1") as a:
            settled((a,), {n for n in everything if partition_of(n) == 1})
        with some(folder / "a", redis, "1,3-5") as a:
            wait_known(a, b)
            settled((a,), {n for n in everything if partition_of(n) in (1, 3, 4, 5)})


def test_numberctl():
    """lookup, register, deregister, move and import by way of any of them."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, three(folder, redis) as (a, b, c):
        number = in_partitions({7}, 2)
        assert a.ctl("register", f"+{number[0]}", "--account", 5) == f"+{number[0]}\tadded\n"
        assert a.ctl("lookup", "--records", f"+{number[0]}") == f"+{number[0]}\tregistered\taccount 5\tflags 0\n"
        assert a.ctl("lookup", f"+{number[0]}", f"+{number[1]}", "--requester", 9) == f"+{number[0]}\tregistered\n+{number[1]}\tnot registered\n"
        assert a.ctl("move", *(f"+{n}" for n in number)) == f"+{number[1]}\tmoved\n"
        assert a.ctl("deregister", f"+{number[1]}") == f"+{number[1]}\tremoved\n"
        assert "no server holds the partitions of both" in a.ctl("move", f"+{in_partitions({0}, 1)[0]}", f"+{number[0]}", status=69)
        rows = folder / "rows.csv"
        rows.write_text("".join(f"+{BASE + i},{i}\n" for i in range(100000)))
        assert a.ctl("import", rows).startswith("100000 rows: 100000 added, 0 replaced, 0 rejected")
        assert sum(one.stats()["directory"]["registered"] for one in (a, b)) == 100000


def test_advertise():
    """Clients are sent where the server says that it is reached."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, some(folder / "a", redis, "0-7", "--advertise", "numberd1.example:4164") as a:
        with Client(a.port) as client:
            servers.wait_until(lambda: "numberd1.example:4164" in read_map(client)[1], "it says so")
    with servers.Redis() as redis, servers.temporary_folder() as folder, \
            some(folder / "a", redis, "0-7", "--advertise", "[2001:db8::1]:4164") as a, Client(a.port) as client:
        servers.wait_until(lambda: "[2001:db8::1]:4164" in read_map(client)[1], "it says so")


def test_what_does_not_fit():
    """Lists that are none, partitions that there are not."""
    with servers.Redis() as redis, servers.temporary_folder() as folder:
        feed = ("--registrations", redis.url)
        for holds in ("a", "3-", "-3", "5-2", "0-256", "1,,2", "1;2", "1 2"):
            assert "--holds" in servers.numberd_error(folder / "x", *feed, "--holds", holds, status=USAGE), holds
        assert "--registrations" in servers.numberd_error(folder / "x", "--holds", "1", status=USAGE)
        for address in ("a b:1", 'a"b:1', "x" * 256 + ":1", "foo", ":5", "a:b", "x:70000", "x:0", "0.0.0.0:4164", "[::]:1", "[::1:1", "::1:1", "a:1x"):
            assert "--advertise" in servers.numberd_error(folder / "x", *feed, "--advertise", address, status=USAGE)
        with some(folder / "a", redis, "7-8", wait=False) as a:
            servers.wait_until(lambda: "beyond the last one of the feed, which is 7" in a.read_log(), "it says so")


if __name__ == "__main__":
    servers.run_tests(globals())
