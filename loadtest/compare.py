"""compare: numberd beside what else could answer, under the same load. Started by compare.sh.

    bash loadtest/compare.sh [--json] [--list] [--only NAME] [--n N] [--quick] [--dir DIR] [--chart FILE] [--table FILE]

--list names the rows; --only NAME runs one, or all that begin with NAME_; --n N sets how many numbers are registered (5 million); --quick
ends within two minutes, and its figures mean nothing; --json one object a line; --chart writes the rates as a picture, --table as
a table in Markdown.

numberd with one worker and its query log on; the floor (numberload floor), which reads the same frames and answers without a look; Redis,
numbers in one set (SMISMEMBER); memcached with one thread, numbers as keys (get). All are loaded with the same numbers, and each load goes to
one after the other, round after round; a figure is the median of the rounds, a ratio that of the rounds' ratios. numberload checks every
answer of all but the floor. The one thread that serves has the first processor, the load the second one; numberd's threads that write the query log
take what they need of both, so that what the log takes is in the figures. Under requests of 1 and 16 numbers, from 4 connections, the load spins for
20 us before it sleeps, whoever serves: else a good part of what is measured is how one processor wakes the other. Under longer ones
spinning would only take from the log what it has need of. It takes about 10 minutes and 30 GB
of disk for the query log, and at 100 million numbers 22 GB of memory and half an hour."""
import contextlib
import json
import math
import os
import pathlib
import resource
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time

from bench_base import AT_LEAST, AT_MOST, PATIENCE, Bench, Numberd, Others, check, main, wait_until

LOADS = (1, 16, 128, 1000)
SPIN = {1: ("--spin", 20), 16: ("--spin", 20)}
BARS = {(1, "floor"): 0.85, (1, "redis"): 2.5, (1, "memcached"): 2.5, (16, "floor"): 0.75, (16, "redis"): 12, (16, "memcached"): 12,
        (128, "redis"): 20, (128, "memcached"): 20, (1000, "redis"): 30, (1000, "memcached"): 30}
NAMES = ("numberd", "floor", "redis", "memcached")
PEERS = NAMES[1:]
IDLE = 10000


def make_rows():
    rows = []
    for batch in LOADS:
        each = "1 number" if batch == 1 else f"{batch} numbers"
        rows += [(f"batch_{batch}_{name}", "M/s", AT_LEAST if (batch, name) == (128, "numberd") else None,
                  20 if (batch, name) == (128, "numberd") else None, f"{each} a request, 4 connections, 8 under way on each: {name}")
                 for name in NAMES]
        rows += [(f"batch_{batch}_over_{peer}", "ratio", AT_LEAST if (batch, peer) in BARS else None, BARS.get((batch, peer)),
                  f"numberd over {peer}") for peer in PEERS]
        rows += [(f"batch_{batch}_p99_{name}", "us", None, None, f"a request's 99th percentile: {name}") for name in NAMES]
        rows += [(f"batch_{batch}_cpu_{name}", "s/M", None, None, f"processor time of {name} for a million numbers") for name in NAMES]
    return rows + [
        ("batch_1000_over_table", "ratio", AT_LEAST, 0.7, "numberd over bench_table in process, half hits, batches of 1,024, same fill"),
        ("connections_64_numberd", "M/s", None, None, "64 connections, 1 number, nothing pipelined"),
        ("connections_64_floor", "M/s", None, None, "the same: floor"),
        ("connections_64_over_floor", "ratio", AT_LEAST, 0.9, "numberd over floor"),
        ("idle_lost", "percent", AT_MOST, 5, f"of the lookups (16 a request), with {IDLE} idle connections beside them"),
        ("idle_bytes", "bytes", AT_MOST, 4096, "of numberd's memory for an idle connection"),
        ("open_numberd_p99", "us", None, None, "open loop at half of its own maximum, 16 a request"),
        ("open_redis_p99", "us", None, None, "the same: Redis, at half of its own"),
        ("open_p99", "ratio", AT_MOST, 1, "numberd over Redis"),
        ("open_numberd_p999", "us", None, None, "the 99.9th percentiles"),
        ("open_redis_p999", "us", None, None, "the same: Redis"),
        ("open_p999", "ratio", AT_MOST, 1, "numberd over Redis"),
        ("log_lost", "percent", None, None, "of the events of all these lookups, that the query log could not take"),
        ("log_cost", "percent", AT_MOST, 8, "of the lookups a second, 128 a request, for the query log"),
        ("log_worker", "ns/number", AT_MOST, 2, "of the worker's time for it"),
        *((f"memory_{name}", "bytes/number", None, None, f"resident memory of {name}, less that of an empty one")
          for name in ("numberd", "redis", "memcached")),
        ("others", "percent", None, None, "of the processors' time meanwhile, what no program of this benchmark used"),
    ]


ROWS = make_rows()


class Compare(Bench):
    def __init__(self, options, folder):
        super().__init__(options, ROWS, folder)
        self.n = options.n or (200_000 if options.quick else 5_000_000)
        self.seconds, self.rounds = (1, 1) if options.quick else (2, 7)
        self.rates = {}


# --- servers ---

def resident_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def cpu_seconds(pid):
    words = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Server:
    """One of those that are compared, from its start to its end; `peer`: what numberload calls it."""

    def __init__(self, bench, name, peer, command, address=None):
        self.name, self.peer, self.address = name, peer, address
        port = int(address.rsplit(":", 1)[1])
        self.process = subprocess.Popen(["taskset", "-c", "0", *map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        wait_until(lambda: accepts(port), self.process, name)
        self.pid = self.process.pid

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)


class Ours:
    """numberd, as Server has it."""
    name = peer = "numberd"

    def __init__(self, bench, data, *flags):
        self.numberd = Numberd(bench, data, "--threads", "1", "--query-log-bytes", "1T", *flags)
        self.numberd.__enter__()
        self.address, self.pid = self.numberd.address, self.numberd.process.pid
        self.worker = None
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            is_worker = (task / "comm").read_text() == "worker\n"
            os.sched_setaffinity(int(task.name), {0} if is_worker else {0, 1})
            if is_worker:
                self.worker = task
        check(self.worker is not None, "numberd has no worker")

    def stop(self):
        self.numberd.__exit__(None)

    def worker_ns(self):
        return int((self.worker / "schedstat").read_text().split()[0])


def start_all(bench, stack, wanted):
    """The servers by name, empty."""
    servers = {}

    def add(server):
        stack.callback(server.stop)
        servers[server.name] = server

    add(Ours(bench, bench.folder / "data"))
    if "floor" in wanted:
        address = f"127.0.0.1:{free_port()}"
        add(Server(bench, "floor", "floor", [bench.bin / "numberload", "floor", "--server", address], address))
    if "redis" in wanted:
        port = free_port()
        add(Server(bench, "redis", "redis-set", ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no",
                                                 "--dir", bench.folder], f"127.0.0.1:{port}"))
    if "memcached" in wanted:
        port = free_port()
        megabytes = 128 + bench.n * 160 // 10**6
        add(Server(bench, "memcached", "memcached", ["memcached", "-l", "127.0.0.1", "-p", port, "-U", "0", "-t", "1", "-m", megabytes,
                                                     "-u", "nobody", "-c", "1024"], f"127.0.0.1:{port}"))
    return servers


def fill(bench, servers):
    """The same numbers into each; bytes of memory that a number takes."""
    for name, server in servers.items():
        before = resident_kib(server.pid)
        if name == "numberd":
            with subprocess.Popen([bench.bin / "numberload", "generate", "--count", str(bench.n)], stdout=subprocess.PIPE) as generate:
                bench.run("numberctl", "import", "-", "--server", server.address, stdin=generate.stdout)
        elif name != "floor":
            report = json.loads(bench.run("numberload", "register", "--peer", server.peer, "--server", server.address, "--count", bench.n,
                                          "--batch", 1000, "--connections", 4, "--outstanding", 4, "--json"))
            check(report["added"] == bench.n and report["wrong"] == report["broken"] == 0, f"filling {name}: {report}")
        if name != "floor":
            bench.report(f"memory_{name}", bench.n, [(resident_kib(server.pid) - before) * 1024 / bench.n])


# --- loads ---

def load(bench, server, *flags, seconds=None):
    """numberload's report, with the processor time that a million numbers took."""
    before = cpu_seconds(server.pid)
    text = subprocess.run(["taskset", "-c", "1", bench.bin / "numberload", "run", "--peer", server.peer, "--server", server.address, "--count",
                           str(bench.n), "--seconds", str(seconds or bench.seconds), "--json", *map(str, flags)], capture_output=True, text=True)
    check(text.returncode == 0, f"{server.name}: {text.stderr}{text.stdout}")
    report = json.loads(text.stdout)
    check(report["wrong"] == report["broken"] == report["unavailable"] == report["limited"] == 0 < report["numbers"], f"{server.name}: {report}")
    check(server.peer == "floor" or "--hit-ratio" in flags or abs(report["registered"] / report["numbers"] - 0.5) < 0.05,
          f"{server.name}: half of the numbers are registered, not {report['registered']} of {report['numbers']}")
    report["cpu"] = (cpu_seconds(server.pid) - before) / (report["numbers"] / 1e6)
    return report


def in_turn(bench, servers, *flags, rounds=None):
    """Rounds of reports by the server's name, in an order that changes."""
    order = list(servers)
    for _ in range(rounds or bench.rounds):
        yield {server.name: load(bench, server, *flags) for server in order}
        order = order[1:] + order[:1]


def rate(report):
    return report["numbers_per_second"] / 1e6


def measure_batches(bench, servers):
    for batch in LOADS:
        if not bench.wants(*(row[0] for row in ROWS if row[0].startswith(f"batch_{batch}_"))):
            continue
        rounds = list(in_turn(bench, [servers[name] for name in NAMES], "--batch", batch, *SPIN.get(batch, ())))
        for name in NAMES:
            bench.rates[batch, name] = statistics.median(rate(each[name]) for each in rounds)
            bench.report(f"batch_{batch}_{name}", bench.n, [rate(each[name]) for each in rounds])
        for name in PEERS:
            bench.report(f"batch_{batch}_over_{name}", bench.n, [rate(each["numberd"]) / rate(each[name]) for each in rounds])
        for name in NAMES:
            bench.report(f"batch_{batch}_p99_{name}", bench.n, [each[name]["latency_ns"]["p99"] / 1e3 for each in rounds])
            bench.report(f"batch_{batch}_cpu_{name}", bench.n, [each[name]["cpu"] for each in rounds])


def measure_table(bench):
    """In process: the mean of what a hit and a miss take."""
    if not bench.wants("batch_1000_over_table"):
        return
    times = []
    for row in ("lookup_hit", "lookup_miss"):
        text = bench.run("bench_table", "--only", row, "--n", bench.n, "--json")
        times += [json.loads(line)["value"] for line in text.splitlines() if json.loads(line)["name"] == row]
    check(len(times) == 2, f"bench_table: {times}")
    bench.report("batch_1000_over_table", bench.n, [bench.rates[1000, "numberd"] / (1e3 / statistics.mean(times))])


def measure_connections(bench, servers):
    if not bench.wants("connections_64_numberd", "connections_64_floor", "connections_64_over_floor"):
        return
    rounds = list(in_turn(bench, [servers["numberd"], servers["floor"]], "--batch", 1, "--connections", 64, "--outstanding", 1))
    for name in ("numberd", "floor"):
        bench.report(f"connections_64_{name}", bench.n, [rate(each[name]) for each in rounds])
    bench.report("connections_64_over_floor", bench.n, [rate(each["numberd"]) / rate(each["floor"]) for each in rounds])


def open_idle(server, count):
    """Greeted connections that then say nothing, from four addresses: one may have 4,096."""
    hello = struct.pack("<IBBHII", 28, 1, 0, 0, 1, 0) + b"NMBR" + struct.pack("<HHHH", 1, 1, 0, 0)
    host, port = server.address.rsplit(":", 1)
    sockets = []
    for i in range(count):
        one = socket.create_connection((host, int(port)), source_address=(f"127.0.0.{2 + i % 4}", 0))
        one.sendall(hello)
        sockets.append(one)
    for one in sockets:
        check(one.recv(64), "an idle connection was closed")
    return sockets


def measure_idle(bench, servers):
    if not bench.wants("idle_lost", "idle_bytes"):
        return
    server, count, lost, size = servers["numberd"], IDLE // 20 if bench.quick else IDLE, [], []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2 * IDLE, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    for _ in range(bench.rounds):
        alone = rate(load(bench, server, "--batch", 16))
        before = resident_kib(server.pid)
        sockets = open_idle(server, count)
        size.append((resident_kib(server.pid) - before) * 1024 / count)
        lost.append(100 * (1 - rate(load(bench, server, "--batch", 16)) / alone))
        for one in sockets:
            one.close()
        wait_until(lambda: server.numberd.stats()["connections_open"] <= 1, server.numberd.process, "the idle ones leave")
    bench.report("idle_lost", bench.n, lost)
    bench.report("idle_bytes", bench.n, [size[0]])  # later ones find memory that the first ones left


def measure_open(bench, servers):
    if not bench.wants("open"):
        return
    halves = {name: int(bench.rates[16, name] * 1e6 / 2) for name in ("numberd", "redis")}
    rounds = [{name: load(bench, servers[name], "--batch", 16, "--rate", half) for name, half in halves.items()} for _ in range(2 * bench.rounds)]
    for percentile, short in (("p99", "p99"), ("p99.9", "p999")):
        for name in halves:
            bench.report(f"open_{name}_{short}", bench.n, [each[name]["latency_ns"][percentile] / 1e3 for each in rounds])
        bench.report(f"open_{short}", bench.n,
                     [each["numberd"]["latency_ns"][percentile] / each["redis"]["latency_ns"][percentile] for each in rounds])


def measure_log(bench):
    """Numbers without an account, which --log-misses no keeps out of the log: so it is off for them."""
    if not bench.wants("log_cost", "log_worker"):
        return
    with contextlib.ExitStack() as stack:
        kinds = {}
        for name, flags in (("on", ()), ("off", ("--log-misses", "no"))):
            server = Ours(bench, bench.folder / f"log-{name}", *flags)
            stack.callback(server.stop)
            with subprocess.Popen([bench.bin / "numberload", "generate", "--count", str(bench.n)], stdout=subprocess.PIPE) as generate:
                bench.run("numberctl", "import", "-", "--server", server.address, stdin=generate.stdout)
            kinds[name] = server
        cost, ns = [], []
        for i in range(2 * bench.rounds):
            each = {}
            for name in ("on", "off") if i % 2 else ("off", "on"):
                before = kinds[name].worker_ns()
                report = load(bench, kinds[name], "--batch", 128, "--hit-ratio", 0)
                each[name] = (report["numbers_per_second"], (kinds[name].worker_ns() - before) / report["numbers"])
            cost.append(100 * (1 - each["on"][0] / each["off"][0]))
            ns.append(each["on"][1] - each["off"][1])
        logged = {name: kinds[name].numberd.stats()["query_log"]["looked_up"] for name in kinds}
        check(logged["on"] > 0 == logged["off"], f"one log is on and one is off: {logged}")
    bench.report("log_cost", bench.n, cost)
    bench.report("log_worker", bench.n, ns)


# --- the chart ---

def draw(bench, path):
    """Bars on a logarithmic axis, a group for each size of request."""
    colours = {"numberd": "#0b5cad", "floor": "#9aa5b1", "redis": "#b5480b", "memcached": "#3b7d3a"}
    left, top, height, group = 70, 40, 240, 150
    low, high = 0.1, 1000
    y = lambda value: top + height * (1 - math.log10(value / low) / math.log10(high / low))  # noqa: E731
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + 4 * group + 10} {top + height + 50}" font-family="sans-serif" '
             f'font-size="12" role="img" aria-label="Million numbers a second by size of request"><rect width="100%" height="100%" fill="#fff"/>']
    for power in range(-1, 4):
        at = y(10**power)
        parts.append(f'<line x1="{left}" x2="{left + 4 * group}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
                     f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{10**power:g}</text>')
    for i, name in enumerate(NAMES):
        parts.append(f'<rect x="{left + 120 * i}" y="12" width="12" height="12" fill="{colours[name]}"/>'
                     f'<text x="{left + 120 * i + 17}" y="22">{name}</text>')
    for g, batch in enumerate(LOADS):
        for i, name in enumerate(NAMES):
            value = bench.figures[f"batch_{batch}_{name}"]
            x = left + g * group + 12 + i * 32
            parts.append(f'<rect x="{x}" y="{y(value):.1f}" width="28" height="{top + height - y(value):.1f}" fill="{colours[name]}"/>'
                         f'<text x="{x + 14}" y="{y(value) - 4:.1f}" text-anchor="middle" font-size="11">{value:.3g}</text>')
        parts.append(f'<text x="{left + g * group + 75}" y="{top + height + 20}" text-anchor="middle">{batch} a request</text>')
    parts.append(f'<text x="{left}" y="{top + height + 42}" fill="#555">million numbers a second, {bench.n / 1e6:g} million registered, one server thread'
                 "</text></svg>\n")
    pathlib.Path(path).write_text("\n".join(parts))


def tabulate(bench, path):
    figure = lambda name: f"{bench.figures[name]:.3g}"  # noqa: E731
    lines = ["| numbers a request | numberd, M/s | floor | Redis | memcached | numberd over floor | over Redis | over memcached | p99 of a request |",
             "|---|---|---|---|---|---|---|---|---|"]
    for batch in LOADS:
        cells = [figure(f"batch_{batch}_{name}") for name in NAMES] + [figure(f"batch_{batch}_over_{name}") for name in PEERS]
        lines.append("| " + " | ".join([str(batch), *cells, figure(f"batch_{batch}_p99_numberd") + " us"]) + " |")
    lines.append("| **processor seconds a million**, 16 a request | " + " | ".join(figure(f"batch_16_cpu_{name}") for name in NAMES) + " | | | | |")
    lines.append("| **bytes a number** | " + " | ".join(["–" if name == "floor" else figure(f"memory_{name}") for name in NAMES]) + " | | | | |")
    pathlib.Path(path).write_text("\n".join(lines) + "\n")


def compare(bench):
    others = Others()
    alone = bench.only is not None and bench.only.startswith(("connections", "idle"))  # these want no peers
    with contextlib.ExitStack() as stack:
        if bench.wants(*(row[0] for row in ROWS if not row[0].startswith(("log_cost", "log_worker", "others")))):
            servers = start_all(bench, stack, ("floor",) if alone else NAMES)
            fill(bench, servers)
            measure_batches(bench, servers)
            measure_table(bench)
            measure_connections(bench, servers)
            measure_idle(bench, servers)
            if bench.wants("open"):
                for name in ("numberd", "redis"):
                    if (16, name) not in bench.rates:
                        bench.rates[16, name] = rate(load(bench, servers[name], "--batch", 16))
                measure_open(bench, servers)
            log = servers["numberd"].numberd.stats()["query_log"]
            bench.report("log_lost", bench.n, [100 * log["lost"] / max(log["looked_up"], 1)])
    measure_log(bench)
    bench.report("others", bench.n, [others.percent()])
    for option, write in (("--chart", draw), ("--table", tabulate)):
        if option in FILES:
            write(bench, FILES[option])


FILES = {}
if __name__ == "__main__":
    for option in ("--chart", "--table"):
        if option in sys.argv:
            at = sys.argv.index(option)
            check(len(sys.argv) > at + 1, f"{option}: name a file")
            FILES[option] = sys.argv[at + 1]
            del sys.argv[at:at + 2]
    check((os.cpu_count() or 1) >= 2, "this takes two processors")
    raise SystemExit(main(__doc__, ROWS, Compare, compare, takes_size=True))
