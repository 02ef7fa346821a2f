"""numberload: the shapes of load that it makes, its reports, and the peers that it asks; every answer is checked by itself."""
import contextlib
import json
import pty
import os
import re
import signal
import subprocess
import time

import restart
import servers

COUNT = 20000


def run(*arguments, status=0):
    """The report of a run; --json comes by itself."""
    result = subprocess.run([servers.BIN / "numberload", *map(str, arguments), "--json"], capture_output=True, text=True, timeout=300)
    assert result.returncode == status, (arguments, result)
    return json.loads(result.stdout) if result.stdout else result.stderr


def is_clean(report):
    return report["wrong"] == report["broken"] == report["unavailable"] == 0 < report["numbers"]


@contextlib.contextmanager
def loaded(*flags):
    """A server with the population, and what every run says."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data", *flags) as server:
        rows = subprocess.run([servers.BIN / "numberload", "generate", "--count", str(COUNT)], capture_output=True, text=True, check=True).stdout
        server.ctl("import", "-", text=rows)
        yield server, ("--server", server.address, "--count", COUNT)


def test_shapes():
    """Address books, Zipf, ascending numbers, Poisson; the numbers asked for are as many as were said."""
    with loaded() as (server, common):
        for shape in (("--books",), ("--draw", "zipf", "--zipf-exponent", "1.2"), ("--draw", "sequential"), ("--draw", "uniform")):
            report = run("run", *common, "--numbers", 300000, *shape)
            assert is_clean(report) and report["numbers"] == 300000 and 130000 < report["registered"] < 170000, (shape, report)
        used = os.times().children_user + os.times().children_system
        assert is_clean(run("run", *common, "--seconds", 1, "--spin", 1000000, "--connections", 1, "--outstanding", 1))
        assert os.times().children_user + os.times().children_system - used > 0.4  # it has not slept
        books = run("run", *common, "--numbers", 300000, "--books")
        assert 100 < books["numbers"] / books["requests"] < 2000, books  # 0.7 x 50 + 0.25 x 500 + 0.045 x 5000 + 0.005 x 25000 = 510
        report = run("run", *common, "--rate", 50000, "--batch", 10, "--seconds", 2, "--poisson", "--hit-ratio", 0.9)
        assert is_clean(report) and 90000 < report["numbers"] < 110000 and 0.88 < report["registered"] / report["numbers"] < 0.92, report


def test_churn_slow_readers_and_registrations():
    """Connections that come and go, that hardly read, and changes beside the lookups; the lookups are answered all the same."""
    with loaded() as (server, common):
        before = server.stats()["connections_opened"]
        report = run("run", *common, "--rate", 20000, "--batch", 10, "--seconds", 2, "--churn", 40, "--register-ratio", 0.2, "--threads", 2)
        assert is_clean(report) and 70 <= report["churned"] <= 80, report
        assert server.stats()["connections_opened"] - before == 4 + report["churned"], (server.stats(), report)
        assert 0.15 < report["updates"] / (report["updates"] + report["requests"]) < 0.25 and report["update_latency_ns"]["p50"] > 0, report
        assert server.stats()["updates"]["replaced"] >= report["updates"] * 10 - 400 and server.stats()["directory"]["registered"] == COUNT
        report = run("run", *common, "--seconds", 1, "--slow-readers", 3)
        assert is_clean(report), report
        lookups = sum(server.stats()["lookups"].values())
        report = run("run", *common, "--rate", 1000, "--batch", 10, "--seconds", 2, "--slow-readers", 3)
        assert is_clean(report) and report["slow_ended"] == 0, report
        more = sum(server.stats()["lookups"].values()) - lookups
        assert more > report["numbers"] + 3 * 16000, (more, report)  # theirs, which the report leaves out


def test_goodbye():
    """A server that is succeeded says goodbye; the load goes on with the next one, and nothing is unanswered or wrong."""
    with servers.temporary_folder() as folder, restart.Service(folder / "data") as service:
        rows = subprocess.run([servers.BIN / "numberload", "generate", "--count", str(COUNT)], capture_output=True, text=True, check=True).stdout
        service.ctl("import", "-", text=rows)
        command = [servers.BIN / "numberload", "run", "--server", service.address, "--count", COUNT, "--batch", "64", "--seconds", "4", "--json"]
        with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True) as load:
            servers.wait_until(lambda: service.stats()["lookups"]["registered"] > 0, "the load")
            service.succeed()
            time.sleep(0.5)
            service.succeed()
            report = json.loads(load.communicate(timeout=60)[0])
        assert load.returncode == 0 and is_clean(report) and report["goodbyes"] == 8, report


def test_peers():
    """The same numbers in Redis and memcached, the same questions; a wrong population is noticed there, too."""
    with servers.Redis() as redis:
        for peer in ("redis-set", "redis-keys"):
            common = ("--peer", peer, "--server", f"127.0.0.1:{redis.port}", "--count", COUNT)
            assert run("register", *common, "--batch", 500)["added"] == COUNT
            report = run("run", *common, "--numbers", 100000, "--batch", 100)
            assert is_clean(report) and 45000 < report["registered"] < 55000, report
            assert run("run", *common, "--numbers", 1000, "--seed", 2, status=65)["wrong"] > 0
        assert redis.command("SCARD", "numbers") == [str(COUNT)] and redis.command("DBSIZE") == [str(COUNT + 1)]
    port = servers.free_port()
    with subprocess.Popen(["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1", "-u", "nobody"], stderr=subprocess.DEVNULL) as memcached:
        try:
            servers.wait_until(lambda: servers.can_connect(port), "memcached")
            common = ("--peer", "memcached", "--server", f"127.0.0.1:{port}", "--count", COUNT)
            assert run("register", *common, "--batch", 500)["added"] == COUNT
            for batch in (1, 100, 1000):
                report = run("run", *common, "--numbers", 50000, "--batch", batch)
                assert is_clean(report) and 22000 < report["registered"] < 28000, report
        finally:
            memcached.terminate()


def test_floor():
    """It answers each request with as many bytes as numberd, and nothing true."""
    with subprocess.Popen([servers.BIN / "numberload", "floor", "--server", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True) as floor:
        address = floor.stdout.readline().strip()
        for batch in (1, 128, 65535):
            report = run("run", "--peer", "floor", "--server", address, "--count", COUNT, "--numbers", 200000, "--batch", batch)
            assert report["numbers"] == 200000 and report["broken"] == report["unavailable"] == 0, report
        floor.send_signal(signal.SIGTERM)
        assert floor.wait(servers.PATIENCE) == 0


def test_files():
    """The percentiles are HdrHistogram's lines, the page is whole and has nothing from elsewhere."""
    with loaded() as (server, common), servers.temporary_folder() as folder:
        report = run("run", *common, "--seconds", 3, "--percentiles", folder / "percentiles", "--page", folder / "page.html")
        lines = (folder / "percentiles").read_text().splitlines()
        assert lines[0].split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
        points = [[float(word) for word in line.split()] for line in lines[2:-1]]
        assert all(a[0] <= b[0] and a[1] < b[1] and a[2] < b[2] for a, b in zip(points, points[1:]))
        assert points[-1][1] == 1 and points[-1][2] == report["requests"] and abs(points[-1][0] * 1e6 - report["latency_ns"]["max"]) < 1000
        half = next(point[0] for point in points if point[1] >= 0.5)
        assert abs(half * 1e6 - report["latency_ns"]["p50"]) <= 1, (half, report)
        page = (folder / "page.html").read_text()
        assert page.startswith("<!doctype html>") and page.count("<svg") == 2 and "http" not in page and "<script" not in page
        assert len(re.findall("[ML]", page.split('class="one" d="')[1].split('"')[0])) >= 2, page
        error = subprocess.run([servers.BIN / "numberload", "run", *map(str, common), "--numbers", "100", "--page", "/nowhere/page"],
                               capture_output=True, text=True)
        assert error.returncode == 73 and "cannot write /nowhere/page: No such file" in error.stderr, error


def test_terminal():
    """A line a second on a terminal, which goes at the end; none elsewhere."""
    with loaded() as (server, common):
        controller, terminal = pty.openpty()
        result = subprocess.run([servers.BIN / "numberload", "run", *map(str, common), "--seconds", "3"], stderr=terminal, stdout=subprocess.PIPE,
                                text=True, timeout=60)
        shown = os.read(controller, 65536).decode()
        os.close(controller)
        os.close(terminal)
        assert result.returncode == 0 and "3.0" in result.stdout.split(" s: ")[0], result
        assert "2 of 3 s: " in shown and "0 wrong" in shown and shown.endswith("\r\x1b[K"), shown
        result = subprocess.run([servers.BIN / "numberload", "run", *map(str, common), "--seconds", "2"], capture_output=True, text=True)
        assert result.returncode == 0 and result.stderr == "", result


def test_mistakes():
    for words, arguments in ((("--rate",), ("run", "--poisson")), (("--spin", "--rate"), ("run", "--spin", 20, "--rate", 1000)),
                             (("--draw", "sideways"), ("run", "--draw", "sideways")),
                             (("there is no carrier-pigeon",), ("run", "--peer", "carrier-pigeon")),
                             (("--peer is for run",), ("verify", "--peer", "floor")), (("not for redis-set",), ("run", "--peer", "redis-set", "--tls")),
                             (("too many for memcached",), ("run", "--peer", "memcached", "--batch", "9000")),
                             (("--register-ratio", "0 to 1"), ("run", "--register-ratio", "2")),
                             (("--register-ratio",), ("register", "--register-ratio", "0.5"))):
        error = run(*arguments, status=64)
        assert error.count("\n") == 1 and all(word in error for word in words), error
    assert "cannot connect" in run("run", "--peer", "redis-set", "--server", f"127.0.0.1:{servers.free_port()}", status=69)


if __name__ == "__main__":
    servers.run_tests(globals())
