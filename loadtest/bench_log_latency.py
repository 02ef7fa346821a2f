#!/usr/bin/python3
"""bench_log_latency: whether lookups keep their latency whatever Redis does with the query log of numberd.

    build/release/bin/bench_log_latency [--json] [--list] [--only NAME] [--quick] [--bin DIR] [--dir DIR]

--list names the rows; --only NAME runs one, or all that begin with NAME_; --quick ends within a minute, and its figures mean
nothing; --json one object a line. One numberd, which sends its query log to a Redis that writes each command to the disk, is
asked in an open loop at half of what it can do. A round with a healthy Redis and one with a troubled Redis take turns; each
ratio is of the median of a trouble's rounds over the median of all healthy ones: single rounds are at the mercy of the
machine, whose hiccups are longer than a percentile. Before each round the log has caught up, the events in Redis are counted
(none may be lost, what was sent again must be there once), and their streams are emptied. What is wrong ends the benchmark
without figures. It takes about 8 minutes (with one trouble alone, too: it has the more rounds then) and 1 GB of disk in --dir
(default: a new folder in /var/tmp, which must not be in memory), and wants Debian's redis-server and redis-tools."""
import contextlib
import itertools
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import statistics
import subprocess
import time

from bench_base import AT_MOST, MIB, PATIENCE, Bench, Numberd, Others, check, main, wait_until
from redis_events import events_in

# name, unit, kind of bar, bar, about
ROWS = [
    ("lookups_max", "M/s", None, None, "lookups by 64 connections, each with one request of 16 under way"),
    ("healthy_p999", "ms", None, None, "a request's 99.9th percentile at half of that, open loop, with a healthy Redis"),
    ("slow", "ratio", AT_MOST, 1.2, "that percentile while Redis is stopped for 0.9 s of each second, over healthy"),
    ("refusing", "ratio", AT_MOST, 1.2, "while Redis takes nothing since its memory is full, over healthy"),
    ("away", "ratio", AT_MOST, 1.2, "while Redis is not there, over healthy"),
    ("restarted", "ratio", AT_MOST, 1.2, "while Redis is killed and started again each second, over healthy"),
    ("cut", "ratio", AT_MOST, 1.2, "while the connection to Redis is cut in mid-reply again and again, over healthy"),
    ("memory", "MiB", AT_MOST, 64, "RssAnon of numberd: the most in the whole run, less what it was before the first lookup"),
    ("others", "percent", None, None, "of the processors' time meanwhile, what no program of this benchmark used"),
]
N = 1_000_000


class Latency(Bench):
    def __init__(self, options, folder):
        super().__init__(options, ROWS, folder)
        self.seconds, self.rounds = (1, 2) if options.quick else (2, 15)

    def report(self, name, values):
        super().report(name, N, values)


# --- programs under test ---

class Redis:
    """With an append-only file that is on the disk before the answer, so that what it confirmed outlives a kill. numberd
    knows a symbolic link, which leads to its socket or to what stands between."""

    def __init__(self, folder):
        self.folder, self.socket, self.link = folder, folder / "redis", folder / "link"
        self.url = f"unix://{self.link}"
        check(len(os.fsencode(self.socket)) < 100, f"{folder} is too long a name for a folder with sockets")

    def __enter__(self):
        self.lead_to(self.socket)
        self.start()
        try:
            check(self.command("CONFIG", "GET", "appendfsync")[1:] == ["always"], "Redis does not sync always")
            check("aof_enabled:1" in self.command("INFO", "persistence"), "Redis has no append-only file")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *trace):
        self.stop()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", self.folder, "--save", "", "--maxmemory-policy",
             "noeviction", "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(self.answers, self.process, "redis-server's start")
        except BaseException:
            self.stop()
            raise

    def stop(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def answers(self):
        """Maybe that it is still reading its file."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.socket))
            return True
        return False

    def lead_to(self, path):
        new = self.folder / "new-link"
        new.symlink_to(path)
        new.replace(self.link)

    def command(self, *arguments):
        return subprocess.run(["redis-cli", "-s", self.socket, "-e", *map(str, arguments)], capture_output=True, text=True,
                              check=True, timeout=PATIENCE).stdout.split()

    def events(self):
        return events_in(self)

    def empty(self):
        """But for the streams' last entries, by which the sink sees that nothing was lost; its file, too. They refuse still what
        they have had."""
        for key in self.command("KEYS", "querylog:{*"):
            self.command("XTRIM", key, "MAXLEN", 1)
        self.command("BGREWRITEAOF")
        wait_until(self.is_rewritten, self.process, "Redis rewriting its file")
        check("aof_last_bgrewrite_status:ok" in self.command("INFO", "persistence"), "Redis could not rewrite its file")

    def is_rewritten(self):
        return {"aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"} <= set(self.command("INFO", "persistence"))


# --- troubles ---
# Each begins and ends with the block, and gives what is to be done again and again in it. That gets a function that lets
# seconds pass, less when the round is over.

@contextlib.contextmanager
def no_trouble(_redis):
    yield lambda pause: pause(0.1)


@contextlib.contextmanager
def slow(redis):
    def step(pause):
        redis.process.send_signal(signal.SIGSTOP)
        pause(0.9)
        redis.process.send_signal(signal.SIGCONT)
        pause(0.1)
    yield step


@contextlib.contextmanager
def refusing(redis):
    redis.command("CONFIG", "SET", "maxmemory", "1")
    yield lambda pause: pause(0.1)
    redis.command("CONFIG", "SET", "maxmemory", "0")


@contextlib.contextmanager
def away(redis):
    redis.stop()
    yield lambda pause: pause(0.1)
    redis.start()


@contextlib.contextmanager
def restarted(redis):
    def step(pause):
        redis.stop()
        redis.start()
        pause(1)
    yield step


@contextlib.contextmanager
def cut(redis):
    with Cutter(redis.folder / "cutter", redis.socket) as cutter:
        redis.lead_to(cutter.path)
        redis.command("CLIENT", "KILL", "TYPE", "normal")
        yield cutter.step
        redis.lead_to(redis.socket)
    check(cutter.cuts >= 1, f"the connection was cut {cutter.cuts} times")


class Cutter:
    """Stands between numberd and Redis, for one connection at a time. Closes each in the middle of a piece of the replies,
    counted from the first transaction on; some live long enough for transactions to get through."""

    def __init__(self, path, target):
        self.path, self.target, self.cuts, self.pair = path, target, 0, []
        self.pieces = itertools.cycle((30, 3, 60, 10))

    def __enter__(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        return self

    def __exit__(self, *trace):
        self.close_pair()
        self.listener.close()
        self.path.unlink()

    def close_pair(self):
        for end in self.pair:
            end.close()
        self.pair = []

    def step(self, pause):
        for _ in range(100):
            for source in select.select(self.pair or [self.listener], [], [], 0.01)[0]:
                if source is self.listener:
                    self.accept()
                elif not self.pass_on(source):
                    self.close_pair()
                    break
        pause(0)

    def accept(self):
        near, far = self.listener.accept()[0], socket.socket(socket.AF_UNIX)
        self.pair = [near, far]
        far.connect(str(self.target))
        self.in_transactions, self.left = False, next(self.pieces)

    def pass_on(self, source):
        """False when the connection is at its end."""
        near, far = self.pair
        try:
            data = source.recv(1 << 16)
            if source is near:
                self.in_transactions = self.in_transactions or b"MULTI" in data
                far.sendall(data)
                return len(data) > 0
            self.left -= self.in_transactions
            near.sendall(data if self.left > 0 else data[:len(data) // 2])
            self.cuts += self.left == 0
            return len(data) > 0 and self.left > 0
        except OSError:
            return False


# name, trouble, whether the log sees failures, whether it gets anything stored meanwhile
HEALTHY = ("healthy", no_trouble, False, True)
TROUBLES = [("slow", slow, False, True), ("refusing", refusing, True, False), ("away", away, True, False),
            ("restarted", restarted, True, True), ("cut", cut, True, True)]


# --- rounds ---

class Run:
    """One server and its Redis, round after round."""

    def __init__(self, bench, server, redis):
        self.bench, self.server, self.redis = bench, server, redis
        self.counted = 0  # events that were taken out of Redis

    def lookups(self, meanwhile, *arguments):
        """A report of numberload, which checks every answer by itself."""
        command = ["numberload", "run", "--server", self.server.address, "--count", N, "--batch", 16, *arguments, "--json"]
        with subprocess.Popen([self.bench.bin / command[0], *map(str, command[1:])], stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            while process.poll() is None:
                meanwhile(lambda seconds: self.pause(process, seconds))
            output, errors = process.communicate()
        check(process.returncode == 0, f"numberload ended with {process.returncode}: {errors[-500:]}")
        report = json.loads(output)
        check(report["wrong"] == report["unavailable"] == report["broken"] == report["limited"] == 0 < report["numbers"],
              f"the lookups: {report}")
        return report

    def pause(self, process, seconds):
        """Until the process ends at most; looks at the server's memory."""
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(0.1, max(0, end - time.monotonic())))
            self.server.memory.append(self.server.anonymous_kib())

    def closed_loop(self):
        """Lookups in a second."""
        report = self.lookups(lambda pause: pause(0.1), "--connections", 64, "--outstanding", 1, "--seconds", self.bench.seconds)
        return report["numbers_per_second"]

    def log(self):
        log = self.server.stats()["query_log"]
        check(log["looked_up"] == log["stored"] + log["in_flight"] + log["lost"], f"the log's equation: {log}")
        check(log["lost"] == 0 and log["accepting"], f"the log lost events: {log}")
        return log

    def settle(self):
        """Redis is healthy: all there exactly once, then emptied. The lookup shows the sink a connection that is gone."""
        self.lookups(lambda pause: pause(0.1), "--connections", 1, "--numbers", 16)
        wait_until(lambda: self.log()["in_flight"] == 0, self.server.process, "the log catching up")
        stats = self.server.stats()
        log, looked_up, events = self.log(), sum(stats["lookups"].values()), self.redis.events()
        check(log["looked_up"] == looked_up, f"{looked_up} lookups, the log: {log}")
        check(self.counted + events == log["stored"], f"of Redis were taken {self.counted} events, it has {events}, the log: {log}")
        self.redis.empty()
        self.counted += events - self.redis.events()

    def round(self, rate, name, trouble, fails, stores):
        """The 99.9th percentile in ms."""
        seconds = self.bench.seconds
        before = self.log()
        with trouble(self.redis) as meanwhile:
            report = self.lookups(meanwhile, "--connections", 64, "--rate", rate, "--seconds", seconds)
            after = self.log()
        # With less the latency is that of the tester's queue. A quick run is on a machine that does something else, too.
        check(self.bench.quick or report["numbers"] > 0.95 * rate * seconds, f"{name}: the open loop was not kept up with: {report}")
        check(after["looked_up"] - before["looked_up"] >= report["numbers"], f"{name}: lookups are not logged: {before} {after}")
        check((after["redis_failures"] > before["redis_failures"]) == fails, f"{name}: the sink's failures: {before} {after}")
        check((after["stored"] > before["stored"]) == stores, f"{name}: stored meanwhile: {before} {after}")
        check(name != "healthy" or self.bench.quick or after["in_flight"] < rate, f"{name}: the log does not keep up: {after}")
        self.settle()
        return report["latency_ns"]["p99.9"] / 1e6


def fill(bench, data_dir):
    with subprocess.Popen([bench.bin / "numberload", "generate", "--count", str(N)], stdout=subprocess.PIPE) as generate:
        report = json.loads(bench.run("numberctl", "import", "-", "--data-dir", data_dir, "--json", stdin=generate.stdout))
    check(report["added"] == report["rows"] == N and report["rejected"] == 0, f"the import: {report}")


def measure_rounds(bench, run, troubles):
    """Lookups in a second; percentiles of the healthy rounds, and of the others by the trouble's name."""
    most = statistics.median(run.closed_loop() for _ in range(3))
    run.settle()
    healthy, troubled = [], {trouble[0]: [] for trouble in troubles}
    for _ in range(bench.rounds * len(TROUBLES) // len(troubles)):
        for trouble in troubles:
            healthy.append(run.round(int(most / 2), *HEALTHY))
            troubled[trouble[0]].append(run.round(int(most / 2), *trouble))
    return most, healthy, troubled


def measure(bench):
    check(shutil.which("redis-server") and shutil.which("redis-cli"), "redis-server or redis-cli is not there")
    others = Others()
    # A row without a trouble of its own is over all of them.
    troubles = [trouble for trouble in TROUBLES if bench.wants(trouble[0])] or TROUBLES
    fill(bench, bench.folder / "data")
    (bench.folder / "redis").mkdir()
    with Redis(bench.folder / "redis") as redis, Numberd(bench, bench.folder / "data", "--redis", redis.url) as server:
        check(server.numbers == N, f"{server.numbers} numbers were loaded")
        server.memory = [server.anonymous_kib()]
        most, healthy, troubled = measure_rounds(bench, Run(bench, server, redis), troubles)
    bench.report("lookups_max", [most / 1e6])
    bench.report("healthy_p999", healthy)
    for name, values in troubled.items():
        bench.report(name, [value / statistics.median(healthy) for value in values])
    bench.report("memory", [(max(server.memory) - server.memory[0]) * 1024 / MIB])
    bench.report("others", [others.percent()])


if __name__ == "__main__":
    raise SystemExit(main(__doc__, ROWS, Latency, measure))
