#!/usr/bin/python3
"""bench_access: what budgets and detectors cost the lookups of numberd.

    build/release/bin/bench_access [--json] [--list] [--only NAME] [--n N] [--quick] [--bin DIR] [--dir DIR]

--list names the rows; --only NAME runs one, or all that begin with NAME_; --n N sets how many numbers are registered (5 million);
--quick ends within half a minute, and its figures mean nothing; --json one object a line. One numberd with one worker is asked for
128 numbers a request, by 4 connections with 8 requests under way, in pairs of rounds: with a token that has no budget, from
loopback, which nobody counts; and with a token whose budget is too large to end, from another address in a network of the
benchmark's own, if that is allowed (it takes root), so that a network pays, too. The cost is taken from the worker's processor
time, since rates are at the mercy of what else runs here; numberload checks every answer.

And under TLS beside plain TCP, with the token that has no budget: 128 numbers a request, and one; and new connections a
second, with a handshake each, whole and resumed. It takes about 6 minutes, of which the cost takes 4."""
import contextlib
import re
import socket
import struct
import subprocess
import time

from bench_base import AT_MOST, Bench, Numberd, Others, check, load_round, main
from certificates import Authority
from own_network import own_network

# name, unit, kind of bar, bar, about
ROWS = [
    ("accounts", "accounts", None, None, "charged for each lookup: the principal's, and the network's if there is another address"),
    ("free", "M/s", None, None, "lookups without budget"),
    ("charged", "M/s", None, None, "lookups with one"),
    ("free_worker", "ns/number", None, None, "the worker's time without budget"),
    ("charged_worker", "ns/number", None, None, "the worker's time with one"),
    ("cost", "percent", AT_MOST, 2, "by which the worker's time is more with one, median of pairs of rounds"),
    ("tls_128", "ratio", None, None, "of the lookups under TLS to those without, 128 numbers a request"),
    ("tls_1", "ratio", None, None, "the same, one number a request, 8 under way on each of 4 connections"),
    ("tls_worker_128", "ns/number", None, None, "what TLS adds to the worker's time, 128 numbers a request"),
    ("tls_worker_1", "ns/number", None, None, "the same, one number a request"),
    ("tls_handshakes", "connections/s", None, None, "connected, greeted and closed one after the other by one client, whole handshakes"),
    ("tls_resumed", "connections/s", None, None, "the same, resumed sessions"),
    ("plain_connects", "connections/s", None, None, "the same without TLS"),
    ("others", "percent", None, None, "of the processors' time meanwhile, what no program of this benchmark used"),
]
COST_ROWS = ("free", "charged", "free_worker", "charged_worker", "cost")
TLS_ROWS = ("tls_128", "tls_1", "tls_worker_128", "tls_worker_1", "plain_connects", "tls_handshakes", "tls_resumed")


class Access(Bench):
    def __init__(self, options, folder):
        super().__init__(options, ROWS, folder)
        self.n = options.n or (200_000 if options.quick else 5_000_000)
        self.seconds, self.rounds = (1, 2) if options.quick else (2, 14)


def make_token(bench, tokens, principal, budget):
    """A file with a new token."""
    path = bench.folder / f"token-{principal}"
    path.write_text(bench.run("numberctl", "token", "add", tokens, "--principal", principal, "--roles", "lookup", "--budget", budget))
    return path


def connects_per_second(bench, port, token, context=None, resume=False):
    """Of one client that says hello and goodbye."""
    hello = struct.pack("<IBBHII", 28 + len(token), 1, 0, 0, 1, 0) + b"NMBR" + struct.pack("<HHHH", 1, 1, len(token), 0) + token
    goodbye = struct.pack("<IBBHII", 16, 10, 0, 0, 2, 0)
    session, count, started = None, 0, time.monotonic()
    while time.monotonic() - started < bench.seconds / 2:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection if context is None else context.wrap_socket(connection, server_hostname="127.0.0.1", session=session) as client:
            client.sendall(hello + goodbye)
            replies = b""
            while piece := client.recv(4096):
                replies += piece
            check(len(replies) == 40 + 24 and replies[5] == replies[45] == 0, f"the greeting: {replies}")
            if context is not None:
                check(client.session_reused == (session is not None), "a session was resumed, or was not")
                session = client.session if resume else None
        count += 1
    return count / (time.monotonic() - started)


def measure_pairs(bench, server, tokens, plain, other):
    """Without and with a budget, in an order that changes with each pair. Many short rounds: what else the machine does then changes less
    between the two of a pair."""
    free, charged = tokens
    kinds = [("free", plain, free), ("charged", other, charged)]
    for _ in range(6 * bench.rounds):
        yield {name: load_round(bench, server, address, ("--token-file", token), seconds=1) for name, address, token in kinds}
        kinds.reverse()


def measure_tls_rounds(bench, server, token, plain, encrypted, tls):
    context, told, flags = tls[0], ("--token-file", token), ("--tls-ca", tls[1])
    said, ports = token.read_text().strip().encode(), [int(address.rsplit(":", 1)[1]) for address in (plain, encrypted)]
    for _ in range(bench.rounds // 2):
        yield {"plain_128": load_round(bench, server, plain, told),
               "tls_128": load_round(bench, server, encrypted, (*told, *flags)),
               "plain_1": load_round(bench, server, plain, told, batch=1),
               "tls_1": load_round(bench, server, encrypted, (*told, *flags), batch=1),
               "plain_connects": connects_per_second(bench, ports[0], said),
               "tls_handshakes": connects_per_second(bench, ports[1], said, context),
               "tls_resumed": connects_per_second(bench, ports[1], said, context, resume=True)}


def serve(bench, other):
    """The figures of the pairs, and of the rounds with TLS, as far as they are wanted. `other`: an address beyond loopback, or None."""
    tokens, authority = bench.folder / "tokens", Authority(bench.folder)
    certificate, key = authority.sign("server")
    made = make_token(bench, tokens, 1, "none"), make_token(bench, tokens, 2, "1000000000000/1000000000")
    with subprocess.Popen([bench.bin / "numberload", "generate", "--count", str(bench.n)], stdout=subprocess.PIPE) as generate:
        bench.run("numberctl", "import", "-", "--data-dir", bench.folder / "data", stdin=generate.stdout)
    # A rate or a budget that was reached would be LIMITED, and end the benchmark.
    with Numberd(bench, bench.folder / "data", "--token-file", tokens, "--threads", "1", "--listen", "0.0.0.0:0", "--insecure", "yes",
                 "--principal-rate", "0", "--network-rate", "0", "--network-budget", "1000000000000/1000000000",
                 "--detect", "report", "--connects-per-second", "0", "--tls-listen", "127.0.0.1:0", "--tls-certificate", certificate,
                 "--tls-key", key) as server:
        port, tls_port = (re.search(words + r" \S+:(\d+)", server.read_log())[1] for words in ("lookups on", "under TLS on"))
        plain = f"127.0.0.1:{port}"
        pairs = measure_pairs(bench, server, made, plain, f"{other or '127.0.0.1'}:{port}")
        rounds = measure_tls_rounds(bench, server, made[0], plain, f"127.0.0.1:{tls_port}",
                                    (authority.context(), authority.certificate))
        return list(pairs) if bench.wants(*COST_ROWS) else [], list(rounds) if bench.wants(*TLS_ROWS) else []


def report_tls(bench, rounds):
    for batch in (128, 1):
        plain = f"plain_{batch}"
        bench.report(f"tls_{batch}", bench.n, [one[f"tls_{batch}"][0] / one[plain][0] for one in rounds])
        bench.report(f"tls_worker_{batch}", bench.n, [one[f"tls_{batch}"][1] - one[plain][1] for one in rounds])
    for name in ("plain_connects", "tls_handshakes", "tls_resumed"):
        bench.report(name, bench.n, [one[name] for one in rounds])


def measure(bench):
    others = Others()
    with contextlib.ExitStack() as stack:
        try:
            other = stack.enter_context(own_network("198.51.100.1"))
        except OSError:
            other = None
        pairs, rounds = serve(bench, other)
    bench.report("accounts", bench.n, [2 if other else 1])
    for name in ("free", "charged"):
        if pairs:
            bench.report(name, bench.n, [one[name][0] / 1e6 for one in pairs])
            bench.report(f"{name}_worker", bench.n, [one[name][1] for one in pairs])
    if pairs:
        bench.report("cost", bench.n, [100 * (one["charged"][1] / one["free"][1] - 1) for one in pairs])
    if rounds:
        report_tls(bench, rounds)
    bench.report("others", bench.n, [others.percent()])


if __name__ == "__main__":
    raise SystemExit(main(__doc__, ROWS, Access, measure, takes_size=True))
