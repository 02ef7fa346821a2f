#!/usr/bin/python3
"""bench_access: what budgets and detectors cost the lookups of numberd.

    build/release/bin/bench_access [--json] [--list] [--only NAME] [--n N] [--quick] [--bin DIR] [--dir DIR]

--list names the rows; --only NAME runs one, or all that begin with NAME_; --n N sets how many numbers are registered (5 million);
--quick ends within half a minute, and its figures mean nothing; --json one object a line. One numberd with one worker is asked for
128 numbers a request, by 4 connections with 8 requests under way, in rounds by turns: with a token that has no budget, from
loopback, which nobody counts; and with a token whose budget is too large to end, from another address of this machine if it has
one, so that a network pays, too. The cost is taken from the worker's processor time, since rates are at the mercy of what else
runs here; numberload checks every answer. It takes about 2 minutes."""
import contextlib
import json
import pathlib
import re
import socket
import subprocess

from bench_base import AT_MOST, Bench, Numberd, Others, check, main

# name, unit, kind of bar, bar, about
ROWS = [
    ("accounts", "accounts", None, None, "charged for each lookup: the principal's, and the network's if there is another address"),
    ("free", "M/s", None, None, "lookups without budget"),
    ("charged", "M/s", None, None, "lookups with one"),
    ("free_worker", "ns/number", None, None, "the worker's time without budget"),
    ("charged_worker", "ns/number", None, None, "the worker's time with one"),
    ("cost", "percent", AT_MOST, 2, "by which the worker's time is more with one, median of pairs of rounds"),
    ("others", "percent", None, None, "of the processors' time meanwhile, what no program of this benchmark used"),
]


class Access(Bench):
    def __init__(self, options, folder):
        super().__init__(options, ROWS, folder)
        self.n = options.n or (200_000 if options.quick else 5_000_000)
        self.seconds, self.rounds = (1, 2) if options.quick else (2, 25)


def other_address():
    """An address of this machine beyond loopback; None if there is none. Nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]
    return None


def make_token(bench, tokens, principal, budget):
    """A file with a new token."""
    path = bench.folder / f"token-{principal}"
    path.write_text(bench.run("numberctl", "token", "add", tokens, "--principal", principal, "--roles", "lookup", "--budget", budget))
    return path


def times(server):
    """Processor time in ns of each thread."""
    return {task.name: int((task / "schedstat").read_text().split()[0])
            for task in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir()}


def measure_round(bench, server, address, token):
    """Lookups in a second, and the worker's ns for each: of all threads it has most to do."""
    before = times(server)
    report = json.loads(bench.run("numberload", "run", "--server", address, "--token-file", token, "--count", bench.n, "--batch", 128,
                                  "--connections", 4, "--outstanding", 8, "--seconds", bench.seconds, "--json"))
    check(report["wrong"] == report["unavailable"] == report["broken"] == report["limited"] == 0 < report["numbers"],
          f"the lookups: {report}")
    after = times(server)
    return report["numbers_per_second"], max(after[name] - before[name] for name in before if name in after) / report["numbers"]


def measure(bench):
    others, tokens = Others(), bench.folder / "tokens"
    free = make_token(bench, tokens, 1, "none")
    charged = make_token(bench, tokens, 2, "1000000000000/1000000000")
    with subprocess.Popen([bench.bin / "numberload", "generate", "--count", str(bench.n)], stdout=subprocess.PIPE) as generate:
        bench.run("numberctl", "import", "-", "--data-dir", bench.folder / "data", stdin=generate.stdout)
    # A rate or a budget that was reached would be LIMITED, and end the benchmark.
    with Numberd(bench, bench.folder / "data", "--token-file", tokens, "--threads", "1", "--listen", "0.0.0.0:0", "--insecure", "yes",
                 "--principal-rate", "0", "--network-rate", "0", "--network-budget", "1000000000000/1000000000",
                 "--detect", "report") as server:
        port, other = re.search(r":(\d+)$", server.address)[1], other_address()
        rounds = []
        for _ in range(bench.rounds):
            rounds.append((measure_round(bench, server, f"127.0.0.1:{port}", free),
                           measure_round(bench, server, f"{other or '127.0.0.1'}:{port}", charged)))
    bench.report("accounts", bench.n, [2 if other else 1])
    bench.report("free", bench.n, [pair[0][0] / 1e6 for pair in rounds])
    bench.report("charged", bench.n, [pair[1][0] / 1e6 for pair in rounds])
    bench.report("free_worker", bench.n, [pair[0][1] for pair in rounds])
    bench.report("charged_worker", bench.n, [pair[1][1] for pair in rounds])
    bench.report("cost", bench.n, [100 * (pair[1][1] / pair[0][1] - 1) for pair in rounds])
    bench.report("others", bench.n, [others.percent()])


if __name__ == "__main__":
    raise SystemExit(main(__doc__, ROWS, Access, measure, takes_size=True))
