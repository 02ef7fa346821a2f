#!/usr/bin/python3
"""bench_registrations: import, start, snapshots and acknowledged registrations of numberd, against this machine's disk
and against Redis.

    build/release/bin/bench_registrations [--json] [--list] [--only NAME] [--n N] [--quick] [--bin DIR] [--dir DIR]

--list names the rows; --only NAME runs one, or all that begin with NAME_; --n N sets the size (100 million; --quick: a
size that ends within 30 s, whose figures mean nothing); --json one object a line. Each figure is the median of several
rounds; who is compared with each other takes turns, in the same folder. All counts are checked: what is wrong ends it.
With 100 million it takes about 15 minutes, 10 GB of disk in --dir (default: a new folder in /var/tmp, which must not be
in memory) and 8 GB of memory. The comparison with Redis wants Debian's redis-server and redis-tools."""
import contextlib
import csv
import json
import mmap
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

from bench_base import AT_LEAST, AT_MOST, MIB, PATIENCE, Bench, Numberd, Others, check, main, wait_until

# name, unit, kind of bar, bar, about
ROWS = [
    ("import", "M rows/s", AT_LEAST, 6,
     "numberctl import --data-dir of a CSV that the page cache has, into an empty directory, on the disk at its end"),
    ("import_others", "percent", None, None, "of the processors' time then, what no program of this benchmark used"),
    ("start_memory_new", "MB/s", None, None, "memory that the kernel provides after a pause; what free memory costs on this machine"),
    ("start_memory_held", "MB/s", None, None, "the same right after that; far above it on a virtual machine that gives free memory back"),
    ("start", "s", None, None,
     "numberd from its start until it answers, on that directory, nothing in the page cache, memory held as in the row before"),
    ("start_disk_read", "MB/s", None, None, "the same snapshot read in turn with that, as cold, in order, by 1 MiB, memory as for it"),
    ("start_over_disk", "ratio", AT_LEAST, 0.6, "the snapshot's bytes over the time of the start, over start_disk_read"),
    ("start_new", "s", None, None, "as start, with memory as the machine happens to have it"),
    ("start_new_over_disk", "ratio", None, None, "as start_over_disk, for start_new"),
    ("start_others", "percent", None, None, "the same then"),
    ("snapshot_lookups_max", "M/s", None, None, "lookups by 64 connections, each with one request of 16 under way"),
    ("snapshot_p999_without", "ms", None, None, "a request's 99.9th percentile at half of that, open loop"),
    ("snapshot_p999_with", "ms", None, None, "the same while snapshots are written back to back"),
    ("snapshot_p999_over_without", "ratio", AT_MOST, 1.5, "of rounds in turn: with over without"),
    ("snapshot_seconds", "s", None, None, "a snapshot under that load"),
    ("snapshot_memory", "percent", AT_MOST, 2, "RssAnon: the most while snapshots are written, over the most before the first"),
    ("snapshot_others", "percent", None, None, "as import_others, then"),
    ("register_loaded", "M/s", None, None, "new registrations acknowledged, 64 clients with batches of 64, by that server"),
    ("register_fdatasync", "1/s", None, None, "4 KiB written and fdatasync, one after the other, in a file that was written before"),
    ("register_fdatasync_fresh", "1/s", None, None, "the same in a file that was only allocated"),
    ("register", "M/s", None, None, "registrations acknowledged, 64 clients with batches of 64, durability always, from 0"),
    ("register_p50", "ms", None, None, "of such a batch, from its sending to its answer"),
    ("register_p99", "ms", None, None, "the same"),
    ("register_p999", "ms", None, None, "the same"),
    ("register_over_fdatasync", "ratio", AT_LEAST, 200, "registrations for each fdatasync that the disk could do alone"),
    ("register_others", "percent", None, None, "as import_others, then and for the next rows"),
    ("redis_sadd", "M/s", None, None, "SADD of 12-digit numbers to one set, redis-benchmark -c 64 -P 64, appendfsync always, from 0"),
    ("redis_register_over_sadd", "ratio", AT_LEAST, 3, "of rounds in turn: register over redis_sadd"),
]


class Registrations(Bench):
    def __init__(self, options, folder):
        super().__init__(options, ROWS, folder)
        self.n = options.n or (200_000 if options.quick else 100_000_000)

    def load(self, server, *arguments):
        """A report of numberload, which checks every answer by itself."""
        report = json.loads(self.run("numberload", *arguments, "--server", server.address, "--json"))
        check(report["wrong"] == 0 and report.get("unavailable", 0) == 0 and report.get("broken", 0) == 0,
              f"numberload {arguments[0]}: {report}")
        return report

    @contextlib.contextmanager
    def subfolder(self, name):
        path = self.folder / name
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path)


# --- programs under test ---

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Redis:
    """With an append-only file that is on the disk before the answer. It is not rewritten meanwhile."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        self.port = free_port()
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, "--save", "",
             "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self.answers, self.process, "redis-server's start")
        check(self.command("CONFIG", "GET", "appendfsync")[1:] == ["always"], "Redis does not sync always")
        check("aof_enabled:1" in self.command("INFO", "persistence"), "Redis has no append-only file")
        return self

    def __exit__(self, *trace):
        self.process.kill()
        self.process.wait(PATIENCE)

    def answers(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def command(self, *arguments):
        return subprocess.run(["redis-cli", "-p", str(self.port), *arguments], capture_output=True, text=True,
                              check=True).stdout.split()


# --- import and start ---

def read_through(path):
    """Bytes in a second; afterwards the page cache has the file."""
    buffer = bytearray(MIB)
    size = 0
    started = time.monotonic()
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(buffer):
            size += got
    seconds = time.monotonic() - started
    check(size == path.stat().st_size, f"{path} changed meanwhile")
    return size / seconds


def import_once(bench, rows, data_dir):
    """Rows in a second."""
    read_through(rows)
    started = time.monotonic()
    report = json.loads(bench.run("numberctl", "import", rows, "--data-dir", data_dir, "--json"))
    seconds = time.monotonic() - started
    check(report["added"] == report["rows"] == bench.n and report["rejected"] == 0, f"the import: {report}")
    return bench.n / seconds


def fill(bench, data_dir):
    """The directory that the next rows want, in as many rounds as the import's row wants."""
    rounds = 3 if bench.wants("import") else 1
    rates = []
    with bench.subfolder("csv") as folder:
        with (folder / "rows.csv").open("w") as file:
            subprocess.run([bench.bin / "numberload", "generate", "--count", str(bench.n)], stdout=file, check=True)
        others = Others()
        for i in range(rounds):
            if i > 0:
                shutil.rmtree(data_dir)
            rates.append(import_once(bench, folder / "rows.csv", data_dir) / 1e6)
    bench.report("import", bench.n, rates)
    bench.report("import_others", bench.n, [others.percent()])


def drop_from_page_cache(path):
    with path.open("rb") as file:
        os.fsync(file.fileno()) # what is not on the disk can't be dropped
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


MADV_HUGEPAGE, MADV_POPULATE_WRITE = 14, 23


def hold_memory(size):
    """Bytes in a second that the kernel provides. Afterwards they are free, and the machine surely has them: a virtual machine
    gives what is free back to its host after some seconds, and has it again at a twentieth of the speed of memory."""
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(MADV_HUGEPAGE)
        started = time.monotonic()
        memory.madvise(MADV_POPULATE_WRITE)
        return size / (time.monotonic() - started)


def measure_start_once(bench, data_dir, held):
    """Seconds, and the disk's bytes in a second; both with `held` bytes of memory that the machine has, if not 0."""
    snapshot, = (data_dir / "snapshots").glob("*.snapshot")
    drop_from_page_cache(snapshot)
    if held > 0:
        hold_memory(held)
    disk = read_through(snapshot)
    for path in data_dir.rglob("*"):
        if path.is_file():
            drop_from_page_cache(path)
    if held > 0:
        hold_memory(held)
    with Numberd(bench, data_dir) as server:
        check(server.numbers == bench.n, f"{server.numbers} numbers were loaded")
        return server.start_seconds, disk


def measure_start(bench, data_dir):
    snapshot, = (data_dir / "snapshots").glob("*.snapshot")
    size = snapshot.stat().st_size
    others = Others()
    time.sleep(0 if bench.quick else 10)
    bench.report("start_memory_new", bench.n, [hold_memory(3 * size) / 1e6])
    bench.report("start_memory_held", bench.n, [hold_memory(3 * size) / 1e6])
    rounds = 3 if bench.quick else 15
    held = [measure_start_once(bench, data_dir, 3 * size) for _ in range(rounds)]
    bench.report("start", bench.n, [seconds for seconds, _ in held])
    bench.report("start_disk_read", bench.n, [disk / 1e6 for _, disk in held])
    bench.report("start_over_disk", bench.n, [size / seconds / disk for seconds, disk in held])
    new = [measure_start_once(bench, data_dir, 0) for _ in range(rounds)]
    bench.report("start_new", bench.n, [seconds for seconds, _ in new])
    bench.report("start_new_over_disk", bench.n, [size / seconds / disk for seconds, disk in new])
    bench.report("start_others", bench.n, [others.percent()])


# --- snapshots while serving ---

class Repeated(threading.Thread):
    """Calls the function again and again, at least once, for as long as the block lasts."""

    def __init__(self, function, pause):
        super().__init__()
        self.function, self.pause, self.over, self.results = function, pause, threading.Event(), []

    def run(self):
        while not self.over.is_set() or not self.results:
            self.results.append(self.function())
            time.sleep(self.pause)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *trace):
        self.over.set()
        self.join()


def write_snapshot(bench, server):
    """Its duration, when it is written."""
    started = time.monotonic()
    bench.run("numberctl", "snapshot", "--server", server.address)
    return time.monotonic() - started


def lookups(bench, server, *arguments):
    report = bench.load(server, "run", "--count", bench.n, "--connections", 64, "--batch", 16, "--outstanding", 1,
                        *arguments)
    check(report["numbers"] > 0 and report["limited"] == 0, f"the lookups: {report}")
    # Half of the numbers are registered.
    share = report["registered"] / max(1, report["numbers"])
    check(0.49 < share < 0.51, f"{share} of the lookups found their number")
    return report


def open_loop(bench, server, rate, seconds, with_snapshots):
    """The 99.9th percentile in ms, the most anonymous memory, the durations of the snapshots."""
    snapshots = Repeated(lambda: write_snapshot(bench, server), 0) if with_snapshots else contextlib.nullcontext()
    before = server.stats()["snapshot"]["good_number"]
    with Repeated(server.anonymous_kib, 0.01) as memory, snapshots:
        report = lookups(bench, server, "--rate", rate, "--seconds", seconds)
    written = server.stats()["snapshot"]["good_number"] - before
    check(written >= 1 if with_snapshots else written == 0, f"{written} snapshots were written")
    # With less the latency is that of the tester's queue. A quick run is on a machine that does something else, too.
    check(bench.quick or report["numbers"] > 0.95 * rate * seconds, f"the open loop was not kept up with: {report}")
    return report["latency_ns"]["p99.9"] / 1e6, max(memory.results), snapshots.results if with_snapshots else []


def measure_snapshots(bench, data_dir):
    seconds, rounds = (1, 2) if bench.quick else (8, 7)
    others = Others()
    with Numberd(bench, data_dir) as server:
        check(server.numbers == bench.n, f"{server.numbers} numbers were loaded")
        bench.load(server, "verify", "--count", bench.n)
        most = statistics.median(lookups(bench, server, "--seconds", seconds)["numbers_per_second"] for _ in range(3))
        bench.report("snapshot_lookups_max", bench.n, [most / 1e6])
        without, during, ratios, durations, before, after = [], [], [], [], 0, 0
        for i in range(rounds):
            latency, memory, _ = open_loop(bench, server, int(most / 2), seconds, False)
            without.append(latency)
            # What a snapshot took may stay with the allocator: only the time before the first one is without.
            before = memory if i == 0 else before
            latency, memory, took = open_loop(bench, server, int(most / 2), seconds, True)
            during.append(latency)
            after = max(after, memory)
            durations += took
            ratios.append(during[-1] / without[-1])
        bench.report("snapshot_p999_without", bench.n, without)
        bench.report("snapshot_p999_with", bench.n, during)
        bench.report("snapshot_p999_over_without", bench.n, ratios)
        bench.report("snapshot_seconds", bench.n, durations)
        bench.report("snapshot_memory", bench.n, [100 * (after / before - 1)])
        if bench.wants("register_loaded"):
            register_loaded(bench, server)
    bench.report("snapshot_others", bench.n, [others.percent()])  # what the server used is known when it has ended


def register_loaded(bench, server):
    count = 20_000 if bench.quick else 2_000_000
    rates = []
    for seed in (2, 3, 4):
        report = bench.load(server, "register", "--count", count, "--seed", seed)
        # Some of another seed's numbers are there already.
        check(report["added"] + report["replaced"] == count and report["added"] > 0.5 * count, f"registered: {report}")
        rates.append(report["numbers_per_second"] / 1e6)
    bench.report("register_loaded", bench.n, rates)


# --- acknowledged registrations ---

def fdatasync_rate(folder, seconds, written_before):
    """4 KiB blocks written and synced in a second, one after the other."""
    path = folder / "block"
    size = 64 * MIB
    block = os.urandom(4096)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        os.posix_fallocate(fd, 0, size)
        for offset in range(0, size if written_before else 0, MIB):
            os.pwrite(fd, block * (MIB // 4096), offset)
        os.fsync(fd)
        count = 0
        started = now = time.monotonic()
        while now < started + seconds:
            os.pwrite(fd, block, count * 4096 % size)
            os.fdatasync(fd)
            count += 1
            now = time.monotonic()
        return count / (now - started)
    finally:
        os.close(fd)
        path.unlink()


def register(bench, count):
    """numberload's report, from a server that was empty; what it has then is counted, too."""
    with bench.subfolder("registrations") as folder:
        with Numberd(bench, folder / "data") as server:
            report = bench.load(server, "register", "--count", count, "--connections", 64, "--batch", 64)
            check(report["added"] == count and report["replaced"] == 0, f"registered: {report}")
            check(server.stats()["journal"]["policy"] == "always", "durability is not always")
            found = bench.load(server, "verify", "--count", count)
            check(found["registered"] == found["not_registered"] == count, f"found: {found}")
    return report


def sadd_rate(bench, count):
    """SADDs in a second. The numbers are drawn from 2^31 and 12 digits wide, as long as a phone number."""
    with bench.subfolder("redis") as folder, Redis(folder) as redis:
        text = subprocess.run(["redis-benchmark", "-p", str(redis.port), "-c", "64", "-P", "64", "-n", str(count),
                               "-r", "2147483647", "--csv", "SADD", "numbers", "__rand_int__"],
                              capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
        # They are drawn, so a few come twice.
        found = int(redis.command("SCARD", "numbers")[0])
        check(0.99 * count < found <= count + 64 * 64, f"{found} of {count} numbers are in Redis")
        written = sum(path.stat().st_size for path in folder.rglob("*.aof"))
        check(written > 40 * count, "the append-only file has not got them all")
    return float(list(csv.DictReader(text.splitlines()))[0]["rps"])


def measure_registrations(bench):
    count = 20_000 if bench.quick else 3_000_000
    with_redis = bench.wants("redis_sadd", "redis_register_over_sadd")
    if with_redis and not (shutil.which("redis-server") and shutil.which("redis-benchmark")):
        print("redis-server or redis-benchmark is not there: the comparison is left out", file=sys.stderr)
        with_redis = False
    syncs, fresh, reports, redis, others = [], [], [], [], Others()
    for _ in range(3 if bench.quick else 7):
        fresh.append(fdatasync_rate(bench.folder, 0.1 if bench.quick else 1, False))
        syncs.append(fdatasync_rate(bench.folder, 0.1 if bench.quick else 1, True))
        reports.append(register(bench, count))
        if with_redis:
            redis.append(sadd_rate(bench, count))
    rates = [report["numbers_per_second"] for report in reports]
    bench.report("register_fdatasync", count, syncs)
    bench.report("register_fdatasync_fresh", count, fresh)
    bench.report("register", count, [rate / 1e6 for rate in rates])
    for name, percentile in ("register_p50", "p50"), ("register_p99", "p99"), ("register_p999", "p99.9"):
        bench.report(name, count, [report["latency_ns"][percentile] / 1e6 for report in reports])
    bench.report("register_over_fdatasync", count, [rate / sync for rate, sync in zip(rates, syncs)])
    bench.report("register_others", count, [others.percent()])
    if with_redis:
        bench.report("redis_sadd", count, [rate / 1e6 for rate in redis])
        bench.report("redis_register_over_sadd", count, [rate / other for rate, other in zip(rates, redis)])


# --- the whole ---

def rows_of(*beginnings):
    return [row[0] for row in ROWS if row[0].startswith(beginnings)]


def measure(bench):
    stored = [name for name in rows_of("import", "start", "snapshot")] + ["register_loaded"]
    if bench.wants(*stored):
        with bench.subfolder("stored") as folder:
            fill(bench, folder / "data")
            if bench.wants(*rows_of("start")):
                measure_start(bench, folder / "data")
            if bench.wants("register_loaded", *rows_of("snapshot")):
                measure_snapshots(bench, folder / "data")
    if bench.wants(*(name for name in rows_of("register", "redis") if name != "register_loaded")):
        measure_registrations(bench)


if __name__ == "__main__":
    raise SystemExit(main(__doc__, ROWS, Registrations, measure, takes_size=True))
