#!/usr/bin/python3
"""bench_floods: what a flood costs the other clients of numberd, in time and in memory, and whether operators get in.

    build/release/bin/bench_floods [--json] [--list] [--only NAME] [--quick] [--bin DIR] [--dir DIR]

--list names the rows; --only NAME runs one flood, or all that begin with NAME_; --quick ends within half a minute, and has no ratios:
it fails where memory, operators or no_spin miss their bars; --json one object a line. Another client looks numbers up in an open loop, 16 in a request, from an address of its
own. Rounds take turns: with no flood; with the flood (numberflood) at numberd; with the same flood at a dummy, a process that
accepts, reads and says nothing. Attacker, dummy and client share the processors with the server, so a flood costs even those that
it does not aim at: the ratio is of the medians of the client's 99th percentiles, flood at numberd over flood at the dummy. Each
round makes sure that the flood took place. During each flood at numberd operators connect again and again. Memory is RssAnon of
numberd, the most during a flood less what it was at the start, over what the documents allow: buffer-bytes-max and a quarter (the
allocator's rounding), 16 MiB a thread for a turn, and 1 KiB for each connection, 64 KiB under TLS. For no_spin numberd has no descriptor left while connections
wait: the CPU time of its main thread. It takes about 8 minutes."""
import contextlib
import json
import os
import pathlib
import resource
import statistics
import subprocess
import threading
import time
import urllib.request

from bench_base import AT_MOST, MIB, PATIENCE, Bench, Numberd, Others, check, main, wait_until
from certificates import Authority

FLOODS = {  # name: (port, whether a token is shown, arguments of numberflood)
    "slow_send": ("plain", True, ("slow-send", "--from", "127.0.0.2", "--connections", 2000)),
    "slow_read": ("plain", True, ("slow-read", "--from", "127.0.0.2", "--connections", 300)),
    "connects": ("plain", False, ("connects", "--from", "127.0.0.2")),
    "connects_speaking": ("plain", False, ("connects", "--from", "127.0.0.2", "--first-bytes", 1)),
    "connects_many_addresses": ("plain", False, ("connects", "--from", "127.1.0.1", "--addresses", 5000, "--first-bytes", 1)),
    "half_open": ("plain", False, ("half", "--from", "127.1.0.1", "--addresses", 50, "--connections", 6000, "--first-bytes", 1)),
    "descriptors": ("plain", False, ("half", "--from", "127.1.0.1", "--addresses", 50, "--connections", 500, "--first-bytes", 1)),
    "garbage": ("plain", False, ("garbage", "--from", "127.0.0.2", "--connections", 16)),
    "hellos": ("tls", False, ("hellos", "--from", "127.0.0.2", "--connections", 64)),
    "handshakes": ("tls", False, ("handshakes", "--from", "127.0.0.2", "--connections", 64)),
}
ABOUT = {
    "slow_send": "2,000 connections that drip a long frame",
    "slow_read": "300 connections that ask for all they can and read nothing",
    "connects": "connections that are closed at once, as fast as possible, from one address",
    "connects_speaking": "the same, and each has sent a byte, so that the kernel shows it to numberd",
    "connects_many_addresses": "these from 5,000 addresses, so that none is too hasty",
    "half_open": "6,000 connections that send one byte, more than numberd may have, from 50 addresses",
    "descriptors": "the same with a numberd that may open 190 files",
    "garbage": "16 connections that send random bytes, also when told to stop",
    "hellos": "TLS client hellos whose answer is not waited for",
    "handshakes": "handshakes of TLS, again and again",
}
ROWS = [
    *((name, "ratio", AT_MOST, 2, f"p99 of others, over that with the flood at a dummy: {ABOUT[name]}") for name in FLOODS),
    ("p99_alone", "ms", None, None, "the client's 99th percentile without a flood"),
    ("p99_dummy", "ms", None, None, "with a flood at the dummy; all floods"),
    ("connects_made", "1/s", None, None, "connections that the flood connects made"),
    ("operator", "failures", AT_MOST, 0, "operators who did not get their statistics within 5 seconds, in all floods"),
    ("operator_slowest", "ms", None, None, "the longest that one of them took"),
    ("no_spin", "percent", AT_MOST, 10, "of a processor: numberd's main thread without a descriptor left, while 500 connect"),
    *((f"memory_{name}", "of the cap", AT_MOST, 1, "what numberd grew by, over what is allowed") for name in FLOODS),
    ("others", "percent", None, None, "of the processors' time meanwhile, what no program of this benchmark used"),
]
N = 100_000
CLIENT_CONNECTIONS = 4
BUFFER_BYTES_MAX = 128 * MIB
TURN_BYTES = 16 * MIB  # a thread
CONNECTIONS_MAX = 4000
# What the dummy holds, so that the attacker has about as much to do as at numberd; it closes others at once. It can't do TLS, and
# an attacker who waited for its answer would have nothing to do.
DUMMY_CONNECTIONS = {"half_open": CONNECTIONS_MAX, "descriptors": 56, "hellos": 1, "handshakes": 1}


class Floods(Bench):
    def __init__(self, options, folder):
        super().__init__(options, ROWS, folder)
        self.warmup, self.seconds, self.rounds = (1, 1, 1) if options.quick else (1, 2, 5)
        self.rate = 20_000
        self.p99 = {kind: {name: [] for name in FLOODS} for kind in ("alone", "dummy", "numberd")}
        self.memory = {name: [] for name in FLOODS}
        self.operators, self.operators_failed, self.connects_made, self.no_spin = [], 0, [], []


# --- programs under test ---

def make_files(bench):
    """Tokens, certificate, and the registered numbers."""
    folder = bench.folder
    for name, principal, roles in (("operator", 1, "operate"), ("client", 2, "lookup"), ("attacker", 3, "lookup")):
        (folder / name).write_text(bench.run("numberctl", "token", "add", folder / "tokens", "--principal", principal, "--roles", roles,
                                             *(() if name == "attacker" else ("--budget", "none"))))
    bench.authority = Authority(folder)
    bench.certificate, bench.key = bench.authority.sign("server")
    with subprocess.Popen([bench.bin / "numberload", "generate", "--count", str(N)], stdout=subprocess.PIPE) as generate:
        report = json.loads(bench.run("numberctl", "import", "-", "--data-dir", folder / "data", "--json", stdin=generate.stdout))
    check(report["added"] == N, f"the import: {report}")


class Server(Numberd):
    """The numberd that is attacked, with both ports; `files`: how many it may open."""

    def __init__(self, bench, files=None):
        folder = bench.folder
        super().__init__(bench, folder / "data", "--token-file", folder / "tokens", "--tls-listen", "127.0.0.1:0", "--tls-certificate",
                         bench.certificate, "--tls-key", bench.key, "--connections-max", str(CONNECTIONS_MAX),
                         "--operators-from", "127.0.0.1", "--buffer-bytes-max", str(BUFFER_BYTES_MAX), "--patience-seconds", "10")
        self.files = files
        if files:
            self.wrapper = ("bash", "-c", f'ulimit -n {files}; exec "$@"', "wrapper")

    def __enter__(self):
        super().__enter__()
        log = self.read_log()
        self.addresses = {"plain": self.address, "tls": log.split(" lookups under TLS on ")[1].split()[0]}
        check(self.files is None or "connections-max is cut" in log, "numberd may open all files")
        self.kib_at_start = self.anonymous_kib()
        self.stats_url = log.split("stats on ")[1].split(";")[0] + "stats.json"
        return self

    def stats(self):
        with urllib.request.urlopen(self.stats_url, timeout=10) as reply:
            return json.load(reply)


class Dummy:
    """Accepts, reads, says nothing."""

    def __init__(self, bench, name, seconds):
        self.command = [bench.bin / "numberflood", "sink", "--server", "127.0.0.1:0", "--seconds", str(seconds),
                        "--connections", str(DUMMY_CONNECTIONS.get(name, 100_000))]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        check(self.address, "the dummy does not start")
        return self

    def __exit__(self, *trace):
        self.process.kill()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


# --- what happens during a round ---

class Flood:
    """From the beginning to the end of the block, where its report is."""

    def __init__(self, bench, name, address, seconds, watcher=None):
        self.watcher = watcher
        door, has_token, arguments = FLOODS[name]
        more = ("--token-file", bench.folder / "attacker") if has_token else ()
        more += ("--tls-ca", bench.authority.certificate) if door == "tls" else ()
        self.command = [bench.bin / "numberflood", *arguments, *more, "--server", address, "--seconds", seconds, "--json"]

    def __enter__(self):
        self.process = subprocess.Popen(list(map(str, self.command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if self.watcher:
            self.watcher.start()
        return self

    def __exit__(self, *trace):
        output = self.process.communicate(timeout=PATIENCE)[0]
        if trace[0] is None:
            check(self.process.returncode == 0, f"{self.command} ended with {self.process.returncode}")
            self.report = json.loads(output)


class Watcher(threading.Thread):
    """Operators who connect and ask for the statistics, one after the other; the most that numberd's memory comes to."""

    def __init__(self, bench, server):
        super().__init__()
        self.bench, self.server, self.ended = bench, server, threading.Event()
        self.kib_max, self.milliseconds, self.failed = 0, [], 0

    def run(self):
        while not self.ended.wait(0.1):
            started = time.monotonic()
            command = [self.bench.bin / "numberctl", "stats", "--server", self.server.address, "--token-file",
                       self.bench.folder / "operator", "--json"]
            result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            took = time.monotonic() - started
            self.failed += result.returncode != 0 or took > 5
            self.milliseconds.append(took * 1000)
            self.kib_max = max(self.kib_max, self.server.anonymous_kib())

    def stop(self):
        self.ended.set()
        if self.is_alive():
            self.join()


def lookups(bench, server, meanwhile=None):
    """The 99th percentile in ms; numberload checks the answers. It connects before the flood begins: whom a full server has no
    place for has no percentile."""
    command = ["numberload", "run", "--server", server.address, "--count", N, "--batch", 16, "--connections",
               CLIENT_CONNECTIONS, "--rate", bench.rate,
               "--warmup", bench.warmup, "--seconds", bench.seconds, "--token-file", bench.folder / "client", "--json"]
    with subprocess.Popen([bench.bin / command[0], *map(str, command[1:])], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE) as process:
        wait_until(lambda: server.stats()["connections_open"] >= CLIENT_CONNECTIONS, process, "numberload's connections")
        with meanwhile or contextlib.nullcontext():
            output = process.communicate(timeout=PATIENCE)[0]
    check(process.returncode == 0, f"numberload ended with {process.returncode}")
    report = json.loads(output)
    check(report["wrong"] == report["unavailable"] == report["broken"] == report["limited"] == 0 < report["numbers"],
          f"the lookups: {report}")
    check(bench.quick or report["numbers"] > 0.9 * bench.rate * bench.seconds, f"the open loop was not kept up with: {report}")
    return report["latency_ns"]["p99"] / 1e6


def make_sure(name, report, server, before):
    """That the flood took place, and met its defence."""
    after = server.stats()
    check(report["connects"] > 0, f"{name}: {report}")
    refused = {reason: after["connections_refused"][reason] - before["connections_refused"][reason] for reason in after["connections_refused"]}
    proofs = {
        "slow_send": report["open_max"] >= 1000 and report["bytes_sent"] > 100_000,
        "slow_read": report["bytes_sent"] > 64 * MIB and after["requests"]["lookup_records"] > before["requests"]["lookup_records"] + 100,
        "connects": report["connects_per_second"] > 1000,
        "connects_speaking": report["connects_per_second"] > 1000 and refused["hasty_address"] > 0,
        "connects_many_addresses": report["connects_per_second"] > 1000,
        "half_open": refused["full"] > 0,
        "descriptors": refused["full"] > 0,
        "garbage": report["bytes_sent"] > MIB and after["frames_malformed"] > before["frames_malformed"],
        "hellos": report["handshakes"] > 20,
        "handshakes": report["handshakes"] > 20,
    }
    check(proofs[name], f"{name} did not take place: {report}, refused {refused}")


def allowed_kib(name):
    each = 64 if FLOODS[name][0] == "tls" else 1
    return (BUFFER_BYTES_MAX * 5 / 4 + TURN_BYTES + CONNECTIONS_MAX * each * 1024) / 1024


def flood_numberd(bench, name, server):
    """The 99th percentile in ms."""
    before = server.stats()
    watcher = Watcher(bench, server)
    flood = Flood(bench, name, server.addresses[FLOODS[name][0]], bench.warmup + bench.seconds, watcher)
    try:
        p99 = lookups(bench, server, flood)
    finally:
        watcher.stop()
    make_sure(name, flood.report, server, before)
    bench.memory[name].append((watcher.kib_max - server.kib_at_start) / allowed_kib(name))
    bench.operators += watcher.milliseconds
    bench.operators_failed += watcher.failed
    if name == "connects":
        bench.connects_made.append(flood.report["connects_per_second"])
    end = time.monotonic() + 30
    while server.stats()["connections_open"] > 20:
        check(time.monotonic() < end, f"{name}: its connections are still there")
        time.sleep(0.05)
    return p99


def flood_dummy(bench, name, server):
    """The operators are at numberd then, too, since they take time of the processors."""
    watcher = Watcher(bench, server)
    with Dummy(bench, name, bench.seconds + 10) as dummy:
        try:
            return lookups(bench, server, Flood(bench, name, dummy.address, bench.warmup + bench.seconds, watcher))
        finally:
            watcher.stop()


def measure_flood(bench, name, server):
    for turn in range(bench.rounds):
        if turn == 0 and not bench.quick:  # there the time is for numberd
            bench.p99["alone"][name].append(lookups(bench, server))
        if not bench.quick:
            bench.p99["dummy"][name].append(flood_dummy(bench, name, server))
        bench.p99["numberd"][name].append(flood_numberd(bench, name, server))


# --- no descriptors ---

def main_thread_seconds(server):
    """The CPU time of its first thread."""
    pid = server.process.pid
    fields = pathlib.Path(f"/proc/{pid}/task/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_spin(bench):
    """Each of the connections is closed as soon as numberd gets to it, and comes again."""
    with Server(bench) as server:
        pid = server.process.pid
        used = 1 + max(int(path.name) for path in pathlib.Path(f"/proc/{pid}/fd").iterdir())
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, hard))
        command = [bench.bin / "numberflood", "half", "--server", server.address, "--connections", "500", "--seconds",
                   str(bench.seconds + 3), "--json"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as flood:
            time.sleep(1)
            cpu, begun = main_thread_seconds(server), time.monotonic()
            time.sleep(bench.seconds)
            bench.no_spin.append(100 * (main_thread_seconds(server) - cpu) / (time.monotonic() - begun))
            report = json.loads(flood.communicate(timeout=PATIENCE)[0])
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        check(report["connects"] > 100 and report["refused"] + report["closed"] > 0, f"no_spin: {report}")
        check(server.stats()["connections_refused"]["full"] > 0, "no_spin: nobody was turned away")


def measure(bench):
    others = Others()
    make_files(bench)
    wanted = [name for name in FLOODS if bench.wants(name, f"memory_{name}")]
    if bench.wants("operator", "operator_slowest", "p99_alone", "p99_dummy"):
        wanted = list(FLOODS)
    elif bench.wants("connects_made") and "connects" not in wanted:
        wanted.append("connects")
    with Server(bench) as server:
        for name in wanted:
            if name != "descriptors":
                measure_flood(bench, name, server)
    if "descriptors" in wanted:
        with Server(bench, 190) as server:
            measure_flood(bench, "descriptors", server)
    if bench.wants("no_spin"):
        measure_spin(bench)
    report(bench, wanted)
    bench.report("others", N, [others.percent()])


def report(bench, wanted):
    p99 = bench.p99
    for name in wanted:
        if bench.quick:
            continue
        base = statistics.median(p99["dummy"][name])
        bench.report(name, N, [value / base for value in p99["numberd"][name]])
    for name in wanted:
        bench.report(f"memory_{name}", N, [max(bench.memory[name])])
    if bench.quick:
        check(bench.operators_failed == 0, f"{bench.operators_failed} operators did not get in")
        check(all(max(bench.memory[name]) <= 1 for name in wanted), f"more memory than is allowed: {bench.memory}")
        check(all(percent <= 10 for percent in bench.no_spin), f"numberd spins: {bench.no_spin} percent")
    elif wanted:
        bench.report("p99_alone", N, [value for name in wanted for value in p99["alone"][name]])
        bench.report("p99_dummy", N, [value for name in wanted for value in p99["dummy"][name]])
    if wanted:
        bench.report("operator", N, [bench.operators_failed])
        bench.report("operator_slowest", N, [max(bench.operators)])
    if bench.connects_made:
        bench.report("connects_made", N, bench.connects_made)
    if bench.no_spin:
        bench.report("no_spin", N, bench.no_spin)


if __name__ == "__main__":
    raise SystemExit(main(__doc__, ROWS, Floods, measure))
