"""Everything at once, for minutes: lookups and registrations with checks, connections that come and go, each flood in turn, a
Redis that is killed, stopped and started again, reloads, snapshots, disclosures, and looks at the statistics. Started by
soak.sh.

Each activity is a thread that notes what it did and what was wrong. The registrations are bounded: so many numbers, which are
registered, moved and removed over and over; what grows is Redis and the files. Memory is looked at between two floods, when
their connections are gone. It is flat when the median of jemalloc's allocated bytes over the last third of the samples is not
above that of the middle third by more than 5 % and 512 KiB, and the same for RssAnon with 5 % and 4 MiB: the first third is for
caches and tables to fill, medians are for what is allocated just then, and the constants are for small processes. Under a
sanitizer there are no such figures; there its own reports are what is looked for."""
import argparse
import json
import os
import pathlib
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

import crash
import servers
from certificates import Authority
from client import *  # noqa: F403 -- the protocol's names

COUNT = 100_000  # registered numbers that do not change
WRITERS = 4
FLOOD_SECONDS = 8
MIB = 1 << 20
ACTIVITIES = ("lookups", "registrations", "churn", "floods", "redis", "reloads", "snapshots", "disclosures", "statistics")
CHURN_PRINCIPAL = 5
UNREGISTERED = 447799_000_000  # and a million behind it: no writer's, and not among the population


def floods(tls_ca):
    """(port, arguments) of each; the attackers have a token where they need one to get further."""
    many = ("--from", "127.1.0.1", "--addresses", 500)
    return [
        ("plain", ("connects", "--from", "127.0.0.2", "--rate", 5000, "--first-bytes", 1)),
        ("plain", ("connects", *many, "--rate", 5000)),
        ("plain", ("half", "--from", "127.0.0.3", "--connections", 3000, "--first-bytes", 1)),
        ("plain", ("half", *many, "--connections", 2000, "--rate", 1000)),
        ("plain", ("slow-send", "--from", "127.0.0.4", "--connections", 300, "--token-file")),
        ("plain", ("slow-read", "--from", "127.0.0.5", "--connections", 8, "--token-file")),
        ("plain", ("slow-read", "--from", "127.0.0.6", "--connections", 4, "--read-bytes", 20_000, "--token-file")),
        ("plain", ("garbage", "--from", "127.0.0.7", "--connections", 8, "--rate", 500)),
        ("tls", ("garbage", "--from", "127.0.0.8", "--connections", 8, "--rate", 500)),
        ("tls", ("half", "--from", "127.0.0.9", "--connections", 500)),
        ("tls", ("hellos", *many, "--connections", 32, "--rate", 300, "--tls-ca", tls_ca)),
        ("tls", ("handshakes", *many, "--connections", 32, "--rate", 100, "--tls-ca", tls_ca)),
    ]


def proxy_header(ip):
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H4s4sHH", 12, socket.inet_aton(ip), socket.inet_aton("127.0.0.1"), 1, 2)


class Redis(servers.Redis):
    """With a file of its commands: what it has confirmed is there after a kill."""

    def __init__(self):
        super().__init__("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction")

    def is_loaded(self):
        return self.process.poll() is None and "loading:0" in self.command("INFO", "persistence")

    def events(self):
        """In all frames of all streams, frame headers read by hand (persist/QUERYLOG.md); some frames at a time."""
        script = """local n, last = 0, ARGV[1]
            local entries = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', 200)
            for _, entry in ipairs(entries) do
                n, last = n + struct.unpack('<I4', string.sub(entry[2][2], 29, 32)), '(' .. entry[1]
            end
            return {n, last, #entries}"""
        total = 0
        for key in self.command("KEYS", "querylog:{*"):
            last, size = "-", 1
            while size:
                count, last, size = self.command("EVAL", script, 1, key, last)
                total, size = total + int(count), int(size)
        return total


class Soak:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.seconds = options.minutes * 60
        self.is_slow = options.preset == "asan"
        self.stop = threading.Event()
        self.done = dict.fromkeys(ACTIVITIES, 0)
        self.faults = {}
        self.redis_lock = threading.Lock()  # taken by who troubles Redis, and by who needs it
        self.samples = []
        self.flooding = ""
        self.looked_up = 0

    def fault(self, name, text):
        self.faults.setdefault(name, []).append(text)
        print(f"FAULT {name}: {text}", flush=True)

    def pause(self, seconds):
        return self.stop.wait(seconds)

    def go_on(self):
        return not self.stop.is_set()

    # --- set-up ---

    def make_token(self, name, principal, roles):
        """Attackers have a budget: without one their questions fill Redis, some ten MB a second, and with it the machine's memory."""
        path = self.folder / f"{name}.token"
        budget = "5000000/2000000" if name == "attacker" else "none"
        path.write_text(servers.ctl("token", "add", self.tokens, "--principal", principal, "--roles", roles, "--budget", budget))
        return path

    def prepare(self):
        self.tokens = self.folder / "tokens"
        self.authority = Authority(self.folder)
        self.certificate, self.key = self.authority.sign("server")
        self.token_files = {name: self.make_token(name, principal, roles) for name, principal, roles in (
            ("lookup", 1, "lookup"), ("writer", 2, "register,lookup"), ("operator", 3, "operate"), ("attacker", 4, "lookup"),
            ("churn", CHURN_PRINCIPAL, "lookup"))}
        population = subprocess.run([servers.BIN / "numberload", "generate", "--count", str(COUNT)], capture_output=True, check=True)
        (self.folder / "population.csv").write_bytes(population.stdout)
        servers.ctl("import", "--data-dir", self.folder / "data", self.folder / "population.csv")
        self.known = [int(line.split(b",")[0].lstrip(b"+")) for line in population.stdout.splitlines()[1:2001]]
        self.writers = [crash.Writer(i, self.options.seed) for i in range(WRITERS)]

    def server_flags(self):
        return ("--token-file", self.tokens, "--tls-listen", "127.0.0.1:0", "--tls-certificate", self.certificate, "--tls-key",
                self.key, "--proxy-listen", "127.0.0.1:0", "--proxy-from", "127.0.0.1", "--threads", "2", "--patience-seconds", "4",
                "--connections-max", "6000", "--connections-per-address", "2048", "--snapshot-minutes", "1", "--journal-bytes", "16M",
                "--buffer-bytes-max", "32M", "--drain-seconds", "20")

    def token(self, name):
        return self.token_files[name].read_text().strip().encode()

    # --- activities ---

    def lookups(self):
        """Open loop, by turns over the plain port and under TLS; numberload checks each answer."""
        rate = 5000 if self.is_slow else 20_000
        ports = ((self.server.port, ()), (self.server.tls_port, ("--tls-ca", self.authority.certificate)))
        for turn in range(1 << 30):
            if not self.go_on():
                return
            port, more = ports[turn % 2]
            command = ["numberload", "run", "--server", f"127.0.0.1:{port}", "--count", COUNT, "--batch", 16, "--connections", 8,
                       "--rate", rate, "--seconds", 5, "--token-file", self.token_files["lookup"], *more, "--json"]
            result = subprocess.run([servers.BIN / command[0], *map(str, command[1:])], capture_output=True, text=True, timeout=120)
            report = json.loads(result.stdout) if result.stdout else {}
            bad = {name: report.get(name) for name in ("wrong", "broken", "limited", "unavailable") if report.get(name) != 0}
            if result.returncode != 0 or bad:
                self.fault("lookups", f"status {result.returncode}, {bad}, {result.stderr[-2000:]}")
            self.done["lookups"] += report.get("numbers", 0)

    def registrations(self, writer):
        """Pipelined requests, whose every status is foretold; at the end of each connection all of the numbers are looked up."""
        while self.go_on():
            with Client(self.server.port, token=self.token("writer")) as connection:
                window = writer.random.choice([1, 4, 16])
                for _ in range(40):
                    connection.send(writer.make_request())
                    if len(writer.sent) >= window:
                        writer.take_reply(connection.receive())
                    self.pause(0.02)
                while writer.sent:
                    writer.take_reply(connection.receive())
                expected = [writer.state.get(number) for number in writer.numbers]
                if connection.records(writer.numbers) != expected:
                    self.fault("registrations", "lookups do not find what was acknowledged")
            self.done["registrations"] = sum(each.acknowledged for each in self.writers)

    def churn(self):
        """Connections on all ports that ask once, and end in all ways."""
        source = random.Random(f"{self.options.seed} churn")
        token, context = self.token("churn"), self.authority.context()
        while self.go_on():
            known, unknown = source.choice(self.known), UNREGISTERED + source.randrange(1_000_000)
            way = source.choice(("plain", "tls", "proxy"))
            options = {"plain": {"port": self.server.port}, "tls": {"port": self.server.tls_port, "tls": context},
                       "proxy": {"port": self.server.proxy_port, "first": proxy_header(f"192.0.2.{source.randrange(1, 255)}")}}[way]
            with Client(token=token, **options) as client:
                if client.lookup([known, unknown, 12]) != [REGISTERED, NOT_REGISTERED, INVALID]:
                    self.fault("churn", "a wrong answer")
                self.done["churn"] += 1
                end = source.choice(("close", "goodbye", "reset", "half a frame", "unread"))
                if end == "goodbye" and client.ask(frame(GOODBYE)).code != OK:
                    self.fault("churn", "no goodbye")
                if end == "half a frame":
                    client.send(numbers(LOOKUP, [known] * 100)[:100])
                if end == "unread":
                    client.send(numbers(LOOKUP, [known] * 100) * 3)
                if end == "reset":
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.pause(0.02)

    def floods(self):
        """Each in turn; between two of them their connections are gone, and memory is looked at."""
        turns = floods(self.authority.certificate)
        attacker = self.token_files["attacker"]
        for turn in range(1 << 30):
            if not self.go_on():
                return
            door, arguments = turns[turn % len(turns)]
            port = self.server.tls_port if door == "tls" else self.server.port
            arguments = (*arguments, attacker) if arguments[-1] == "--token-file" else arguments
            self.flooding = f"{arguments[0]} at {door}"
            result = subprocess.run([servers.BIN / "numberflood", *map(str, arguments), "--server", f"127.0.0.1:{port}", "--seconds",
                                     str(FLOOD_SECONDS), "--json"], capture_output=True, text=True, timeout=120)
            report = json.loads(result.stdout) if result.returncode == 0 else {}
            if report.get("connects", 0) == 0:
                self.fault("floods", f"{arguments}: status {result.returncode}, {report} {result.stderr[-2000:]}")
            self.flooding = ""
            self.done["floods"] += 1
            servers.wait_until(lambda: not self.go_on() or self.server.stats()["connections_open"] < 100,
                               "the flood's connections are gone", pause=0.2)
            self.pause(1)
            self.sample()

    def redis_troubles(self):
        """Killed and started again, asked to stop, held for some seconds."""
        source = random.Random(f"{self.options.seed} redis")
        while not self.pause(source.uniform(5, 20)):
            with self.redis_lock:
                kind = source.choice(("kill", "shutdown", "hold"))
                if kind == "hold":
                    self.redis.process.send_signal(signal.SIGSTOP)
                    time.sleep(source.uniform(0.5, 3))
                    self.redis.process.send_signal(signal.SIGCONT)
                else:
                    self.redis.process.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
                    self.redis.process.wait(servers.PATIENCE)
                    time.sleep(source.uniform(0, 2))
                    if not self.redis.start():
                        self.fault("redis", "redis-server does not start again")
                    # Gigabytes, beside all else that runs.
                    servers.wait_until(self.redis.is_loaded, "Redis has read its file", seconds=600)
                self.done["redis"] += 1

    def reloads(self):
        """SIGHUP with another token file, and with a renewed certificate."""
        for turn in range(1 << 30):
            if self.pause(6):
                return
            if turn % 2:
                self.authority.sign("server", key=self.key)
            else:
                token = servers.ctl("token", "add", self.tokens, "--principal", 99, "--roles", "lookup").strip()
            os.kill(self.server.process.pid, signal.SIGHUP)
            if not turn % 2:
                with_new = lambda: self.is_let_in(token)  # noqa: E731
                servers.wait_until(with_new, "the new token counts", pause=0.2)
                servers.ctl("token", "revoke", self.tokens, token[4:16])
            self.done["reloads"] += 1

    def is_let_in(self, token):
        with Client(self.server.port, greet=False) as client:
            return client.ask(hello(token.encode())).code == OK

    def snapshots(self):
        while not self.pause(10):
            with Client(self.server.port, token=self.token("operator")) as operator:
                reply = operator.ask(frame(SNAPSHOT))
                if reply.code != OK:
                    self.fault("snapshots", f"code {reply.code}")
            self.done["snapshots"] += 1

    def disclosures(self):
        """What the churn has asked for; there is more each time."""
        rows = 0
        while not self.pause(20):
            with self.redis_lock:
                text = servers.disclose(self.server.data_dir, "--requester", CHURN_PRINCIPAL, "--redis", self.redis.url)
            found = len(text.splitlines()) - 1
            if found <= rows:
                self.fault("disclosures", f"{found} rows after {rows}")
            rows = found
            self.done["disclosures"] += 1

    def statistics(self):
        while not self.pause(1):
            self.look_at(self.server.stats())
            metrics = self.server.get("/metrics")
            if not re.search(r"^numberd_ready 1$", metrics, re.M):
                self.fault("statistics", "not ready")
            self.done["statistics"] += 1

    def look_at(self, stats):
        log = stats["query_log"]
        if log["looked_up"] != log["stored"] + log["in_flight"] + log["lost"] or min(log["stored"], log["in_flight"], log["lost"]) < 0:
            self.fault("statistics", f"the log's equation: {log}")
        if log["looked_up"] < self.looked_up:
            self.fault("statistics", f"looked up fell from {self.looked_up}: {log}")
        self.looked_up = log["looked_up"]
        if stats["journal"]["read_only"] or stats["journal"]["failures"] or stats["snapshot"]["good_number"] < stats["snapshot"]["number"]:
            self.fault("statistics", f"journal or snapshot failed: {stats['journal']} {stats['snapshot']}")

    # --- memory ---

    def sample(self):
        allocator = self.server.stats().get("allocator")
        status = pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text()
        rss = int(re.search(r"RssAnon:\s+(\d+)", status)[1]) * 1024
        self.samples.append({"at": time.monotonic() - self.begun, "RssAnon": rss,
                             **{name.removesuffix("_bytes"): value for name, value in (allocator or {}).items()}})

    def print_memory(self):
        """One line a minute: the medians of its samples, in MiB."""
        names = list(self.samples[0])[1:] if self.samples else []
        print("minute " + "".join(f"{name:>12}" for name in names) + "   MiB, medians of the samples between two floods")
        for minute in range(int(self.options.minutes) + 2):
            samples = [sample for sample in self.samples if sample["at"] // 60 == minute]
            if samples:
                print(f"{minute:<7}" + "".join(f"{statistics.median(s[name] for s in samples) / MIB:>12.2f}" for name in names))

    def is_flat(self):
        """None: there is nothing to judge by."""
        third = len(self.samples) // 3
        if third < 3 or "allocated" not in self.samples[0]:
            return None
        good = True
        for name, slack in (("allocated", MIB // 2), ("RssAnon", 4 * MIB)):
            middle, last = (statistics.median(sample[name] for sample in self.samples[begin:begin + third])
                            for begin in (len(self.samples) - 2 * third, len(self.samples) - third))
            good = good and last <= 1.05 * middle + slack
            print(f"{name}: {middle / MIB:.2f} MiB in the middle third, {last / MIB:.2f} MiB in the last ({100 * last / middle - 100:+.1f} %)")
        return good

    # --- the run ---

    def guard(self, name, activity, *arguments):
        try:
            activity(*arguments)
        except Exception as error:  # noqa: BLE001 -- of whatever kind, it is this activity's fault
            self.fault(name, f"{type(error).__name__}: {error} (flood: {self.flooding or 'none'})")

    def start_activities(self):
        work = [("lookups", self.lookups), ("churn", self.churn), ("floods", self.floods), ("redis", self.redis_troubles),
                ("reloads", self.reloads), ("snapshots", self.snapshots), ("disclosures", self.disclosures),
                ("statistics", self.statistics), *(("registrations", self.registrations, writer) for writer in self.writers)]
        threads = [threading.Thread(target=self.guard, args=each) for each in work]
        for thread in threads:
            thread.start()
        return threads

    def progress(self):
        now = time.monotonic() - self.begun
        print(f"{now:5.0f} s  " + ", ".join(f"{name} {self.done[name]}" for name in ACTIVITIES) +
              f"; looked up {self.looked_up}" + (f"; now {self.flooding}" if self.flooding else ""), flush=True)

    def run_activities(self):
        self.begun = time.monotonic()
        threads = self.start_activities()
        end = self.begun + self.seconds
        while time.monotonic() < end and self.server.process.poll() is None and any(thread.is_alive() for thread in threads):
            time.sleep(max(0.0, min(60.0 - (time.monotonic() - self.begun) % 60.0, end - time.monotonic())))
            self.progress()
        self.stop.set()
        for thread in threads:
            thread.join()

    def settle(self):
        """When nobody asks any more: the log has all in Redis, each event once, or counts it as lost."""
        servers.wait_until(lambda: self.server.stats()["query_log"]["in_flight"] == 0, "the log is empty", 120, 0.5)
        stats = self.server.stats()
        log, events = stats["query_log"], self.redis.events()
        answers = sum(stats["lookups"].values()) - stats["limited_unlogged"]
        if not answers == log["looked_up"] == log["stored"] + log["lost"] or events != log["stored"]:
            self.fault("statistics", f"answers {answers}, in Redis {events}, the log: {log}")
        print(f"answers {answers}, stored {log['stored']}, in Redis {events}, lost {log['lost']}; LIMITED "
              f"{stats['lookups']['limited']}; evicted for memory "
              f"{stats.get('connections_evicted', 0)}, slow {stats['connections_slow']}, refused {stats['connections_refused']}")

    def verify_restart(self):
        """What was acknowledged is there after the stop."""
        with servers.Numberd(self.folder / "data", "--token-file", self.tokens) as server:
            servers_run = subprocess.run([servers.BIN / "numberload", "verify", "--server", server.address, "--count", str(COUNT),
                                          "--token-file", self.token_files["lookup"]], capture_output=True, text=True, timeout=300)
            if servers_run.returncode != 0:
                self.fault("restart", f"the population: {servers_run.stdout} {servers_run.stderr}")
            with Client(server.port, token=self.token("writer")) as connection:
                for writer in self.writers:
                    if connection.records(writer.numbers) != [writer.state.get(number) for number in writer.numbers]:
                        self.fault("restart", "a writer's numbers are not as they were acknowledged")
            registered = server.stats()["directory"]["registered"]
            expected = COUNT + sum(len(writer.state) for writer in self.writers)
            if registered != expected:
                self.fault("restart", f"{registered} numbers, not {expected}")

    def look_for_reports(self, log):
        found = re.search(r".*(ERROR: \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer).*", log)
        if found:
            self.fault("sanitizer", found[0])

    def run(self):
        self.prepare()
        with Redis() as self.redis:
            self.server = servers.Numberd(self.folder / "data", "--redis", self.redis.url, *self.server_flags())
            try:
                with self.server:
                    self.run_activities()
                    self.guard("statistics", self.settle)
                    if self.server.process.poll() is not None:
                        self.fault("stop", f"numberd ended by itself with {self.server.process.returncode}")
            except AssertionError as error:
                self.fault("stop", str(error))
            self.look_for_reports(self.server.log or "")
        self.guard("restart", self.verify_restart)
        for name in ACTIVITIES:
            if self.done[name] == 0:
                self.fault(name, "nothing was done")
        self.print_memory()
        checks = [*ACTIVITIES, "sanitizer", "stop", "restart"]
        flat = self.is_flat()
        if flat is not None:
            checks.append("flat memory")
        if flat is False:
            self.fault("flat memory", "it grows")
        return checks


def main():
    parser = argparse.ArgumentParser(prog="soak.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--preset", choices=("asan", "release"), required=True)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="numberd-soak-", dir="/var/tmp") as folder:
        soak = Soak(options, pathlib.Path(folder))
        checks = soak.run()
        servers.forget_counters(pathlib.Path(folder))
    for name in checks:
        print(f"{'FAIL' if name in soak.faults else 'ok':<5} {name}")
    failed = len(soak.faults)
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
