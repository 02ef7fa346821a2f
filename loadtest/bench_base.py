"""What the benchmarks in Python share: their options, rows and their bars, what the machine does besides, a server from start
to end."""
import argparse
import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

AT_MOST, AT_LEAST = "<=", ">="
PATIENCE = 600
MIB = 1 << 20


def fail(text):
    print(f"benchmark: {text}", file=sys.stderr)
    raise SystemExit(70)


def check(truth, text):
    """A benchmark whose answers are wrong must not print figures."""
    if not truth:
        fail(text)


class Bench:
    """The options, the rows (name, unit, kind of bar, bar, about) wanted, the figures printed."""

    def __init__(self, options, rows, folder):
        self.json, self.only, self.quick = options.json, options.only, options.quick
        self.bin, self.folder, self.rows = pathlib.Path(options.bin), folder, rows
        self.failed = 0
        self.figures = {}  # what was reported, by name

    def matches(self, name):
        return self.only is None or name == self.only or name.startswith(self.only + "_")

    def wants(self, *names):
        return any(self.matches(name) for name in names)

    def report(self, name, n, values):
        """Prints the values' median beside its bar."""
        _, unit, kind, bar, about = next(row for row in self.rows if row[0] == name)
        if not self.matches(name):
            return
        value = statistics.median(values)
        self.figures[name] = value
        ok = kind is None or (value <= bar if kind == AT_MOST else value >= bar)
        self.failed += not ok
        if self.json:
            print(json.dumps({"name": name, "n": n, "value": float(f"{value:.6g}"), "unit": unit, "bar": bar, "ok": ok}),
                  flush=True)
            return
        word = "(not at this size)" if self.quick else "ok" if ok else "MISSED"
        verdict = "" if kind is None else f" {kind} {bar:<6g} {word}"
        spread = f"   {min(values):.4g} .. {max(values):.4g} in {len(values)}" if len(values) > 1 else ""
        print(f"{name:<28} {value:>14.4g} {unit:<18}{verdict}   n={n}{spread}   {about}", flush=True)

    def run(self, program, *arguments, stdin=subprocess.DEVNULL, **options):
        result = subprocess.run([self.bin / program, *map(str, arguments)], stdin=stdin, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        check(result.returncode == 0, f"{program} {arguments[0]} ended with {result.returncode}: {result.stderr[-500:]}")
        return result.stdout


class Others:
    """What the rest of the machine does meanwhile, the kernel's own work and a hypervisor's thefts included: on a machine
    that others use, figures of different moments can't be compared."""

    def __init__(self):
        self.begin = self.used()

    @staticmethod
    def used():
        """In seconds: of all processors, idle ones included; of these busy; by this program and its children that ended."""
        ticks = [int(word) for word in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        per_second = os.sysconf("SC_CLK_TCK")
        own = os.times()
        return (sum(ticks) / per_second, (sum(ticks) - ticks[3] - ticks[4]) / per_second,
                own.user + own.system + own.children_user + own.children_system)

    def percent(self):
        total, busy, own = (end - begin for end, begin in zip(self.used(), self.begin))
        return max(0.0, 100 * (busy - own) / total) if total > 0 else 0.0


def wait_until(condition, process, what):
    """Looks every millisecond."""
    end = time.monotonic() + PATIENCE
    while not condition():
        check(process.poll() is None and time.monotonic() < end, f"{what}: it ended or took too long")
        time.sleep(0.001)


class Numberd:
    """A server from its start to its orderly end; `wrapper`: a command before it."""
    wrapper = ()

    def __init__(self, bench, data_dir, *flags):
        self.bench, self.data_dir, self.flags = bench, data_dir, flags

    def __enter__(self):
        self.log = tempfile.NamedTemporaryFile(mode="a", prefix="log-", dir=self.bench.folder)
        started = time.monotonic()
        self.process = subprocess.Popen(
            [*self.wrapper, self.bench.bin / "numberd", "--data-dir", self.data_dir, "--listen", "127.0.0.1:0",
             "--stats-listen", "127.0.0.1:0", *self.flags], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            # The line is written when the workers answer.
            wait_until(lambda: " ready: " in self.read_log(), self.process, "numberd's start")
        except BaseException:
            print(self.read_log(), file=sys.stderr)
            self.process.kill()
            self.process.wait()
            self.forget_counters()
            raise
        self.start_seconds = time.monotonic() - started
        self.address = self.read_log().split(" lookups on ")[1].split(",")[0]
        self.numbers = int(self.read_log().split(" ready: ")[1].split()[0])
        return self

    def __exit__(self, *trace):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        text = self.read_log()
        self.log.close()
        if trace[0] is None:
            check(status == 0, f"numberd ended with {status}: {text}")

    def forget_counters(self):
        """The shared memory of the log's counters; only a server that was killed leaves it."""
        with contextlib.suppress(FileNotFoundError):
            status = (self.data_dir / "querylog").stat()
            pathlib.Path(f"/dev/shm/numberd-{status.st_dev:x}-{status.st_ino:x}").unlink()

    def read_log(self):
        return pathlib.Path(self.log.name).read_text()

    def stats(self):
        return json.loads(self.bench.run("numberctl", "stats", "--server", self.address, "--json"))

    def anonymous_kib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
        return fail("/proc/PID/status has no RssAnon")


def thread_times(server):
    """Processor time in ns of each thread, by its id."""
    return {task.name: int((task / "schedstat").read_text().split()[0])
            for task in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir()}


def load_round(bench, server, address, flags=(), batch=128, seconds=None):
    """For bench.seconds unless told otherwise, of bench.n numbers: lookups in a second, and the worker's ns for each; of all threads it
    has most to do."""
    before = thread_times(server)
    report = json.loads(bench.run("numberload", "run", "--server", address, "--count", bench.n, "--batch", batch, "--connections", 4,
                                  "--outstanding", 8, "--seconds", seconds or bench.seconds, "--json", *flags))
    check(report["wrong"] == report["unavailable"] == report["broken"] == report["limited"] == 0 < report["numbers"],
          f"the lookups: {report}")
    after = thread_times(server)
    return report["numbers_per_second"], max(after[name] - before[name] for name in before if name in after) / report["numbers"]


def kind_of_disk(folder):
    """The type of the file system that the folder is on."""
    return subprocess.run(["stat", "--file-system", "--format=%T", folder], capture_output=True, text=True,
                          check=True).stdout.strip()


def read_options(about, takes_size):
    here = pathlib.Path(__file__).resolve().parent
    beside = here if (here / "numberd").exists() else here.parent / "build" / "release" / "bin"
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", metavar="NAME")
    if takes_size:
        parser.add_argument("--n", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--bin", default=beside)
    parser.add_argument("--dir", default="/var/tmp")
    options = parser.parse_args()
    if takes_size and options.n is not None and options.n < 1:
        parser.error("--n must be a positive integer")
    if kind_of_disk(options.dir) in ("tmpfs", "ramfs") and not options.quick:
        parser.error(f"{options.dir} is in memory, and would measure no disk: name another one with --dir")
    return parser, options


def main(about, rows, make_bench, measure, takes_size=False):
    """The exit status: 1 if a bar was missed. make_bench gets the options and a new folder, which is gone afterwards."""
    parser, options = read_options(about, takes_size)
    if options.list:
        for name, _, _, _, text in rows:
            print(f"{name:<28} {text}")
        return 0
    with tempfile.TemporaryDirectory(prefix="numberd-benchmark-", dir=options.dir) as folder:
        bench = make_bench(options, pathlib.Path(folder).resolve())
        if not bench.wants(*(row[0] for row in rows)):
            parser.error("--only: there is no such row")
        measure(bench)
    return 1 if bench.failed > 0 and not bench.quick else 0
