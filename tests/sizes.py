"""The large proof, too long for the test command: prints one line a figure, and ends with "N passed, N failed".

    NUMBERD_BIN=build/release/bin python3 tests/sizes.py [--registrations N] [--lookups N]

10 million generated registrations are imported, restarted and looked up, with as many unregistered neighbours; 1,000
connections at once; 100 million lookups through the log with a real Redis: produced = stored, every key's TTL
between 0 and 30 days and an hour. Takes about two minutes and 2 GB of memory and disk."""
import argparse
import json
import os
import pathlib
import subprocess
import time

os.environ.setdefault("NUMBERD_BIN", str(pathlib.Path(__file__).parent.parent / "build" / "release" / "bin"))
import servers  # noqa: E402 -- wants NUMBERD_BIN

RETENTION_MS = 30 * 24 * 3600 * 1000
results = []


def show(name, value, unit, good=True):
    results.append(good)
    print(f"{'ok  ' if good else 'FAIL'} {name:<52} {value:>14,} {unit}", flush=True)


def numberload(server, *arguments):
    result = subprocess.run([servers.BIN / "numberload", *map(str, arguments), "--server", server.address, "--json"],
                            capture_output=True, text=True)
    return result.returncode, json.loads(result.stdout or "{}"), result.stderr


def timed(function, *arguments):
    started = time.monotonic()
    return function(*arguments), round(time.monotonic() - started, 2)


def verify(server, count, when):
    (status, found, _), seconds = timed(numberload, server, "verify", "--count", count)
    show(f"registered numbers found {when}", found["registered"], "numbers", found["registered"] == count)
    show(f"neighbours not registered {when}", found["not_registered"], "numbers", found["not_registered"] == count)
    show(f"wrong answers {when} (in {seconds} s)", found["wrong"], "numbers", status == 0 and found["wrong"] == 0)


def import_and_restart(folder, count):
    rows = folder / "rows.csv"
    with rows.open("w") as file:
        subprocess.run([servers.BIN / "numberload", "generate", "--count", str(count)], stdout=file, check=True)
    with servers.Numberd(folder / "data") as server:
        report = json.loads(server.ctl("import", "--json", rows))
        show("rows imported", report["added"], "rows", report["added"] == count and report["rejected"] == 0)
        show("import rate, through numberctl", round(count / report["seconds"]), "rows/s")
        verify(server, count, "before the restart")
        stats = server.stats()
        show("directory memory", round(stats["directory"]["bytes"] / count, 2), "bytes/number")
    rows.unlink()
    started = time.monotonic()
    with servers.Numberd(folder / "data") as server:
        show("start from the snapshot", round(time.monotonic() - started, 2), "s")
        verify(server, count, "after the restart")
        connections_at_once(server, count)


def connections_at_once(server, count):
    status, report, error = numberload(server, "run", "--count", count, "--connections", 1000, "--outstanding", 1,
                                       "--batch", 16, "--seconds", 10)
    show("1,000 connections, batch 16", round(report.get("numbers_per_second", 0)), "numbers/s", status == 0)
    show("  wrong answers", report.get("wrong", -1), "numbers", report.get("wrong") == 0)
    show("  connections broken", report.get("broken", -1), "connections", report.get("broken") == 0)
    print(error, end="")


def log_to_redis(folder, count, lookups):
    # What the first part left in segments would be shipped, too, and counted.
    for segment in (folder / "data" / "querylog").glob("*.segment"):
        segment.unlink()
    with servers.Redis() as redis, servers.Numberd(folder / "data", "--redis", redis.url) as server:
        status, report, _ = numberload(server, "run", "--count", count, "--numbers", lookups, "--batch", 100)
        show("lookups with Redis on, batch 100", report["numbers"], "numbers", status == 0 and report["numbers"] == lookups)
        show("  rate while logging", round(report["numbers_per_second"]), "numbers/s")
        _, seconds = timed(servers.wait_until, lambda: server.stats()["query_log"]["in_flight"] == 0, "all is stored", 300)
        show("  all stored after the last answer", seconds, "s")
        log = server.stats()["query_log"]
        show("  produced", log["looked_up"], "events", log["looked_up"] == lookups)
        show("  stored", log["stored"], "events", log["stored"] == lookups)
        show("  lost", log["lost"], "events", log["lost"] == 0)
        keys = redis.command("KEYS", "*")
        ttls = [int(redis.command("PTTL", key)[0]) for key in keys]
        show("  keys in Redis", len(keys), "keys")
        show("  smallest TTL", min(ttls), "ms", min(ttls) > 0)
        show("  largest TTL", max(ttls), "ms", max(ttls) <= RETENTION_MS + 3600000)
        bytes_used = sum(int(redis.command("MEMORY", "USAGE", key, "SAMPLES", 0)[0]) for key in keys)
        show("  memory in Redis", round(bytes_used / lookups, 2), "bytes/event")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registrations", type=int, default=10_000_000)
    parser.add_argument("--lookups", type=int, default=100_000_000)
    options = parser.parse_args()
    with servers.temporary_folder() as folder:
        import_and_restart(folder, options.registrations)
        log_to_redis(folder, options.registrations, options.lookups)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    raise SystemExit(0 if all(results) else 1)


main()
