"""Registrations from a feed in a real Redis that several servers share: what is acknowledged, what each of them then holds, outages,
restarts, and what cannot be followed."""
import contextlib
import json
import pathlib
import random
import selectors
import socket
import subprocess
import threading
import time
import urllib.error

import restart
import servers
from certificates import Authority
from client import *  # noqa: F403 -- the protocol's names

BASE = 12025550000


def node(folder, redis, *flags, **options):
    return servers.Numberd(folder, "--registrations", redis.url, *flags, **options)


def feed_of(server):
    return server.stats()["feed"]


def export(server):
    """All that it holds, in order."""
    return sorted(server.ctl("export", "--data-dir", server.data_dir).splitlines())


def wait_same(nodes, count=None):
    """Until all have carried out the same; then byte by byte."""
    servers.wait_until(lambda: len({n.stats()["directory"]["registered"] for n in nodes}) == 1 and
                       all(feed_of(n)["waiting"] == 0 for n in nodes), "as many on each")
    # A snapshot, from which an export is made, has all that was carried out by then.
    servers.wait_until(lambda: len({"\n".join(export(n)) for n in nodes}) == 1, "the same on each", pause=0.5)
    rows = export(nodes[0])
    assert count is None or len(rows) == count + 1, (len(rows), count)
    return rows


def test_two_nodes():
    """What one acknowledges the other has, with the results that the feed's order gives."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, node(folder / "a", redis) as a, node(folder / "b", redis) as b, \
            Client(a.port) as at_a, Client(b.port) as at_b:
        assert at_a.register((BASE, 1, 0), (BASE + 1, 2, 0), (5, 1, 0), (BASE, 3, 1)) == [ADDED, ADDED, INVALID, REPLACED]
        assert at_a.lookup([BASE, BASE + 1]) == [NOT_REGISTERED, REGISTERED]
        servers.wait_until(lambda: at_b.records([BASE + 1]) == [(2, 0)], "it is seen on the other node")
        assert at_b.register((BASE, 4, 0), (BASE + 2, 5, 0)) == [REPLACED, ADDED]
        assert list(at_b.ask(numbers(DEREGISTER, [BASE + 1, BASE + 9])).body) == [REMOVED, ABSENT]
        servers.wait_until(lambda: at_a.records([BASE, BASE + 1, BASE + 2]) == [(4, 0), None, (5, 0)], "and back")
        # All on one connection, behind one another, with lookups between.
        at_a.send(registrations([(BASE + 20, 1, 0)]) + numbers(LOOKUP, [BASE + 20]) + numbers(DEREGISTER, [BASE + 20]) +
                  numbers(LOOKUP, [BASE + 20]) + registrations([(BASE + 20, 2, 0)]))
        assert [list(at_a.receive().body) for _ in range(5)] == [[ADDED], [REGISTERED], [REMOVED], [NOT_REGISTERED], [ADDED]]
        for server in (a, b):
            feed = feed_of(server)
            assert feed["state"] == "followed" and feed["partitions"] == 16 and feed["repeated"] == 0, feed
        wait_same([a, b], 3)


def test_moves():
    """Between partitions and within one, chained in a request, and each way in which one is not possible."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, node(folder / "a", redis) as a, node(folder / "b", redis) as b, \
            Client(a.port) as at_a, Client(b.port) as at_b:
        count = 300
        assert at_a.register(*[(BASE + i, 100 + i, 0) for i in range(count)]) == [ADDED] * count
        pairs = [(BASE + i, BASE + 1000 + i) for i in range(count)]
        assert list(at_a.ask(moves(pairs)).body) == [MOVED] * count
        assert at_a.records([BASE + 1000 + i for i in range(count)]) == [(100 + i, 0) for i in range(count)]
        assert at_a.lookup([BASE + i for i in range(count)]) == [NOT_REGISTERED] * count
        chain = [(BASE + 1000, BASE), (BASE, BASE + 1), (BASE + 1, BASE + 2), (BASE + 2, BASE + 1001), (BASE + 3, BASE + 4), (BASE + 2, 7),
                 (BASE + 2, BASE + 2)]
        assert list(at_a.ask(moves(chain)).body) == [MOVED, MOVED, MOVED, OCCUPIED, ABSENT, INVALID, OCCUPIED]
        servers.wait_until(lambda: at_b.records([BASE + 2, BASE, BASE + 1]) == [(100, 0), None, None], "moved on the other node, too")
        wait_same([a, b], count)


def test_at_no_moment_neither():
    """On the other node, too, a number that moves around is always registered at one of its two ends."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, node(folder / "a", redis) as a, node(folder / "b", redis) as b:
        end = threading.Event()
        seen = {"looked": 0, "neither": 0}

        def watch():
            with Client(b.port) as client:
                while not end.is_set():
                    # The one that it comes from last: it cannot have passed between the two lookups, since it stays where it is longer.
                    seen["looked"] += 1
                    seen["neither"] += client.lookup([BASE, BASE + 1, BASE]) == [NOT_REGISTERED] * 3

        with Client(a.port) as client, Client(b.port) as other:
            client.register((BASE, 1, 0))
            servers.wait_until(lambda: other.lookup([BASE]) == [REGISTERED], "it is there")
            thread = threading.Thread(target=watch)
            thread.start()
            for i in range(200):
                pair = (BASE, BASE + 1) if i % 2 == 0 else (BASE + 1, BASE)
                assert list(client.ask(moves([pair])).body) == [MOVED]
            end.set()
            thread.join()
        assert seen["looked"] > 200 and seen["neither"] == 0, seen


def test_overtaken():
    """One whose request was done while another's was not has its answer when that one is, though nobody asks for anything more."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, node(folder / "a", redis) as a, Client(a.port) as slow, \
            Client(a.port) as quick:
        assert slow.register((BASE, 1, 0)) == [ADDED]
        slow.send(moves([(BASE + i, BASE + i + 1) for i in range(500)]))  # one after the other
        servers.wait_until(lambda: quick.lookup([BASE]) == [NOT_REGISTERED], "it has begun")
        quick.send(registrations([(BASE + 10**6, 1, 0)]))
        assert list(slow.receive().body) == [MOVED] * 500
        quick.socket.settimeout(5)
        assert list(quick.receive().body) == [ADDED]


def test_restart():
    """What a node missed while it was down it has when it is ready again, be it stopped or killed; and nothing twice."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, node(folder / "a", redis) as a, Client(a.port) as client:
        numbers_there = 0
        for i in range(6):
            with node(folder / "b", redis) as b, Client(b.port) as other:
                assert other.lookup([BASE + n for n in range(numbers_there)]) == [REGISTERED] * numbers_there if numbers_there else True
                other.register(*[(BASE + numbers_there + n, i, 0) for n in range(50)])
                numbers_there += 50
                if i % 2 == 0:
                    b.ctl("snapshot")
                    other.register((BASE + numbers_there, i, 0))
                    numbers_there += 1
                if i % 3 != 2:
                    b.kill()
            client.register(*[(BASE + numbers_there + n, i, 1 if n == 0 else 0) for n in range(30)])
            numbers_there += 30
            client.ask(numbers(DEREGISTER, [BASE + numbers_there - 30]))
            client.register((BASE + numbers_there - 30, 77, 0))
        with node(folder / "b", redis) as b:
            wait_same([a, b], numbers_there)
            assert feed_of(b)["repeated"] == 0
        assert f"a start loads {numbers_there} registrations" in servers.ctl("check", folder / "b")


def test_redis_is_away():
    """Lookups go on; changes are refused, and those under way are said to be unknown; behind it all goes on, and nothing is lost."""
    with servers.Redis("--appendonly", "yes", "--appendfsync", "always") as redis, servers.temporary_folder() as folder, \
            node(folder / "a", redis) as a, node(folder / "b", redis) as b, Client(a.port) as client:
        assert client.register((BASE, 1, 0)) == [ADDED]
        redis.stop()
        a.wait_for("registrations: Redis at .* changes are refused")
        assert client.ask(registrations([(BASE + 1, 1, 0)])).code == UNAVAILABLE
        assert client.lookup([BASE]) == [REGISTERED] and feed_of(a)["state"] == "away"
        assert a.get("/readyz")
        time.sleep(0.3)
        assert feed_of(a)["age_seconds"] > 0.2
        assert redis.start()
        a.wait_for("registrations: Redis is followed again")
        servers.wait_until(lambda: client.ask(registrations([(BASE + 1, 1, 0)])).code == OK, "changes are taken again")
        wait_same([a, b], 2)


def test_redis_takes_nothing():
    """A Redis that is full is followed, and what is waiting for it then takes effect when it has room."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, node(folder / "a", redis) as a, Client(a.port) as client:
        assert client.register((BASE, 1, 0)) == [ADDED]
        redis.command("CONFIG", "SET", "maxmemory", "1")
        assert client.ask(registrations([(BASE + 1, 1, 0)])).code == READ_ONLY
        feed = feed_of(a)
        assert feed["state"] == "followed" and feed["age_seconds"] < 1 and "OOM" in feed["reason"], feed
        assert client.ask(registrations([(BASE + 2, 1, 0)])).code == UNAVAILABLE
        assert client.lookup([BASE, BASE + 1]) == [REGISTERED, NOT_REGISTERED]
        redis.command("CONFIG", "SET", "maxmemory", "0")
        a.wait_for("registrations: Redis is followed again")
        servers.wait_until(lambda: client.lookup([BASE + 1]) == [REGISTERED], "it took effect")
        assert client.register((BASE + 1, 2, 0)) == [REPLACED]
        assert feed_of(a)["waiting"] == 0


def test_redis_hangs():
    """A change that Redis does not answer is READ_ONLY after some seconds, and takes effect once when it goes on."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, node(folder / "a", redis) as a, Client(a.port) as client, \
            Client(a.port) as other:
        assert client.register((BASE, 1, 0)) == [ADDED]
        redis.process.send_signal(servers.signal.SIGSTOP)
        try:
            started = time.monotonic()
            client.send(registrations([(BASE + 1, 1, 0)]))
            assert other.lookup([BASE]) == [REGISTERED]
            assert client.receive().code == READ_ONLY and 4 < time.monotonic() - started < 30
        finally:
            redis.process.send_signal(servers.signal.SIGCONT)
        servers.wait_until(lambda: other.lookup([BASE + 1]) == [REGISTERED], "it took effect")
        servers.wait_until(lambda: feed_of(a)["state"] == "followed", "changes are taken again, from the end of that round on")
        assert client.register((BASE + 1, 2, 0)) == [REPLACED]
        assert feed_of(a)["waiting"] == 0


class Wire(threading.Thread):
    """A port that leads to another one, until it is cut: then nothing goes through, and nobody is told."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.to, self.is_cut, self.end = port, False, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"

    def run(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            while not self.end.is_set():
                for key, _ in selector.select(0.05):
                    if key.fileobj is self.listener:
                        ends = self.listener.accept()[0], socket.create_connection(("127.0.0.1", self.to))
                        for end, other in (ends, ends[::-1]):
                            selector.register(end, selectors.EVENT_READ, other)
                    elif not self.is_cut:
                        data = b""
                        with contextlib.suppress(OSError):
                            data = key.fileobj.recv(65536)
                            key.data.sendall(data)
                        if not data:
                            selector.unregister(key.fileobj)
                            with contextlib.suppress(OSError):
                                key.data.shutdown(socket.SHUT_RDWR)
                if self.is_cut:
                    time.sleep(0.02)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.join()
        self.listener.close()


def age_of(client, values, kind=LOOKUP):
    """(answers, their age in seconds, how long they may be kept)"""
    reply = client.ask(frame(kind, struct.pack(f"<{len(values)}Q", *values), len(values), flags=2))
    assert reply.code == OK and reply.count == len(values)
    return list(reply.body[:-4]), struct.unpack("<I", reply.body[-4:])[0] / 1000, reply.cache_seconds


def check_cut_off(a, b, c, cut, there=lambda function: function()):
    """`cut` takes b's and c's way to Redis away, or gives it back; b then serves what is stale, and c does not. `there` is where these are."""
    with Client(a.port) as at_a, there(lambda: Client(b.port)) as at_b, there(lambda: Client(c.port)) as at_c:
        assert at_a.register((BASE, 1, 0)) == [ADDED]
        servers.wait_until(lambda: at_b.lookup([BASE]) == at_c.lookup([BASE]) == [REGISTERED], "all have it")
        answers, age, kept = age_of(at_b, [BASE, BASE + 1])
        assert answers == [REGISTERED, NOT_REGISTERED] and age < 1 and kept == 300, (answers, age, kept)
        cut(True)
        assert at_a.register((BASE + 1, 1, 0)) == [ADDED]
        time.sleep(1.5)
        answers, age, kept = age_of(at_b, [BASE, BASE + 1])
        assert answers == [REGISTERED, NOT_REGISTERED] and 1 < age < 30 and kept == 0, (answers, age, kept)
        many, age, _ = age_of(at_b, [BASE] * 20000)
        assert many == [REGISTERED] * 20000 and age > 1
        assert len(age_of(at_b, [BASE, BASE + 1], LOOKUP_RECORDS)[0]) == 32
        reply = at_c.ask(numbers(LOOKUP, [BASE]))
        assert reply.code == UNAVAILABLE and b"up to date" in reply.body
        assert there(c.stats)["ready"] is False and there(b.stats)["ready"] is True
        assert at_b.ask(registrations([(BASE + 2, 1, 0)])).code in (READ_ONLY, UNAVAILABLE)
        cut(False)
        servers.wait_until(lambda: at_b.lookup([BASE + 1]) == [REGISTERED], "it has what it missed")
        servers.wait_until(lambda: at_c.ask(numbers(LOOKUP, [BASE])).code == OK, "it answers again")
        servers.wait_until(lambda: at_b.ask(registrations([(BASE + 3, 1, 0)])).code == OK, "it takes changes again")


def test_cut_off():
    """A node that cannot reach Redis says how old its answers are, or refuses them, as it was told; and comes to the same when it can."""
    with servers.Redis() as redis, Wire(redis.port) as wire, Wire(redis.port) as second, servers.temporary_folder() as folder, \
            node(folder / "a", redis) as a, node(folder / "b", wire, "--stale-seconds", "1") as b, \
            node(folder / "c", second, "--stale-seconds", "1", "--stale", "refuse") as c:
        def cut(is_cut):
            wire.is_cut = second.is_cut = is_cut

        check_cut_off(a, b, c, cut)
        wait_same([a, b, c])


def survey_of(redis):
    """As JSON, whatever the status: a server that has just begun may not have said that it is ready."""
    return json.loads(servers.ctl("cluster", "--registrations", redis.url, "--json", status=None).splitlines()[0])


def test_survey():
    """`numberctl cluster` shows the nodes and the partitions, says which node is silent, and forgets one for good."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, node(folder / "a", redis, "--partitions", "4") as a, \
            Client(a.port) as client:
        client.register(*[(BASE + i, 1, 0) for i in range(100)])
        with node(folder / "b", redis) as b:
            gone = b.stats()["server"]
            survey = survey_of(redis)
            servers.wait_until(lambda: all(n["registered"] == 100 for n in survey_of(redis)["nodes"].values()), "both say how many they have")
            assert set(survey["nodes"]) == {a.stats()["server"], gone} and len(survey["partitions"]) == 4, survey
            assert sum(p["entries"] for p in survey["partitions"]) >= 4
            assert all(set(p["nodes"]) == set(survey["nodes"]) for p in survey["partitions"])
            text = servers.ctl("cluster", "--registrations", redis.url)
            assert a.address in text and "followed" in text and f"127.0.0.1:{redis.port}" in text, text
            b.kill()
        servers.wait_until(lambda: survey_of(redis)
                           ["nodes"][gone]["is_silent"], "it is silent", pause=0.5)
        assert "1 of the nodes are silent" in servers.ctl("cluster", "--registrations", redis.url, status=69)
        servers.ctl("cluster", "--registrations", redis.url, "--forget", gone)
        assert gone not in servers.ctl("cluster", "--registrations", redis.url)
        assert "knows no node" in servers.ctl("cluster", "--registrations", redis.url, "--forget", gone, status=66)
        with servers.Redis() as empty:
            assert "has no feed" in servers.ctl("cluster", "--registrations", empty.url, status=66)


def test_haproxy():
    """The example in front of two servers: when one is stopped, or stale, its clients connect anew and are answered by the other."""
    example = pathlib.Path(__file__).resolve().parent.parent / "server" / "haproxy" / "replicas.cfg"
    proxied = ("--proxy-listen", "127.0.0.1:0", "--proxy-from", "127.0.0.1", "--stale-seconds", "1", "--stale", "refuse")
    with servers.Redis() as redis, Wire(redis.port) as wire, servers.temporary_folder() as folder, contextlib.ExitStack() as stack:
        a = stack.enter_context(node(folder / "a", redis, *proxied))
        b = stack.enter_context(node(folder / "b", wire, *proxied))
        front = servers.free_port()
        text = example.read_text().replace("bind :4164", f"bind 127.0.0.1:{front}")
        for server, address in ((a, "10.0.0.1"), (b, "10.0.0.2")):
            text = text.replace(f"{address}:4167 port 4165", f"127.0.0.1:{server.proxy_port} port {server.stats_port}")
        assert "10.0.0." not in text
        (folder / "haproxy.cfg").write_text(text)
        haproxy = stack.enter_context(subprocess.Popen(["haproxy", "-db", "-f", folder / "haproxy.cfg"], stdout=subprocess.DEVNULL,
                                                       stderr=subprocess.DEVNULL))
        stack.callback(haproxy.terminate)
        servers.wait_until(lambda: servers.can_connect(front), "haproxy listens")
        answered = {"refused": 0}

        def ask():
            """One lookup, on a new connection if the old one is gone; who answered."""
            with contextlib.suppress(OSError, EOFError), Client(front) as client:
                if client.ask(numbers(LOOKUP, [BASE])).code == OK:
                    return True
            answered["refused"] += 1
            return False

        servers.wait_until(ask, "somebody answers")
        for _ in range(20):
            assert ask()
        assert all(server.stats()["requests"]["lookup"] > 3 for server in (a, b))
        # One that is cut off is left within some checks.
        wire.is_cut = True
        servers.wait_until(lambda: b.stats()["ready"] is False, "it is stale")
        time.sleep(2)
        before, answered["refused"] = b.stats()["requests"]["lookup"], 0
        for _ in range(20):
            assert ask()
        assert b.stats()["requests"]["lookup"] == before
        wire.is_cut = False
        servers.wait_until(lambda: ask() and b.stats()["requests"]["lookup"] > before, "it is used again")
        # One that stops: who was connected there hears of it, and the next connection is elsewhere.
        with Client(front) as client:
            a.process.send_signal(servers.signal.SIGTERM)
            with contextlib.suppress(OSError, EOFError):
                client.receive()  # a goodbye, if it was that one's
        servers.wait_until(ask, "the other one answers")


def test_stop_under_way():
    """Who waits for the feed when the server stops has the answer before the goodbye."""
    with servers.Redis() as redis, servers.temporary_folder() as folder:
        with node(folder / "a", redis) as a, Client(a.port) as client:
            client.send(registrations([(BASE + i, 1, 0) for i in range(20000)]))
            client.send(numbers(LOOKUP, [BASE]))
            servers.wait_until(lambda: a.stats()["requests"]["register"] == 1, "it is taken")
            a.process.send_signal(servers.signal.SIGTERM)
            assert list(client.receive().body) == [ADDED] * 20000
            replies = [client.receive()]
            if replies[-1].code == OK:
                assert list(replies[0].body) == [REGISTERED]
                replies.append(client.receive())
            assert replies[-1].code == GOING_AWAY
        with node(folder / "a", redis) as a:
            assert a.stats()["directory"]["registered"] == 20000


def test_hand_over():
    """A successor follows on where its predecessor was, and nobody is answered wrongly."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, restart.Service(folder / "a", "--registrations", redis.url) as a, \
            node(folder / "b", redis) as b, Client(b.port) as other:
        for i in range(3):
            with Client(a.port) as client:
                assert client.register((BASE, 2 * i, 0)) == [REPLACED if i else ADDED]
                client.send(registrations([(BASE + 100 * i + n, 1, 0) for n in range(1, 50)]))
                a.succeed()
                reply = client.receive()  # before the goodbye, or it was not carried out
                assert list(reply.body) == [ADDED] * 49 if reply.code == OK else reply.code == GOING_AWAY, reply.code
            with Client(a.port) as client:
                assert client.register((BASE, 2 * i + 1, 0), (BASE + 10**6 + i, 1, 0)) == [REPLACED, ADDED]
                assert other.register((BASE + 2 * 10**6 + i, 1, 0)) == [ADDED]
                servers.wait_until(lambda: client.lookup([BASE + 2 * 10**6 + i]) == [REGISTERED], "it follows")
        wait_same([a, b])


def test_import():
    """Rows that are imported through one node are on all; all at once is refused."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, node(folder / "a", redis) as a, node(folder / "b", redis) as b:
        rows = "".join(f"+{BASE + i},{i},0\n" for i in range(30000))
        (folder / "rows.csv").write_text(rows)
        a.ctl("import", folder / "rows.csv")
        wait_same([a, b], 30000)
        b.ctl("import", folder / "rows.csv")  # as it is
        (folder / "less.csv").write_text(rows[:1000 * 20])
        said = a.ctl("import", "--data-dir", folder / "a", "--replace-all", "--force", folder / "less.csv", status=75)
        assert "registrations that come from a feed are not replaced" in said, said
        wait_same([a, b], 30000)


def test_trim():
    """Streams are trimmed behind what the snapshots of all nodes have; who comes too late is told so."""
    with servers.Redis("--stream-node-max-entries", "10") as redis, servers.temporary_folder() as folder, node(folder / "a", redis) as a, \
            node(folder / "b", redis) as b, Client(a.port) as client:
        def entries():
            return sum(int(redis.command("XLEN", f"reg:{{{i}}}")[0]) for i in range(16))

        for _ in range(200):
            client.register(*[(BASE + n, 1, 0) for n in range(32)])
        filled = entries()
        assert filled > 2000
        for _ in range(2):
            a.ctl("snapshot")
        time.sleep(2.5)
        assert entries() == filled, "the other node may need them"
        for _ in range(2):
            b.ctl("snapshot")
        servers.wait_until(lambda: entries() < filled / 4, "they are trimmed")
        assert client.register((BASE + 100, 1, 0)) == [ADDED]
        wait_same([a, b], 33)
        with node(folder / "c", redis, wait=False) as c:
            c.wait_for("has been trimmed beyond what this data directory has: start with a copy of another node's")
            with Client(c.port) as late:
                assert late.ask(numbers(LOOKUP, [BASE])).code == NOT_READY


def test_fetch():
    """A node that comes when the feed has been trimmed begins with a copy of another one's directory; nobody has it who may not."""
    with servers.Redis("--stream-node-max-entries", "10") as redis, servers.temporary_folder() as folder, contextlib.ExitStack() as stack:
        a = stack.enter_context(node(folder / "a", redis, "--share", "yes"))
        client = stack.enter_context(Client(a.port))
        stats = f"http://127.0.0.1:{a.stats_port}"
        for first in range(0, 30000, 1000):
            client.register(*[(BASE + first + n, n, 0) for n in range(1000)])
        for _ in range(2):
            a.ctl("snapshot")
        servers.wait_until(lambda: any(p["trimmed"] for p in survey_of(redis)["partitions"]), "it is trimmed", pause=0.3)
        client.register((BASE + 10**6, 7, 0))
        # While it is changed.
        changer = Changer(a, BASE + 2 * 10**6, 500)
        changer.start()
        said = servers.ctl("fetch", "--from", stats, "--data-dir", folder / "b")
        assert " bytes; numberd --data-dir" in said, said
        b = stack.enter_context(node(folder / "b", redis))
        changer.finish()
        wait_same([a, b])
        changer.check(b)
        with Client(b.port) as other:
            assert other.records([BASE + 10**6, BASE + 29999]) == [(7, 0), (999, 0)]
            assert other.register((BASE, 5, 0)) == [REPLACED]
        assert a.stats()["server"] != b.stats()["server"]
        # What cannot be.
        assert "in use" in servers.ctl("fetch", "--from", stats, "--data-dir", folder / "b", status=75)
        assert "shares nothing" in servers.ctl("fetch", "--from", f"http://127.0.0.1:{b.stats_port}", "--data-dir", folder / "d", status=69)
        assert "connect" in servers.ctl("fetch", "--from", f"http://127.0.0.1:{servers.free_port()}", "--data-dir", folder / "d", status=69)
        servers.ctl("fetch", "--from", "ftp://127.0.0.1", "--data-dir", folder / "d", status=64)
        assert "integer" in servers.ctl("fetch", "--from", stats, "--megabytes-per-second", "fast", "--data-dir", folder / "d", status=64)
        servers.ctl("fetch", "--from", stats, "--data-dir", folder / "d")
        assert "has registrations already" in servers.ctl("fetch", "--from", stats, "--data-dir", folder / "d", status=73)
        for name in ("../numberd.format", "snapshots/../numberd.format", "querylog/x", "snapshots/", "journal/0000000000000000.journal", ""):
            try:
                a.get(f"/copy/file?name={name}")
                raise AssertionError(name)
            except urllib.error.HTTPError as error:
                assert error.code == 404, (name, error.code)


def test_fetch_wants_a_token():
    """Where there are tokens, one with the role replicate is wanted, from this machine, too."""
    with servers.Redis() as redis, servers.temporary_folder() as folder:
        tokens = folder / "tokens"
        for name, role in (("copier", "replicate"), ("operator", "operate")):
            (folder / name).write_text(servers.ctl("token", "add", tokens, "--principal", 1, "--roles", role))
        with node(folder / "a", redis, "--share", "yes", "--token-file", tokens) as a:
            stats = f"http://127.0.0.1:{a.stats_port}"
            for flags in ((), ("--token-file", folder / "operator")):
                assert "role replicate" in servers.ctl("fetch", "--from", stats, "--data-dir", folder / "b", *flags, status=77)
            servers.ctl("fetch", "--from", stats, "--data-dir", folder / "b", "--token-file", folder / "copier")
            with node(folder / "b", redis):
                pass
        # Under TLS, from whom the authority has signed.
        authority = Authority(folder)
        certificate, key = authority.sign("server")
        with node(folder / "a", redis, "--share", "yes", "--token-file", tokens, "--stats-tls", "yes", "--tls-certificate", certificate,
                  "--tls-key", key) as a:
            flags = ("--from", f"https://127.0.0.1:{a.stats_port}", "--token-file", folder / "copier", "--data-dir", folder / "c")
            assert "certificate" in servers.ctl("fetch", *flags, status=69)
            servers.ctl("fetch", *flags, "--tls-ca", authority.certificate)
            with node(folder / "c", redis):
                pass


def test_redis_forgot():
    """A Redis that was started anew without what it had is said to be so; the node serves what it has, and takes nothing."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, node(folder / "a", redis) as a, Client(a.port) as client:
        assert client.register((BASE, 1, 0)) == [ADDED]
        redis.stop()
        assert redis.start()
        a.wait_for("has lost changes that this node has")
        assert client.lookup([BASE]) == [REGISTERED]
        assert client.ask(registrations([(BASE + 1, 1, 0)])).code == UNAVAILABLE
        assert feed_of(a)["state"] == "broken"


def test_what_does_not_fit():
    """Another feed's data directory, one with registrations of its own, and other account ids, are refused in words."""
    with servers.Redis() as redis, servers.Redis() as second, servers.temporary_folder() as folder:
        with node(folder / "a", redis) as a, Client(a.port) as client:
            client.register((BASE, 1, 0))
        with servers.Numberd(folder / "a", wait=False, status=78) as server:
            server.wait_for("come from a feed: name its Redis with --registrations")
        with servers.Numberd(folder / "own") as own, Client(own.port) as client:
            client.register((BASE, 1, 0))
        for data, flags, text in (("a", ("--registrations", second.url), "are of another feed"),
                                  ("own", ("--registrations", redis.url), "come from no feed"),
                                  ("c", ("--registrations", redis.url, "--accounts", "no"), "start with --accounts yes")):
            with servers.Numberd(folder / data, *flags, wait=False) as server:
                server.wait_for(text)
        assert "URL is not understood" in servers.numberd_error(folder / "d", "--registrations", "nonsense", status=64)


class Changer(threading.Thread):
    """Changes numbers of its own through one node, and knows what was acknowledged."""

    def __init__(self, server, first, count):
        super().__init__()
        self.server, self.first, self.count, self.failure = server, first, count, None
        self.known = {}  # number: the accounts that it may have; None: not registered
        self.end = threading.Event()
        self.acknowledged = 0

    def change(self, client):
        entries = [(self.first + random.randrange(self.count), random.randrange(1, 1 << 30), 0) for _ in range(random.randrange(1, 30))]
        if random.random() < 0.3:
            reply = client.ask(numbers(DEREGISTER, [entry[0] for entry in entries]))
            wanted = {entry[0]: None for entry in entries}
        else:
            reply = client.ask(registrations(entries))
            wanted = {entry[0]: entry[1] for entry in entries}
        if reply.code == UNAVAILABLE:
            return
        for number, account in wanted.items():
            self.known[number] = {account} if reply.code == OK else self.known.get(number, {None}) | {account} | \
                ({entry[1] for entry in entries if entry[0] == number} if account is not None else set())
        assert reply.code in (OK, READ_ONLY), reply.code
        self.acknowledged += len(entries) if reply.code == OK else 0

    def run(self):
        try:
            with Client(self.server.port) as client:
                while not self.end.is_set():
                    self.change(client)
                    time.sleep(0.001)
        except Exception as failure:  # said by whoever waits for it
            self.failure = failure

    def finish(self):
        self.end.set()
        self.join()
        assert self.failure is None, self.failure

    def check(self, server):
        with Client(server.port) as client:
            there = client.records(list(self.known))
        for (number, accounts), record in zip(self.known.items(), there):
            assert (record and record[0]) in accounts, (number, accounts, record)


def test_writers_on_all_nodes():
    """Three nodes take changes to the same and to other numbers; all come to the same, and what was acknowledged last is there."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, node(folder / "a", redis) as a, node(folder / "b", redis) as b, \
            node(folder / "c", redis) as c:
        nodes = [a, b, c]
        own = [Changer(server, BASE + 10000 * i, 500) for i, server in enumerate(nodes)]
        shared = [Changer(server, BASE + 500000, 50) for server in nodes]
        for changer in own + shared:
            changer.start()
        time.sleep(3)
        for changer in own + shared:
            changer.finish()
        wait_same(nodes)
        for changer in own:
            for server in nodes:
                changer.check(server)
        assert all(feed_of(server)["repeated"] == 0 for server in nodes)
        print(sum(changer.acknowledged for changer in own + shared), "acknowledged,", [feed_of(server)["lag_seconds_max"] for server in nodes])


def steps_in(redis, partitions=16):
    """number: the accounts that the feed gives it, in its order (0: deregistered), read from the streams by hand (feed_entry.h); only what
    these tests send, SET and REMOVE."""
    found = {}
    for partition in range(partitions):
        reply = redis.raw("XRANGE", f"reg:{{{partition}}}", "-", "+")
        for _, (_, entry) in reply:
            count, after = struct.unpack_from("<HI", entry, 2)
            assert entry[0] == 1 and after == 0
            at = 24
            for _ in range(count):
                word, = struct.unpack_from("<Q", entry, at)
                at += 8
                account = 0
                if word >> 50 & 7 == 1:
                    account, = struct.unpack_from("<Q", entry, at)
                    at += 8
                else:
                    assert word >> 50 & 7 == 2
                found.setdefault(word & (1 << 50) - 1, []).append(account)
            assert at + 8 == len(entry)
    return found


class Session(threading.Thread):
    """One client of one node: changes a few numbers that others change, too, and looks at them; notes what it saw and when."""
    accounts = iter(range(1, 1 << 40))
    lock = threading.Lock()

    def __init__(self, index, server, end):
        super().__init__()
        self.index, self.server, self.end, self.failure = index, server, end, None
        self.notes = []  # (begun, ended, number, account or 0, status of a change or None)

    def note(self, client, number):
        begun, kind = time.monotonic(), random.random()
        if kind < 0.5:
            record, = client.records([number])
            seen, status = record[0] if record else 0, None
        elif kind < 0.8:
            with Session.lock:
                seen = next(Session.accounts)
            status, = client.register((number, seen, 0))
        else:
            seen = 0
            status, = client.ask(numbers(DEREGISTER, [number])).body
        self.notes.append((begun, time.monotonic(), number, seen, status))

    def run(self):
        try:
            with Client(self.server.port) as client:
                while not self.end.is_set():
                    self.note(client, BASE + random.randrange(20))
        except Exception as failure:  # said by whoever waits for it
            self.failure = failure


def places_of(order, notes):
    """The places in the number's order that each note may have, ascending: 0 is before all. A change has the one place where its account
    stands; an answer or a removal any place that fits."""
    states = [0, *order]
    exact = {account: place for place, account in enumerate(states) if account}
    for begun, ended, seen, status in notes:
        if seen:
            yield begun, ended, [exact[seen]]
        elif status is None:
            yield begun, ended, [place for place, account in enumerate(states) if account == 0]
        else:  # what was there before it says the status
            yield begun, ended, [place for place in range(1, len(states)) if states[place] == 0 and
                                 (states[place - 1] != 0) == (status == REMOVED)]


def check_order(order, notes):
    """Whether the notes, in the order in which they ended, can be given places so that none that began after another one had ended is
    before it. The earliest place that is possible leaves most to the later ones."""
    done = []  # (ended, the greatest place of all that ended until then)
    for begun, ended, places in sorted(places_of(order, notes), key=lambda note: note[1]):
        least = 0
        for other_ended, place in reversed(done):
            if other_ended < begun:
                least = place
                break
        place = next((place for place in places if place >= least), None)
        assert place is not None, (order, notes, places, least)
        done.append((ended, max(place, done[-1][1] if done else 0)))


def test_the_checker():
    """It finds what goes back behind what was seen, what was acknowledged and is not seen, and a status that cannot be."""
    seen = [(0, 1, 0, None), (2, 3, 5, ADDED), (4, 5, 5, None), (6, 7, 0, REMOVED), (8, 9, 0, None)]
    check_order([5, 0], seen)
    check_order([5, 0], [(0, 10, 0, None), *seen])  # what takes long may be of any time
    for wrong in (seen[1:2] + [(4, 5, 0, None)] + seen[3:4] + [(8, 9, 5, None)], [(2, 3, 5, ADDED), (4, 5, 0, None), (6, 7, 5, None)],
                  [(0, 1, 0, REMOVED), (2, 3, 5, ADDED)], [(0, 1, 0, ABSENT), (2, 3, 5, None)]):
        try:
            check_order([5, 0], wrong)
        except AssertionError:
            continue
        raise AssertionError(wrong)


def test_histories():
    """Of each number: as one order that all nodes have; what a node has acknowledged or answered, it never goes back behind, and neither does
    a client's session; and the statuses are those of that order."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, node(folder / "a", redis) as a, node(folder / "b", redis) as b, \
            node(folder / "c", redis) as c:
        end = threading.Event()
        sessions = [Session(i, server, end) for i, server in enumerate([a, b, c] * 2)]
        for session in sessions:
            session.start()
        time.sleep(4)
        end.set()
        for session in sessions:
            session.join()
            assert session.failure is None, session.failure
        orders = steps_in(redis)
        assert sum(map(len, orders.values())) == sum(note[4] is not None for session in sessions for note in session.notes)
        for server in (a, b, c):
            at_node = [note for session in sessions if session.server is server for note in session.notes]
            for number, order in orders.items():
                check_order(order, [(n[0], n[1], n[3], n[4]) for n in at_node if n[2] == number])
        # Statuses of registering: REPLACED where something stood before it.
        for session in sessions:
            for _, _, number, seen, status in session.notes:
                if status in (ADDED, REPLACED):
                    place = orders[number].index(seen)
                    assert (status == REPLACED) == (place > 0 and orders[number][place - 1] != 0)
        print(sum(len(session.notes) for session in sessions), "notes of", len(orders), "numbers")


if __name__ == "__main__":
    servers.run_tests(globals())
