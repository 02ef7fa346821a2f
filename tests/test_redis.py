"""The query log in a real Redis: layout, expiry, outages, exactly once."""
import json
import signal
import socket
import subprocess
import time

import servers
from client import *  # noqa: F403 -- the protocol's names
from redis_events import events_in

BASE = 12025550000
HOUR_MS = 3600 * 1000
RETENTION_MS = 30 * 24 * HOUR_MS


def log_of(server):
    log = server.stats()["query_log"]
    assert log["looked_up"] == log["stored"] + log["in_flight"] + log["lost"], log
    return log


def wait_stored(server, count):
    servers.wait_until(lambda: log_of(server)["stored"] == count, f"{count} events stored")
    log = log_of(server)
    assert (log["looked_up"], log["in_flight"], log["lost"]) == (count, 0, 0), log


def records_in(redis, data_dir, number):
    """The disclosed rows of one number, from Redis, with the keys of the data directory."""
    return servers.disclose(data_dir, "--number", f"+{number}", "--redis", redis.url).splitlines()[1:]


def test_layout_and_expiry():
    """Every key has one absolute expiry, at most 30 days away and 30 days after its hour began."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, \
            servers.Numberd(folder / "data", "--redis", redis.url) as server, Client(server.port) as client:
        for requester in range(40):
            body = struct.pack("<Q16s", requester, bytes(10) + b"\xff\xff\x0a\0\0\1") + struct.pack("<Q", BASE + requester)
            assert client.ask(frame(LOOKUP, body, 1, flags=1)).code == OK
        wait_stored(server, 40)
        keys = redis.command("KEYS", "*")
        assert len([k for k in keys if k.startswith("querylog:{")]) > 8
        now = time.time() * 1000
        for key in keys:
            ttl, expiry = int(redis.command("PTTL", key)[0]), int(redis.command("PEXPIRETIME", key)[0])
            # When the last moment of its hour is 30 days ago.
            assert RETENTION_MS < ttl <= RETENTION_MS + HOUR_MS, (key, ttl)
            assert (expiry - RETENTION_MS) % HOUR_MS == 0 and expiry - RETENTION_MS > now, (key, expiry)
        assert events_in(redis) == 40
        rows = records_in(redis, folder / "data", BASE + 7)
        assert len(rows) == 1 and rows[0].split(",")[1:5] == [f"+{BASE + 7}", "not registered", "7", "10.0.0.1"], rows
        rows = servers.disclose(folder / "data", "--requester", 7, "--redis", redis.url).splitlines()[1:]
        assert len(rows) == 1
        # Nothing was asked of Redis but the commands that the design allows.
        used = {line.split(":")[0][8:] for line in redis.command("INFO", "commandstats") if line.startswith("cmdstat_")}
        assert not used & {"scan", "set", "expire", "pexpire"}, used


def test_outage():
    """Redis away at the start, then there, then killed and back: every event is there exactly once."""
    with servers.Redis("--appendonly", "yes", "--appendfsync", "always") as redis, servers.temporary_folder() as folder:
        redis.stop()
        with servers.Numberd(folder / "data", "--redis", redis.url) as server, Client(server.port) as client:
            client.lookup([BASE] * 100)
            servers.wait_until(lambda: log_of(server)["spooled"] == 100, "100 events spooled")
            assert log_of(server)["redis"] == "away" and log_of(server)["stored"] == 0
            redis.start()
            wait_stored(server, 100)
            for round_ in range(3):
                redis.stop()
                for _ in range(20):
                    client.lookup([BASE] * 50)
                redis.start()
                for _ in range(20):
                    client.lookup([BASE] * 50)
                wait_stored(server, 100 + 2000 * (round_ + 1))
            assert len(records_in(redis, folder / "data", BASE)) == 6100
            assert events_in(redis) == 6100
            log = server.read_log()
            assert "spool until Redis takes it again" in log and "Redis takes the query log again" in log
        assert "left in the spool" in server.log


def test_spool_survives_a_restart():
    """What Redis did not get before the stop, or before a SIGKILL, it gets after the next start, once."""
    for orderly in (True, False):
        with servers.Redis() as redis, servers.temporary_folder() as folder:
            redis.stop()
            with servers.Numberd(folder / "data", "--redis", redis.url, "--drain-seconds", "1") as server, \
                    Client(server.port) as client:
                client.lookup([BASE] * 300)
                servers.wait_until(lambda: log_of(server)["spooled"] == 300, "300 events spooled")
                if not orderly:
                    server.kill()
                # A crash may tear the last frame; what is before it counts.
                segment = next((folder / "data" / "querylog").glob("*.segment"))
            with segment.open("ab") as file:
                file.write(b"NBF1 torn")
            redis.start()
            with servers.Numberd(folder / "data", "--redis", redis.url) as server, Client(server.port) as client:
                client.lookup([BASE] * 5)
                wait_stored(server, 305)
                assert "9 bytes at the ends of segments are cut short" in server.read_log()
            assert len(records_in(redis, folder / "data", BASE)) == 305
            assert not list((folder / "data" / "querylog").glob("*.segment"))


def test_the_list_is_lost():
    """A node of Redis may die with the list of servers, which is written again within a minute: a disclosure finds whose keys it has all the same."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, servers.Numberd(folder / "data", "--redis", redis.url) as server, \
            Client(server.port) as client:
        client.lookup([BASE] * 300)
        wait_stored(server, 300)
        assert redis.command("DEL", "querylog:servers") == ["1"]
        assert len(records_in(redis, folder / "data", BASE)) == 300


def test_cut_connection():
    """Connections cut in mid-reply, again and again: sent again, and there only once."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, Proxy(redis.port) as proxy, \
            servers.Numberd(folder / "data", "--redis", f"redis://127.0.0.1:{proxy.port}") as server, \
            Client(server.port) as client:
        sent = 0
        for round_ in range(15):
            proxy.cut_after, cuts = 3 + 7 * round_, proxy.cuts
            while proxy.cuts == cuts:
                client.lookup([BASE] * 200)
                sent += 200
                time.sleep(0.005)
            proxy.cut_after = None
            wait_stored(server, sent)
        assert events_in(redis) == sent


def test_failover():
    """The master dies with what its replica never got; the replica takes its place and gets it: all is there, once."""
    with servers.Redis() as master, servers.Redis("--replicaof", "127.0.0.1", str(master.port)) as replica, \
            servers.temporary_folder() as folder, Proxy(master.port) as proxy, \
            servers.Numberd(folder / "data", "--redis", f"redis://127.0.0.1:{proxy.port}") as server, Client(server.port) as client:
        for _ in range(10):
            client.lookup([BASE] * 10)
            time.sleep(0.06)
        wait_stored(server, 100)
        servers.wait_until(lambda: events_in(replica) == 100, "the replica has it")
        replica.command("REPLICAOF", "NO", "ONE")
        for _ in range(10):
            client.lookup([BASE] * 10)
            time.sleep(0.06)
        wait_stored(server, 200)
        assert events_in(replica) == 100
        proxy.target = replica.port
        master.stop()
        client.lookup([BASE] * 5)
        wait_stored(server, 205)
        servers.wait_until(lambda: events_in(replica) == 205, "what the replica did not have")
        assert len(records_in(replica, folder / "data", BASE)) == 205


def test_restart_without_persistence():
    """A Redis that forgets all at its restart gets the last minute again, over several segments; each event counts once."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, \
            servers.Numberd(folder / "data", "--redis", redis.url, "--query-log-bytes", "8M") as server, Client(server.port) as client:
        for round_ in range(1, 4):
            for _ in range(10):
                client.lookup([BASE] * 10000)
                time.sleep(0.06)
            wait_stored(server, 100000 * round_)
            redis.stop()
            redis.start()
            servers.wait_until(lambda: events_in(redis) == 100000 * round_, "all is there again")
        wait_stored(server, 300000)
        assert len(list((folder / "data" / "querylog").glob("*.segment"))) > 1


def test_slow_redis():
    """A Redis that stands still half of the time: memory and the spool stay small, and all is there, once."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, \
            servers.Numberd(folder / "data", "--redis", redis.url) as server, Client(server.port) as client:
        for _ in range(5):
            redis.process.send_signal(signal.SIGSTOP)
            for _ in range(20):
                client.lookup([BASE] * 100)
            time.sleep(0.3)
            redis.process.send_signal(signal.SIGCONT)
            time.sleep(0.3)
        wait_stored(server, 10000)
        assert events_in(redis) == 10000 and log_of(server)["bytes"] < 1 << 20


class Proxy:
    """Forwards to Redis; closes a connection after so many bytes of replies, if told, counted from the first transaction on."""

    def __init__(self, target):
        self.target, self.cut_after, self.cuts, self.open = target, None, 0, True

    def __enter__(self):
        import threading
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.open = False
        self.listener.close()

    def run(self):
        while self.open:
            try:
                near, _ = self.listener.accept()
                with near, socket.create_connection(("127.0.0.1", self.target)) as far:
                    self.forward(near, far)
            except OSError:
                pass

    def forward(self, near, far):
        import select
        in_transactions, replied = False, 0
        while self.open:
            for source in select.select([near, far], [], [], 0.2)[0]:
                data = source.recv(65536)
                if not data:
                    return
                if source is near:
                    in_transactions = in_transactions or b"MULTI" in data
                    far.sendall(data)
                    continue
                if not in_transactions:
                    near.sendall(data)
                    continue
                if self.cut_after is not None and replied + len(data) > self.cut_after:
                    near.sendall(data[:max(0, self.cut_after - replied)])
                    self.cuts += 1
                    return
                replied += len(data)
                near.sendall(data)


def test_refusing_redis():
    """A Redis that is full refuses; the log waits in the spool and catches up when there is room."""
    with servers.Redis("--maxmemory-policy", "noeviction") as redis, servers.temporary_folder() as folder, \
            servers.Numberd(folder / "data", "--redis", redis.url) as server, Client(server.port) as client:
        client.lookup([BASE] * 10)
        wait_stored(server, 10)
        redis.command("CONFIG", "SET", "maxmemory", "1")
        for _ in range(100):
            client.lookup([BASE] * 10)
        servers.wait_until(lambda: log_of(server)["redis_failures"] > 0, "Redis refused")
        assert "OOM" in server.read_log()
        redis.command("CONFIG", "SET", "maxmemory", "0")
        wait_stored(server, 1010)
        assert events_in(redis) == 1010


def test_password_and_unix_socket():
    """A Redis with a password, over a unix socket; a wrong password is named without being shown."""
    with servers.temporary_folder() as folder:
        path = folder / "redis.sock"
        with servers.Redis("--unixsocket", str(path), "--requirepass", "correct-horse"):
            url = f"unix://:correct-horse@{path}?db=3"
            with servers.Numberd(folder / "data", "--redis", url) as server, Client(server.port) as client:
                client.lookup([BASE] * 10)
                wait_stored(server, 10)
            assert len(servers.disclose(folder / "data", "--number", f"+{BASE}", "--redis", url).splitlines()) == 11
            with servers.Numberd(folder / "data2", "--redis", f"unix://:battery-staple@{path}", "--drain-seconds", "0") as server:
                servers.wait_until(lambda: "WRONGPASS" in server.read_log(), "the password is refused")
            assert "battery" not in server.log


def test_small_cap():
    """A spool whose cap is far below a segment does not jam: with Redis there, all of it goes through."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, \
            servers.Numberd(folder / "data", "--redis", redis.url, "--query-log-bytes", "1M") as server, \
            Client(server.port) as client:
        for _ in range(60):
            client.lookup([BASE] * 10000)
            time.sleep(0.02)
        servers.wait_until(lambda: log_of(server)["in_flight"] == 0 and log_of(server)["accepting"], "the log is open")
        before = log_of(server)["lost"]
        client.lookup([BASE] * 100)
        servers.wait_until(lambda: log_of(server)["in_flight"] == 0, "all is stored")
        log = log_of(server)
        assert log["lost"] == before and log["bytes"] < 2 << 20, log
        assert events_in(redis) == log["stored"] == 600100 - log["lost"]


def test_answered_is_logged_at_the_stop():
    """Redis away, the spool at its cap, refuse: whatever was answered is in the spool after an orderly stop."""
    with servers.temporary_folder() as folder:
        with servers.Numberd(folder / "data", "--redis", f"redis://127.0.0.1:{servers.free_port()}", "--query-log-full",
                             "refuse", "--query-log-bytes", "1M", "--drain-seconds", "1") as server, \
                Client(server.port) as client:
            client.send(numbers(LOOKUP, [BASE] * 60000) * 8)
            answered = sum(60000 for _ in range(8) if client.receive().code == OK)
        assert f"{answered} left in the spool, 0 lost" in server.log, (answered, server.log)


def test_somebody_elses_ids():
    """Later entries under this server's id (a copy of its data directory): lost is counted as lost, never as stored."""
    with servers.Redis() as redis, servers.temporary_folder() as folder, \
            servers.Numberd(folder / "data", "--redis", redis.url) as server, Client(server.port) as client:
        client.lookup([BASE] * 10)
        wait_stored(server, 10)
        key = next(k for k in redis.command("KEYS", "*") if k.startswith("querylog:{"))
        redis.command("XADD", key, "99999999999999-1", "f", "x", )
        client.lookup([BASE] * 7)
        servers.wait_until(lambda: log_of(server)["lost"] == 7, "7 events counted lost")
        assert log_of(server)["stored"] == 10 and "copy of its data directory" in server.read_log()
        # And a strange entry does not keep the reader from the others.
        redis.command("XADD", key, "99999999999999-2", "a", "1", "b", "2")
        rows = servers.disclose(folder / "data", "--number", f"+{BASE}", "--redis", redis.url, status=65)
        assert rows.count("not registered") == 10 and rows.count("numberctl: warning") == 2, rows


def test_damaged_spool():
    """A flipped bit in a waiting segment: what is before it is shipped, the file is set aside and said so."""
    with servers.Redis() as redis, servers.temporary_folder() as folder:
        redis.stop()
        with servers.Numberd(folder / "data", "--redis", redis.url, "--drain-seconds", "0") as server, \
                Client(server.port) as client:
            for _ in range(10):
                client.lookup([BASE] * 200)
                time.sleep(0.1)
        segment = next((folder / "data" / "querylog").glob("*.segment"))
        data = bytearray(segment.read_bytes())
        data[5000] ^= 4
        segment.write_bytes(data)
        redis.start()
        with servers.Numberd(folder / "data", "--redis", redis.url) as server:
            servers.wait_until(lambda: "set aside" in server.read_log(), "the damage is said")
            assert 0 < events_in(redis) < 2000
        assert len(list((folder / "data" / "querylog").glob("*.segment.damaged"))) == 1
        assert not list((folder / "data" / "querylog").glob("*.segment"))


def test_policy_warnings():
    """A Redis that may evict, or persists nothing, is warned of once, and on the stats port; one that keeps all is not."""
    evict, nothing = "may evict the query log", "persists nothing"
    for flags, evicts, loses in (((), False, True), (("--save", "3600 1", "--maxmemory-policy", "volatile-ttl"), True, False),
                                 (("--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"), True, False),
                                 (("--appendonly", "yes"), False, False)):
        with servers.Redis(*flags) as redis, servers.temporary_folder() as folder, \
                servers.Numberd(folder / "data", "--redis", redis.url) as server:
            servers.wait_until(lambda: log_of(server)["redis"] == "connected", "Redis is connected")
            redis.command("CLIENT", "KILL", "TYPE", "normal")
            server.ctl("lookup", f"+{BASE}")
            servers.wait_until(lambda: log_of(server)["stored"] == 1, "connected again")
            log, text = log_of(server), server.read_log()
            assert (log["redis_may_evict"], log["redis_persists_nothing"]) == (evicts, loses), (flags, log)
            assert (text.count(evict), text.count(nothing)) == (evicts, loses), (flags, text)
            assert f"numberd_redis_may_evict {int(evicts)}" in server.get("/metrics")
    # One that does not say is not warned of.
    with servers.Redis() as redis, servers.temporary_folder() as folder:
        redis.command("ACL", "SETUSER", "log", "on", ">pass", "~*", "+@all", "-config", "-info")
        with servers.Numberd(folder / "data", "--redis", redis.url.replace("//", "//log:pass@")) as server:
            server.ctl("lookup", f"+{BASE}")
            servers.wait_until(lambda: log_of(server)["stored"] == 1, "the event is stored")
            assert nothing not in server.read_log()


def test_plan():
    """`numberctl plan` says what the disk and Redis really take, for lone lookups and for batches, to a quarter."""
    for rate, batch in ((200, 1), (2000, 10), (60000, 100)):
        with servers.Redis() as redis, servers.temporary_folder() as folder:
            events = {}
            for name, flags in (("disk", ()), ("redis", ("--redis", redis.url))):
                with servers.Numberd(folder / name, *flags) as server:
                    subprocess.run([servers.BIN / "numberload", "run", "--server", server.address, "--rate", str(rate), "--batch",
                                    str(batch), "--seconds", "2", "--count", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # none is registered
                    servers.wait_until(lambda: log_of(server)["in_flight"] == 0, "all is stored")
                    events[name] = log_of(server)["stored"]
            disk = sum(path.stat().st_size for path in (folder / "disk" / "querylog").glob("*.segment")) / events["disk"]
            used = sum(int(redis.command("MEMORY", "USAGE", key, "SAMPLES", 0)[0])
                       for key in redis.command("KEYS", "querylog:{*")) / events["redis"]
            plan = json.loads(servers.ctl("plan", "--rate", rate, "--batch", batch, "--requesters", 1, "--json"))
            per_event = plan["redis_bytes_per_day"] / 86400 / rate
            assert 0.8 < plan["bytes_per_event"] / disk < 1.25 and 0.8 < per_event / used < 1.3, (rate, batch, plan, disk, used)


def test_plan_machines():
    """`numberctl plan --numbers` counts machines: what memory wants, what lookups want, what Redis wants; and says what cannot be."""
    def plan(*arguments):
        return json.loads(servers.ctl("plan", "--json", *arguments))

    small = plan("--rate", 1000, "--numbers", 10**8)
    assert small["machines_per_copy"] == 1 and small["servers"] == 2 and not small["needs_parts"], small
    assert small["directory_bytes"] == 18.5e8 and small["redis_masters"] == small["redis_replicas"] == 3
    bare = plan("--rate", 1000, "--numbers", 10**8, "--no-accounts")
    assert bare["directory_bytes"] == 9.5e8
    # The most that is asked of it: on machines of 24 GiB in parts, on large ones as a whole.
    most = ("--rate", 3333334, "--batch", 50, "--numbers", 3500000000, "--peak", 10**7, "--changes", 20000)
    parts = plan(*most)
    assert parts["machines_per_copy"] == 4 and parts["needs_parts"] and parts["partitions"] == 16, parts
    assert plan("--rate", 1000, "--numbers", 5 * 10**9)["partitions"] == 20  # over 5
    together = plan(*most, "--memory", "96G")
    assert parts["worker_lookups_per_second"] < together["worker_lookups_per_second"], "a request is split"
    whole = plan(*most, "--memory", "96G", "--processors", 4)
    assert whole["machines_per_copy"] == 1 and whole["machine_lookups_per_second"] * whole["copies"] >= 10**7, whole
    # Lone lookups want more of them: each copy has its share.
    lone = plan("--rate", 1000, "--numbers", 10**8, "--peak", 10**7)
    assert lone["copies"] == 16 and lone["copies"] * lone["machine_lookups_per_second"] >= 10**7, lone
    # The log in Redis wants masters by its room.
    log = plan("--rate", 1000, "--numbers", 10**8, "--log-to-redis")
    assert log["redis_bytes"] > log["redis_bytes"] - log["feed_bytes"] > 1e11 and log["redis_masters"] > 10, log
    assert plan("--rate", 1000, "--numbers", 10**8, "--changes", 10**6)["too_many_changes"]
    text = servers.ctl("plan", *most)
    assert "does not fit on one machine" in text and "--partitions 16" in text and "and 4 of them" in text and "18.5 bytes" in text and "50 % busy" in text, text
    for wrong in (("--memory", "x"), ("--memory", "24GB"), ("--memory", "1G"), ("--copies", 0), ("--numbers", "many")):
        servers.ctl("plan", "--rate", 1, "--numbers", 1, *wrong, status=64)


def test_refuse_policy():
    """With refuse, a log that is full answers UNAVAILABLE and /readyz fails; with drop, events are counted lost."""
    for policy in ("refuse", "drop"):
        with servers.temporary_folder() as folder, \
                servers.Numberd(folder / "data", "--redis", f"redis://127.0.0.1:{servers.free_port()}", "--query-log-full",
                                policy, "--query-log-bytes", "1M", "--drain-seconds", "0") as server, \
                Client(server.port) as client:
            def fill():
                reply = client.ask(numbers(LOOKUP, [BASE] * 10000))
                return reply.code == UNAVAILABLE or log_of(server)["lost"] > 0
            servers.wait_until(fill, "the log is full")
            if policy == "refuse":
                reply = client.ask(numbers(LOOKUP, [BASE]))
                assert reply.code == UNAVAILABLE and reply.retry_after_ms > 0 and reply.count == 0
                assert client.ask(frame(PING)).code == OK
                try:
                    server.get("/readyz")
                    raise AssertionError("ready though the log is full")
                except servers.urllib.error.HTTPError as error:
                    assert error.code == 503
            else:
                assert client.lookup([BASE]) == [0]
                assert server.get("/readyz") == "ready\n"
            log_of(server)


if __name__ == "__main__":
    servers.run_tests(globals())
