"""31 simulated days: what can be read, what is erased when, its receipts, and what is found overdue."""
import datetime
import glob
import json
import subprocess

import servers
from client import *  # noqa: F403 -- the protocol's names

BASE = 12025550000
REQUESTER = 7
BEGIN = datetime.datetime(2026, 11, 24, 12, 0, 0)
DAY = datetime.timedelta(days=1)
HOUR = datetime.timedelta(hours=1)


def clock(moment):
    """A command before another, for which it is this moment, going on. Monotonic clocks stay as they are."""
    libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not libraries:
        raise servers.Skipped("faketime is not installed")
    return ("env", f"LD_PRELOAD={libraries[0]}", f"FAKETIME=@{moment:%Y-%m-%d %H:%M:%S}", "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "TZ=UTC")


def run(moment, *arguments):
    return subprocess.run([*clock(moment), servers.BIN / "numberctl", *arguments], capture_output=True, text=True, timeout=300)


def serve(data, moment, *numbers, flags=()):
    """A server of this moment answers lookups of these numbers; what it says of the log's erasure is returned."""
    with servers.Numberd(data, *flags, wrapper=clock(moment)) as server:
        with Client(server.port) as client:
            for number in numbers:
                body = struct.pack("<Q16sQ", REQUESTER, bytes(16), number)
                assert client.ask(frame(LOOKUP, body, 1, flags=1)).code == OK
        servers.wait_until(lambda: server.stats()["query_log"]["in_flight"] == 0, "all is stored")
        return server.stats()["query_log"]["erasure_lag_seconds"]


def readable(folder, data, moment):
    """The days whose lookups numberctl shows at this moment."""
    with servers.temporary_folder() as out:
        result = run(moment, "disclose", *servers.ORDER, "--from", "2026-01-01", "--until", "2037-01-01", "--requester", str(REQUESTER),
                     "--key", folder / "officer.private", "--data-dir", data, "--output", out / "out")
        assert result.returncode == 0, result
        rows = [json.loads(line) for line in (out / "out" / "records.jsonl").read_text().splitlines()]
        return sorted(int(row["partyNumber"][1:]) - BASE for row in rows)


def kept(data, suffix):
    return len(list((data / "querylog").glob(f"*.{suffix}")))


def test_31_days():
    """A lookup a day: each can be read for 30 days, and its key and segment are gone within the hour after."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        servers.ctl("officer-key", folder / "officer")
        flags = ("--officer-key", folder / "officer.public")
        for day in range(33):
            moment = BEGIN + day * DAY + day * datetime.timedelta(seconds=1)
            assert serve(data, moment, BASE + day, flags=flags) == 0
            expected = list(range(max(0, day - 29), day + 1))
            if day in (0, 1, 28, 29, 30, 31, 32):
                assert readable(folder, data, moment + datetime.timedelta(seconds=20)) == expected, day
            # The lookups of 30 days ago are no longer read, but the hour they are in is not over yet.
            hours = min(day, 30) + 1
            assert (kept(data, "key"), kept(data, "segment")) == (hours, hours), day
            if day >= 30:
                later = BEGIN + day * DAY + HOUR
                assert serve(data, later, flags=flags) == 0
                assert (kept(data, "key"), kept(data, "segment")) == (hours - 1, hours - 1), day
        receipts = [json.loads(line) for line in (data / "querylog" / "erasures.ledger").read_text().splitlines()]
        assert [(receipt["hour"], receipt["events"], receipt["keys"], receipt["segments"]) for receipt in receipts] == [
            (f"{BEGIN + day * DAY:%Y-%m-%dT%H:00:00Z}", 1, 1, 1) for day in range(3)], receipts
        # A server that is down erases nothing: check finds it; nothing is shown; the next start erases it.
        late = BEGIN + 34 * DAY + HOUR
        found = run(late, "check", data, "--query-log")
        assert found.returncode == 65 and found.stdout.count("should have been erased") == 4, found
        assert readable(folder, data, late) == list(range(5, 33))
        serve(data, late, flags=flags)
        good = run(late, "check", data, "--query-log")
        assert good.returncode == 0 and "nothing is overdue" in good.stdout and "erasures.ledger: 5 entries" in good.stdout, good
        ledger = data / "querylog" / "erasures.ledger"
        ledger.write_text(ledger.read_text().replace('"events":1', '"events":2', 1))
        assert "not as it was written" in run(late, "check", data, "--query-log").stderr


def test_a_clock_that_jumps():
    """A clock that is 60 days ahead at the start, for a while, destroys nothing; what seems overdue meanwhile is said to be."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        servers.ctl("officer-key", folder / "officer")
        flags = ("--officer-key", folder / "officer.public")
        serve(data, BEGIN, BASE, flags=flags)
        assert serve(data, BEGIN + 60 * DAY, BASE + 1, flags=flags) > 20 * 86400
        assert readable(folder, data, BEGIN + 60 * DAY) == [1]
        assert (kept(data, "key"), kept(data, "segment")) == (2, 2)
        assert serve(data, BEGIN + HOUR, BASE + 2, flags=flags) == 0
        assert readable(folder, data, BEGIN + HOUR) == [0, 1, 2]


def hold(folder, data, moment, *words, number=BASE, status=0):
    result = run(moment, "hold", *servers.ORDER, "--from", "2026-01-01", "--until", "2037-01-01", "--number", f"+{number}", "--key",
                 folder / "officer.private", "--data-dir", data, "--json", *words)
    assert result.returncode == status, result
    return json.loads(result.stdout) if status == 0 else result.stderr


def held(folder, data, moment, name, number=BASE, status=0, key="officer"):
    """The numbers that the hold shows to an order about this one."""
    with servers.temporary_folder() as out:
        result = run(moment, "disclose", *servers.ORDER, "--from", "2026-01-01", "--until", "2037-01-01", "--number", f"+{number}",
                     "--key", folder / f"{key}.private", "--data-dir", data, "--hold", data / "querylog" / name, "--output", out / "out")
        assert result.returncode == status, result
        if status != 0:
            return result.stderr
        about = json.loads((out / "out" / "disclosure.json").read_text())
        assert about["source"] == "hold", about
        return [json.loads(line)["partyNumber"] for line in (out / "out" / "records.jsonl").read_text().splitlines()]


def test_hold():
    """What an order names outlives the log, alone, until its own end; once longer; then it is gone, too."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        for name in ("officer", "other"):
            servers.ctl("officer-key", folder / name)
        flags = ("--officer-key", folder / "officer.public")
        serve(data, BEGIN, BASE, BASE + 1, flags=flags)
        assert "--days is from 1 to 90" in hold(folder, data, BEGIN, "--days", "91", status=64)
        made = hold(folder, data, BEGIN + DAY, "--days", "40")
        assert made["records"] == 1 and made["until"].startswith("2027-01-04T12:00"), made
        for day in range(6, 42, 6):
            serve(data, BEGIN + day * DAY, flags=flags)
        late = BEGIN + 40 * DAY
        assert readable(folder, data, late) == [] and kept(data, "segment") == 0
        assert held(folder, data, late, made["hold"]) == [f"+{BASE}"]
        assert held(folder, data, late, made["hold"], number=BASE + 1) == []
        assert "another officer" in held(folder, data, late, made["hold"], key="other", status=77)
        path = data / "querylog" / made["hold"]
        whole = path.read_bytes()
        for at in range(0, len(whole), 7):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
            held(folder, data, late, made["hold"], status=77 if 64 <= at < 96 else 65)
        path.write_bytes(whole[:-1])
        assert "cut short" in held(folder, data, late, made["hold"], status=65)
        path.write_bytes(whole[:8] + b"\1" + whole[9:])
        assert "version 1, and this numberctl reads version 2: use the numberctl" in held(folder, data, late, made["hold"], status=65)
        path.write_bytes(whole)

        again = hold(folder, data, late, "--renew", "--hold", path)
        assert again["until"].startswith("2027-04-03T12:00") and again["hold"] != made["hold"] and not path.exists(), again
        path = data / "querylog" / again["hold"]
        assert "possible once" in hold(folder, data, late + DAY, "--renew", "--hold", path, status=77)
        end = late + 90 * DAY
        for day in range(42, 131, 6):
            serve(data, BEGIN + day * DAY, flags=flags)
        assert held(folder, data, end - HOUR, again["hold"]) == [f"+{BASE}"]
        assert "its time is over" in held(folder, data, end + HOUR, again["hold"], status=77)
        assert f"BAD   {again['hold']}" in run(end + HOUR, "check", data, "--query-log").stdout
        serve(data, end + HOUR, flags=flags)
        good = run(end + HOUR, "check", data, "--query-log")
        assert kept(data, "hold") == 0 and good.returncode == 0, good
        events = [json.loads(line)["event"] for line in (data / "disclosures.ledger").read_text().splitlines()]
        assert events.count("held") == 1 and events.count("renewed") == 1


def test_overdue_in_redis():
    """Entries that outlive their time in Redis, or have none: found by name."""
    with servers.Redis() as redis, servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data, "--redis", redis.url) as server:
            server.ctl("lookup", f"+{BASE}")
            servers.wait_until(lambda: server.stats()["query_log"]["stored"] == 1, "the event is stored")
            assert "nothing is overdue, nor in Redis" in servers.ctl("check", data, "--query-log", "--redis", redis.url)
        now = datetime.datetime.now(datetime.timezone.utc)
        late = run(now + 30 * DAY + HOUR, "check", data, "--redis", redis.url)
        assert late.returncode == 65 and late.stdout.count("querylog:{") == 1 and "erased" in late.stdout, late
        key = next(key for key in redis.command("KEYS", "querylog:{*"))
        redis.command("PERSIST", key)
        assert f"{key}: expires never" in servers.ctl("check", data, "--redis", redis.url, status=65)
        redis.command("PEXPIRE", key, 32 * 86400 * 1000)
        assert f"{key}: expires later than it must" in servers.ctl("check", data, "--redis", redis.url, status=65)


if __name__ == "__main__":
    servers.run_tests(globals())
