"""What is missing from the query log is known, counted, and recorded: after a kill, a drop, a restart of the machine."""
import json
import subprocess
import threading
import time

import servers
from client import *  # noqa: F403 -- the protocol's names

BASE = 12025550000


def log_of(server):
    log = server.stats()["query_log"]
    assert log["looked_up"] == log["stored"] + log["in_flight"] + log["lost"] and log["in_flight"] >= 0, log
    return log


def settled(server):
    servers.wait_until(lambda: log_of(server)["in_flight"] == 0, "nothing is in flight")
    return log_of(server)


def read_back(data_dir, number, *flags):
    """The count of records of the number, and the gaps. Frames that a kill cut short are warned of."""
    with servers.temporary_folder() as folder:
        result = subprocess.run([servers.BIN / "numberctl", "disclose", *servers.ORDER, "--from", "2026-01-01", "--until",
                                 "2037-01-01", "--key", data_dir / "officer.private", "--data-dir", data_dir, "--output",
                                 folder / "out", "--number", f"+{number}", *flags], capture_output=True, text=True, timeout=300)
        assert result.returncode in (0, 65), result.stderr
        about = json.loads((folder / "out" / "disclosure.json").read_text())
        return about["recordCount"], about["gaps"]


def ask_until_it_dies(server, asked):
    """Lookups of 1,000 numbers, one after the other; what was sent, answered or not, is counted."""
    try:
        with Client(server.port) as client:
            while True:
                asked[0] += 1000
                client.lookup(range(BASE, BASE + 1000))
    except (OSError, EOFError, AssertionError):
        pass


def kill_under_load(server, seconds):
    asked = [0]
    thread = threading.Thread(target=ask_until_it_dies, args=(server, asked))
    thread.start()
    time.sleep(seconds)
    log_of(server)
    server.kill()
    thread.join()
    return asked[0]


def check_kills(folder, *flags):
    """Killed five times under load: the count goes on, and what is gone is one gap each, to the event."""
    asked = 0
    for _ in range(5):
        with servers.Numberd(folder / "data", *flags, status=-9) as server:
            asked += kill_under_load(server, 0.3)
    with servers.Numberd(folder / "data", *flags) as server:
        log = settled(server)
        # The last request of each run may have been on its way.
        assert asked - 5000 <= log["looked_up"] <= asked, (asked, log)
        return log


def test_kill():
    with servers.temporary_folder() as folder:
        log = check_kills(folder)
        records, gaps = read_back(folder / "data", BASE)
        assert 1000 * records == log["stored"], (records, log)
        assert log["lost"] == sum(gap["events"] for gap in gaps), (log, gaps)
        assert len(gaps) <= 5 and all(gap["reason"] == "server killed" for gap in gaps), gaps
        assert (log["lost"] > 0) == bool(gaps)
        assert not list((folder / "data" / "querylog").glob("*.new"))


def test_kill_with_redis():
    with servers.Redis() as redis, servers.temporary_folder() as folder:
        log = check_kills(folder, "--redis", redis.url)
        records, gaps = read_back(folder / "data", BASE, "--redis", redis.url)
        assert 1000 * records == log["stored"], (records, log)
        assert log["lost"] == sum(gap["events"] for gap in gaps), (log, gaps)


def test_drop():
    """What a full log drops is a gap with its worker's count, and stays so after a restart."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data, "--query-log-bytes", "1M") as server, Client(server.port) as client:
            def fill():
                client.lookup([BASE] * 10000)
                return log_of(server)["lost"] > 0
            servers.wait_until(fill, "the log is full")
            lost = log_of(server)["lost"]
        with servers.Numberd(data) as server:
            assert settled(server)["lost"] == lost
        records, gaps = read_back(data, BASE)
        assert sum(gap["events"] for gap in gaps) == lost, (gaps, lost)
        assert all(gap["reason"] == "dropped" for gap in gaps), gaps


def test_machine_restart():
    """Without the counters in memory nobody knows what is gone: that is a gap, too."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data, status=-9) as server:
            with Client(server.port) as client:
                client.lookup([BASE] * 7)
            settled(server)
            server.kill()
        servers.forget_counters(folder)
        with servers.Numberd(data) as server:
            log = log_of(server)
            assert (log["looked_up"], log["stored"], log["lost"]) == (7, 7, 0), log
            assert "the machine was restarted" in server.read_log()
        records, gaps = read_back(data, BASE)
        assert records == 7 and len(gaps) == 1 and gaps[0]["reason"] == "machine restarted" and gaps[0]["events"] is None, gaps


if __name__ == "__main__":
    servers.run_tests(globals())
