"""Registrations over restarts: what was acknowledged is there after a stop or a kill, from the snapshots and the journal;
damage is refused, never guessed at; a disk that takes no more makes the server read-only."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import threading
import time
import urllib.error

import servers
from client import *  # noqa: F403 -- the protocol's names

BASE = 447700000000
SEGMENT_BYTES = 64 << 20
DAMAGED, NO_INPUT, CANNOT_CREATE, IO_ERROR, IN_USE = 65, 66, 73, 74, 75


# --- helpers ---

def exported(folder, *options):
    """The registrations of a data directory as a sorted list of CSV rows."""
    lines = servers.ctl("export", "--data-dir", folder, *options).splitlines()
    assert lines[0] == "number,account,flags"
    return sorted(lines[1:])


def snapshots(data):
    """The newest first."""
    return sorted((data / "snapshots").glob("*.snapshot"), reverse=True)


def segments(data):
    return sorted((data / "journal").glob("*.journal"))


def strace(injection):
    """A wrapper that makes a system call fail or last; see strace(1), "Tampering". It needs no privilege."""
    if subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode != 0:
        raise servers.Skipped("strace may trace nothing here")
    call = injection.split(":")[0]
    leaks = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "detect_leaks=0"]))  # impossible while traced
    return ["env", f"ASAN_OPTIONS={leaks}", "strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
            f"inject={injection}"]


@contextlib.contextmanager
def small_disk(folder, megabytes):
    """A tmpfs of that size, seen by a process alone that lives as long as the block: the wrapper that runs a program
    there, and the way to its files from here."""
    script = 'mount -t tmpfs -o mode=700,size=$1m tmpfs "$2" && echo mounted && exec sleep 900'
    with subprocess.Popen(["unshare", "--map-root-user", "--mount", "bash", "-c", script, "small-disk", str(megabytes),
                           folder], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as holder:
        try:
            if holder.stdout.readline() != "mounted\n":
                raise servers.Skipped("unshare or mount is not allowed here")
            yield (["nsenter", "--target", str(holder.pid), "--user", "--mount", "--preserve-credentials"],
                   pathlib.Path(f"/proc/{holder.pid}/root{folder}"))
        finally:
            holder.kill()


def fails(folder, status, *words, wrapper=(), flags=()):
    """numberd does not start: its status, and one line with all the words. Returns everything it wrote."""
    result = subprocess.run([*wrapper, servers.BIN / "numberd", "--data-dir", folder, "--listen", "127.0.0.1:0",
                             "--stats-listen", "127.0.0.1:0", *flags], capture_output=True, text=True,
                            timeout=servers.PATIENCE, stdin=subprocess.DEVNULL)
    lines = [line for line in result.stderr.splitlines() if line.startswith("numberd: ")]
    assert result.returncode == status and len(lines) == 1, (result.returncode, result.stderr)
    for word in words:
        assert word in lines[0], (word, result.stderr)
    return result.stderr


def write_at(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def entries(first, count, account=0):
    return [(BASE + i, account + i, i % 128 * 2) for i in range(first, first + count)]


def there(client, first, count, account=0):
    """Whether these entries are registered as they were sent."""
    return client.records([BASE + i for i in range(first, first + count)]) == [
        entry[1:] for entry in entries(first, count, account)]


# --- restarts ---

def test_restart():
    """All kinds of changes are there after an orderly restart, account and flags included."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.register(*[(BASE + i, i, i % 256) for i in range(5000)])
            client.ask(numbers(DEREGISTER, [BASE + i for i in range(100)]))
            client.ask(moves([(BASE + 200, BASE + 9200)]))
            position = server.stats()["directory"]["position"]
        assert "the registrations are saved" in server.log
        expected = sorted(f"+{BASE + i + (9000 if i == 200 else 0)},{i},{i % 256}" for i in range(100, 5000))
        assert exported(data) == exported(data, "--last") == expected
        assert (data / "numberd.format").read_text().startswith("numberd data directory, format 2,")
        # One a change, two for the move.
        assert [path.name for path in snapshots(data)] == [f"{position:016x}.snapshot"] and position == 5102
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert client.lookup([BASE, BASE + 200, BASE + 9200, BASE + 4998]) == [0, 0, REGISTERED, REGISTERED]
            assert server.stats()["directory"]["position"] == position
            before = snapshots(data)[0].stat().st_mtime_ns
        # Nothing had changed: nothing is written.
        assert snapshots(data)[0].stat().st_mtime_ns == before and len(snapshots(data)) == 1
        assert exported(data) == expected


def test_kill_without_a_snapshot():
    """A SIGKILL right after the acknowledgement loses nothing, with no snapshot at all: the journal alone has it."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        for round_ in range(4):
            with servers.Numberd(data) as server, Client(server.port) as client:
                assert round_ == 0 or there(client, 0, 1000 * round_)
                assert client.register(*entries(1000 * round_, 1000)) == [ADDED] * 1000
                server.kill()
        assert snapshots(data) == []
        assert [path.name for path in segments(data)] == [f"{1000 * i + 1:016x}.journal" for i in range(4)]
        assert len(exported(data)) == 4000
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert there(client, 0, 4000)
            assert "unfinished" not in server.read_log()


def test_what_was_removed_stays_removed():
    """Deregistered and moved numbers do not come back after a kill, from the snapshot before it or the journal."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.register(*entries(0, 2000))
            server.ctl("snapshot")
            client.register(*entries(2000, 1000))
            for first in (0, 2000):
                gone = [BASE + i for i in range(first, first + 500)]
                assert list(client.ask(numbers(DEREGISTER, gone)).body) == [REMOVED] * 500
                away = [(BASE + i, BASE + 10000 + i) for i in range(first + 500, first + 1000)]
                assert list(client.ask(moves(away)).body) == [MOVED] * 500
            server.kill()
        for _ in range(2):
            with servers.Numberd(data) as server, Client(server.port) as client:
                for first in (0, 2000):
                    assert client.records([BASE + i for i in range(first, first + 1000)]) == [None] * 1000
                    assert client.records([BASE + 10000 + i for i in range(first + 500, first + 1000)]) == [
                        entry[1:] for entry in entries(first + 500, 500)]
                assert server.stats()["directory"]["registered"] == 2000
                server.kill()


def test_snapshot_while_writing():
    """Snapshots under registrations and moves: no move is refused, and what they and the journal hold is all of it."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client, Client(server.port) as asker:
            client.register(*[(BASE + i, i, 0) for i in range(60000)])
            for round_ in range(20):
                asker.send(frame(SNAPSHOT))
                there_, back = (round_ % 2) * 10**6, (1 - round_ % 2) * 10**6
                for first in range(0, 1000, 100):
                    pairs = [(BASE + i + there_, BASE + i + back) for i in range(first, first + 100)]
                    assert list(client.ask(moves(pairs)).body) == [MOVED] * 100
                assert asker.receive().code == OK
            server.ctl("snapshot")
            assert server.stats()["snapshot"]["records"] == 60000
            client.ask(moves([(BASE + 59999, BASE + 10**7)]))
            server.kill()
        for rows in (exported(data), exported(data, "--last")):
            assert len(rows) == 60000 and {int(row.split(",")[1]) for row in rows} == set(range(60000))
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert client.lookup([BASE + 59999, BASE + 10**7, BASE, BASE + 10**6]) == [0, 1, 1, 0]


def test_without_account_ids_and_back():
    """A snapshot with account ids is read by a server that keeps none, and the other way round."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.register(*entries(0, 3000, account=7))
            server.ctl("snapshot")
            client.register(*entries(3000, 1000, account=7))
            server.kill()
        without = [(0, entry[2]) for entry in entries(0, 4000)]
        with servers.Numberd(data, "--accounts", "no") as server, Client(server.port) as client:
            assert client.records([BASE + i for i in range(4000)]) == without
            assert list(client.ask(moves([(BASE, BASE + 4000)])).body) == [MOVED]
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert client.records([BASE + i for i in range(1, 4001)]) == without[1:] + without[:1]
            client.register(*entries(0, 10, account=9))
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert there(client, 0, 10, account=9)


def test_not_ready():
    """While a snapshot is being loaded (reading is slowed down), both ports answer that it is."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.register(*entries(0, 60000))
        # Two reads a shard's at least, by as many threads as there are processors: two seconds and more.
        with servers.Numberd(data, "--threads", "1", wrapper=strace("pread64:delay_enter=20000"), wait=False) as server:
            with Client(server.port) as client:
                for request in (numbers(LOOKUP, [BASE]), numbers(LOOKUP_RECORDS, [BASE]), registrations([(BASE, 1, 0)]),
                                numbers(DEREGISTER, [BASE]), moves([(BASE, BASE + 10**6)]), frame(SNAPSHOT)):
                    reply = client.ask(request)
                    assert reply.code == NOT_READY and reply.retry_after_ms > 0 and reply.count == 0, reply.code
                assert client.ask(frame(PING)).code == OK
                stats = json.loads(client.ask(frame(STATS)).body)
                assert stats["ready"] is False and stats["journal"] is None
                servers.wait_until(lambda: server.stats()["loading_percent"] > 0, "it comes along")
                try:
                    text = f"200 {server.get('/readyz')}"
                except urllib.error.HTTPError as answer:
                    text = f"{answer.code} {answer.read().decode()}"
                assert text.startswith("503 not ready: the registrations are being loaded, ") and "percent" in text, text
                assert server.get("/healthz") == "ok\n"
                assert not server.is_ready()
                server.wait_until_ready()
                assert there(client, 0, 60000) and server.get("/readyz") == "ready\n"
                assert server.stats()["loading_percent"] is None
        # A stop while it loads is an orderly one, too, and changes nothing.
        before = {path: path.stat().st_mtime_ns for path in [*snapshots(data), *segments(data)]}
        with servers.Numberd(data, wrapper=strace("pread64:delay_enter=50000"), wait=False) as server:
            assert servers.can_connect(server.port)
        assert not server.log.count("ready:"), server.log
        assert before == {path: path.stat().st_mtime_ns for path in [*snapshots(data), *segments(data)]}


# --- when changes are acknowledged ---

def test_durability():
    """`always` waits for the disk (which is slowed down), `interval` and `off` do not; all survive a kill."""
    with servers.temporary_folder() as folder:
        for policy in ("always", "interval", "off"):
            data = folder / policy
            with servers.Numberd(data, "--durability", policy, "--durability-interval-ms", "100",
                                 wrapper=strace("fdatasync:delay_enter=1000000")) as server, Client(server.port) as client:
                begun = time.monotonic()
                assert client.register(*entries(0, 1000)) == [ADDED] * 1000
                took = time.monotonic() - begun
                assert (took >= 1) == (policy == "always"), (policy, took)
                assert server.stats()["journal"]["policy"] == policy
                server.kill()
            with servers.Numberd(data, "--durability", policy) as server, Client(server.port) as client:
                assert there(client, 0, 1000)
                assert list(client.ask(numbers(DEREGISTER, [BASE])).body) == [REMOVED]
                if policy == "interval":
                    servers.wait_until(lambda: server.stats()["journal"]["durable"] == 1001, "it is synced in time")
                server.kill()
            with servers.Numberd(data) as server, Client(server.port) as client:
                assert client.lookup([BASE, BASE + 1]) == [0, 1]


def test_snapshots_by_themselves():
    """A journal that grows leads to snapshots; at most two stay, and no segments that neither of them needs."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        flags = ("--journal-bytes", "1M", "--snapshot-minutes", "0")
        with servers.Numberd(data, *flags) as server, Client(server.port) as client:
            request = registrations(entries(0, 65535))
            seen = set()

            def next_one():
                good = server.stats()["snapshot"]["good_number"]
                return good not in seen and (seen.add(good) or good)

            assert next_one() == 0
            client.ask(request)
            servers.wait_until(next_one, "a snapshot comes by itself")
            assert [path.name for path in snapshots(data)] == [f"{65535:016x}.snapshot"]
            for _ in range(2 * SEGMENT_BYTES // (16 * 65535)):
                assert client.ask(request).code == OK
            servers.wait_until(next_one, "another one")
            for _ in range(2):  # two that need nothing of the first segment
                client.ask(request)
                servers.wait_until(next_one, "another one")
            journal = server.stats()["journal"]
            assert len(snapshots(data)) == 2 and len(segments(data)) <= 2, (snapshots(data), segments(data))
            assert journal["segments"] == len(segments(data)) and journal["bytes"] == SEGMENT_BYTES * journal["segments"]
            assert segments(data)[0].name != f"{1:016x}.journal"
            server.kill()
        servers.ctl("check", data)
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert there(client, 0, 65535)


def test_only_the_asker_waits():
    """While the disk takes its time, the answer to a change waits, and what was sent behind it; other connections go on."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data, wrapper=strace("fdatasync:delay_enter=400000")) as server, \
                Client(server.port) as client, Client(server.port) as other:
            started = time.monotonic()
            client.send(registrations(entries(0, 1), 7) + numbers(LOOKUP, [BASE], 8))
            waits = []
            for _ in range(20):
                asked = time.monotonic()
                other.lookup([BASE])
                waits.append(time.monotonic() - asked)
            quick = time.monotonic() - started
            replies = [client.receive(), client.receive()]
            assert [reply.request_id for reply in replies] == [7, 8] and list(replies[1].body) == [REGISTERED]
            assert time.monotonic() - started >= 0.4 > quick, (quick, waits)
            # Seen by lookups before it was acknowledged, and by all after it.
            assert other.lookup([BASE]) == [REGISTERED]


# --- damage ---

def make_two_snapshots(data):
    """A good one at change 10000, a newer one at 12000, and 500 changes in the journal behind."""
    with servers.Numberd(data) as server, Client(server.port) as client:
        client.register(*entries(0, 10000))
        server.ctl("snapshot")
        client.register(*entries(10000, 2000))
        server.ctl("snapshot")
        client.register(*entries(12000, 500))
        server.kill()
    assert [path.name for path in snapshots(data)] == [f"{12000:016x}.snapshot", f"{10000:016x}.snapshot"]


def test_damaged_snapshot():
    """A damaged snapshot gives way to the one before and the longer journal, with a line, and is set aside."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        make_two_snapshots(data)
        newest, older = snapshots(data)
        aside = newest.with_name(newest.name + ".damaged")
        whole = newest.read_bytes()
        for damaged in (whole[:-1], whole[:100000], whole[:100] + b"\xff" + whole[101:], b"", whole + b"x",
                        whole[:100000] + bytes([whole[100000] ^ 1]) + whole[100001:]):
            newest.write_bytes(damaged)
            text = servers.ctl("check", data, status=DAMAGED)
            assert f"BAD   {newest} is damaged" in text and f"ok    {older}" in text, text
            assert newest.read_bytes() == damaged
            with servers.Numberd(data) as server, Client(server.port) as client:
                assert there(client, 0, 12500)
                log = server.read_log()
                assert f"{newest.name} is damaged" in log and "taking the one before it and the journal since" in log, log
                server.kill()
            assert aside.read_bytes() == damaged and not newest.exists()
        # The two that are kept are good ones.
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.register(*entries(12500, 10))
            server.ctl("snapshot")
        assert older in snapshots(data) and len(snapshots(data)) == 2


def test_all_snapshots_damaged():
    """Without any good snapshot a journal that reaches back to the first change is enough, and one that does not is refused."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        make_two_snapshots(data)
        for path in snapshots(data):
            path.write_bytes(path.read_bytes()[:-1])
        text = servers.ctl("check", data, status=DAMAGED)
        assert text.count("BAD ") == 2 and "a start loads 12500" in text, text
        path, = segments(data)
        journal = path.read_bytes()
        # Cut in the middle of the changes that the newer snapshot held.
        path.write_bytes(journal[:16 * 11000])
        fails(data, DAMAGED, "snapshot of change 12000", "damaged", "backup", "numberctl check")
        path.unlink()
        fails(data, DAMAGED, "journal", "no segment", "backup")
        path.write_bytes(journal)
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert there(client, 0, 12500)
            assert "taking the journal from its beginning" in server.read_log()
        assert len(list((data / "snapshots").glob("*.damaged"))) == 2


def test_nothing_unfinished_is_left():
    """What was being written aside when the server died is gone after the next start, and a segment is as long as its changes."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        for round_ in range(3):
            with servers.Numberd(data) as server, Client(server.port) as client:
                client.register(*entries(100 * round_, 100))
                server.kill()
            (data / "snapshots" / f"{round_:016x}.snapshot.new").write_bytes(b"half")
            (data / "journal" / f"{round_:016x}.journal.new").write_bytes(b"half")
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert there(client, 0, 300)
            # Not the whole data directory: the query log may be writing one of its own.
            assert not [path for folder in ("snapshots", "journal", "incoming") for path in (data / folder).glob("*.new")]
            assert all(path.stat().st_size < 10000 for path in segments(data)[:-1]), segments(data)
            server.kill()


def test_snapshot_that_cannot_be_looked_at():
    """A snapshot that is a dangling link is not taken for none."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.register(*entries(0, 10))
        path = snapshots(data)[0]
        path.unlink()
        path.symlink_to(folder / "elsewhere")
        fails(data, NO_INPUT, path.name, "No such file")
        assert path.is_symlink()


def test_damaged_journal():
    """A byte that changed in the middle of the journal is refused with one line, and the file left as it is."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client:
            for first in range(0, 10000, 500):
                client.register(*entries(first, 500))
            # The last commit is covered by a mark behind it, which comes when there is nothing else to do.
            time.sleep(0.2)
            server.kill()
        path, = segments(data)
        written = path.read_bytes().rstrip(b"\0")
        for offset in (3, 20, 64, 100, 50000, len(written) - 100):
            write_at(path, offset, bytes([written[offset] ^ 0x10]))
            damaged = path.read_bytes()
            fails(data, DAMAGED, path.name, "damaged", "backup")
            assert path.read_bytes() == damaged
            write_at(path, offset, written[offset:offset + 1])
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert there(client, 0, 10000)


def test_missing_segment():
    """A journal with a gap, or one that does not begin where the snapshot ends, is refused with one line."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        for first in (0, 1000, 2000):
            with servers.Numberd(data) as server, Client(server.port) as client:
                client.register(*entries(first, 1000))
                server.kill()
        aside = folder / "aside"
        for index, changes in ((0, "1 to 1000"), (1, "1001 to 2000")):
            path = segments(data)[index]
            path.rename(aside)
            fails(data, DAMAGED, str(data / "journal"), f"lacks the changes {changes}", "backup")
            assert "lacks" in servers.ctl("check", data, status=DAMAGED)
            assert "lacks" in servers.ctl("export", "--data-dir", data, status=DAMAGED)
            aside.rename(path)
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert there(client, 0, 3000)
            server.kill()


def test_unfinished_commit():
    """A journal that breaks off within its last commit is cut there, with a line; all before it is there."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.register(*entries(0, 1000))
            length = len(segments(data)[0].read_bytes().rstrip(b"\0"))
            client.register(*entries(1000, 1000))
            server.kill()
        path, = segments(data)
        os.truncate(path, length + 2000)  # a request is taken in parts of 256, and each may be a commit
        assert "unfinished commit" in servers.ctl("check", data)
        assert path.stat().st_size == length + 2000  # looking changes nothing
        for round_ in range(2):
            with servers.Numberd(data) as server, Client(server.port) as client:
                assert there(client, 0, 1000)
                assert client.records([BASE + 1000]) == ([None] if round_ == 0 else [(5, 0)])
                assert ("unfinished commit" in server.read_log()) == (round_ == 0), server.read_log()
                client.register((BASE + 1000, 5, 0))
                server.kill()


def test_check():
    """`numberctl check` says of each file whether it is good, 65 if one is not, 75 while a server has the directory open."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        make_two_snapshots(data)
        lines = servers.ctl("check", data).splitlines()
        assert len(lines) == 5 and all(line.startswith("ok    ") for line in lines), lines
        assert "12000 registrations" in lines[0] and "10000 registrations" in lines[1] and "12500 changes" in lines[2], lines
        assert "12500 registrations, up to change 12500, 500 of them from the journal" in lines[3], lines
        report = json.loads(servers.ctl("check", data, "--json"))
        assert report["good"] is True and report["report"].splitlines() == lines
        files = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in data.rglob("*")}
        write_at(segments(data)[0], 5000, b"\xff\xff")
        text = servers.ctl("check", data, status=DAMAGED)
        assert f"BAD   {segments(data)[0]} is damaged" in text, text
        result = subprocess.run([servers.BIN / "numberctl", "check", data, "--json"], capture_output=True, text=True,
                                timeout=servers.PATIENCE, stdin=subprocess.DEVNULL)
        assert result.returncode == DAMAGED and json.loads(result.stdout)["good"] is False, result
        assert set(files) == set(data.rglob("*")) and all(
            (path.stat().st_mtime_ns, path.stat().st_size) == files[path] for path in snapshots(data))
        servers.ctl("check", folder / "nowhere", status=NO_INPUT)
        with servers.Numberd(folder / "other"):
            assert "in use" in servers.ctl("check", folder / "other", status=IN_USE)
        servers.ctl("check", folder / "other")


# --- disks that refuse ---

def test_no_room_at_the_start():
    """A server that cannot have its journal does not start, and says why (RLIMIT_FSIZE plays the disk)."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        wrapper = ["bash", "-c", "ulimit -f 64; exec \"$@\"", "wrapper"]
        fails(data, IO_ERROR, str(data / "journal"), "File too large", "free space", wrapper=wrapper)
        assert list((data / "journal").iterdir()) == []
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.register(*entries(0, 1000))
            server.kill()
        fails(data, IO_ERROR, str(data / "journal"), "File too large", wrapper=wrapper)
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert there(client, 0, 1000)


def assert_read_only(server, client):
    """Changes are refused with a code, lookups are answered, the operator is told once."""
    for request in (registrations([(BASE, 1, 0)]), numbers(DEREGISTER, [BASE]), moves([(BASE, BASE + 10**7)])):
        assert client.ask(request).code == READ_ONLY
    assert client.lookup([BASE, BASE + 10**7]) == [1, 0]
    assert server.get("/readyz") == "ready; read-only: the journal cannot be written\n"
    assert server.stats()["journal"]["read_only"] is True and server.stats()["ready"] is True
    assert "\nnumberd_read_only 1\n" in server.get("/metrics")
    assert server.read_log().count("registrations are read-only now") == 1, server.read_log()


def assert_writable(server, client):
    assert server.get("/readyz") == "ready\n" and server.stats()["journal"]["read_only"] is False
    assert "registrations are taken" in server.read_log()
    assert client.register((BASE, 1, 0)) == [REPLACED]


def test_full_disk():
    """A full disk makes the server read-only; when there is room again, a snapshot has it take registrations as before."""
    with servers.temporary_folder() as folder, small_disk(folder, 240) as (wrapper, disk):
        data, filler = folder / "data", disk / "filler"
        with servers.Numberd(data, wrapper=wrapper) as server, Client(server.port) as client:
            client.register(*entries(0, 65535))
            state = os.statvfs(disk)
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - (8 << 20))
            # The segment has its room already: it is the next one that cannot be had.
            acknowledged = 0
            for account in range(1, 3 * SEGMENT_BYTES // (16 * 65535)):
                reply = client.ask(registrations(entries(0, 65535, account)))
                if reply.code == READ_ONLY:
                    break
                assert reply.code == OK
                acknowledged = account
            assert reply.code == READ_ONLY and acknowledged > 50, (reply.code, acknowledged)
            servers.wait_until(lambda: "No space left" in server.read_log(), "the log says so")  # the reply may be there first
            assert_read_only(server, client)
            # Room for the snapshot, but not for a segment.
            assert "could not write the snapshot" in server.ctl("snapshot", status=IO_ERROR)
            assert_read_only(server, client)
            filler.unlink()
            server.ctl("snapshot")
            assert_writable(server, client)
            assert client.register(*entries(0, 1000, 5000)) == [REPLACED] * 1000
            server.kill()
        with servers.Numberd(data, wrapper=wrapper) as server, Client(server.port) as client:
            assert there(client, 0, 1000, 5000)
            # The commit that failed was never acknowledged, but lookups had seen it, and the snapshot has it.
            accounts = {account - i for i, (account, _) in zip(range(1000, 65535), client.records(
                [BASE + i for i in range(1000, 65535)]))}
            assert accounts <= {acknowledged, acknowledged + 1}, accounts


def test_failed_sync():
    """A failed fdatasync is final for its file: read-only, though the next one would succeed, until a snapshot."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data, wrapper=strace("fdatasync:error=EIO:when=3")) as server, \
                Client(server.port) as client, Client(server.port) as other:
            assert client.register(*entries(0, 100)) == [ADDED] * 100
            assert client.register(*entries(100, 100)) == [ADDED] * 100
            assert client.ask(registrations(entries(200, 100))).code == READ_ONLY
            server.process.send_signal(signal.SIGUSR2)
            server.wait_for("SIGUSR2: no successor: the journal has failed")
            assert "Input/output error" in server.read_log()
            for _ in range(3):
                assert_read_only(server, other)
            server.ctl("snapshot")
            assert_writable(server, client)
            assert there(other, 1, 299) and client.register(*entries(300, 100)) == [ADDED] * 100
            server.kill()
        servers.ctl("check", data)
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert there(client, 1, 399)


def test_failed_sync_before_a_kill():
    """What was acknowledged before the journal failed is there, also when nobody mends it before a kill."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data, wrapper=strace("fdatasync:error=EIO:when=2+")) as server, Client(server.port) as client:
            assert client.register(*entries(0, 100)) == [ADDED] * 100
            assert client.ask(registrations(entries(0, 200, 1000))).code == READ_ONLY
            server.kill()
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert there(client, 0, 100) or there(client, 0, 200, 1000)


def test_snapshot_that_fails_at_the_stop():
    """Without the last snapshot the journal has all; with neither, the disk gets some seconds, and the status tells."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        obstacle = data / "snapshots" / f"{1:016x}.snapshot.new"
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.register(*entries(0, 1))
            obstacle.mkdir()
        assert "Is a directory" in server.log and snapshots(data) == []
        obstacle.rmdir()
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert there(client, 0, 1)
            server.kill()
        obstacle = data / "snapshots" / f"{2:016x}.snapshot.new"
        failing = strace("fdatasync:error=EIO:when=1+")
        with servers.Numberd(data, "--drain-seconds", "1", wrapper=failing, status=CANNOT_CREATE) as server, \
                Client(server.port) as client:
            assert client.ask(registrations(entries(1, 1))).code == READ_ONLY
            obstacle.mkdir()
        assert "Is a directory" in server.log and "saved" not in server.log, server.log
        # The change may be there or not; nobody was told that it is.
        obstacle.rmdir()
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.ask(numbers(DEREGISTER, [BASE + 1]))
            position = server.stats()["directory"]["position"]
            server.kill()
        obstacle = data / "snapshots" / f"{position + 1:016x}.snapshot.new"
        with servers.Numberd(data, wrapper=failing) as server, Client(server.port) as client:
            assert client.ask(registrations(entries(1, 1))).code == READ_ONLY
            obstacle.mkdir()
            mend = threading.Timer(2, obstacle.rmdir)
            mend.start()
        mend.join()
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert there(client, 0, 2)


# --- the rest ---

def test_export_of_another_server():
    """Export refuses to take another server's word for this directory."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "a") as a, servers.Numberd(folder / "b") as b:
        a.ctl("register", f"+{BASE}")
        assert "does not serve" in servers.ctl("export", "--data-dir", a.data_dir, "--server", b.address, status=64)
        link, fifo = folder / "link", folder / "fifo"
        link.symlink_to(folder / "target")
        (folder / "target").write_text("old")
        a.ctl("export", "--data-dir", a.data_dir, "--output", link)
        assert link.is_symlink() and (folder / "target").read_text().endswith(f"+{BASE},0,0\n")
        os.mkfifo(fifo)
        reader = subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE, text=True)
        a.ctl("export", "--data-dir", a.data_dir, "--output", fifo)
        assert reader.communicate(timeout=20)[0].endswith(f"+{BASE},0,0\n") and fifo.is_fifo()


def test_no_private_files_are_open_to_others():
    """What is in the data directory is for its owner alone."""
    with servers.temporary_folder() as folder:
        with servers.Numberd(folder / "data") as server, Client(server.port) as client:
            client.register((BASE, 1, 0))
            client.lookup([BASE])
        for path in [folder / "data", *pathlib.Path(folder / "data").rglob("*")]:
            assert os.stat(path).st_mode & 0o077 == 0, path


if __name__ == "__main__":
    servers.run_tests(globals())
