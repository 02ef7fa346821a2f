"""Registrations over restarts: saved at the stop and on demand, refused when damaged, never half-written."""
import os
import pathlib
import subprocess
import time

import servers
from client import *  # noqa: F403 -- the protocol's names

BASE = 447700000000


def exported(folder):
    """The registrations of a data directory as a sorted list of CSV rows."""
    lines = servers.ctl("export", "--data-dir", folder).splitlines()
    assert lines[0] == "number,account,flags"
    return sorted(lines[1:])


def test_restart():
    """All kinds of changes are there after an orderly restart, account and flags included."""
    with servers.temporary_folder() as folder:
        with servers.Numberd(folder / "data") as server, Client(server.port) as client:
            client.register(*[(BASE + i, i, i % 256) for i in range(5000)])
            client.ask(numbers(DEREGISTER, [BASE + i for i in range(100)]))
            client.ask(frame(MOVE, struct.pack("<QQ", BASE + 200, BASE + 9200), 1))
            position = server.stats()["directory"]["position"]
        expected = sorted(f"+{BASE + i + (9000 if i == 200 else 0)},{i},{i % 256}" for i in range(100, 5000))
        assert exported(folder / "data") == expected
        with servers.Numberd(folder / "data") as server, Client(server.port) as client:
            assert client.lookup([BASE, BASE + 200, BASE + 9200, BASE + 4998]) == [0, 0, REGISTERED, REGISTERED]
            assert server.stats()["directory"]["position"] == position
            before = (folder / "data" / "registrations.snapshot").stat().st_mtime_ns
        # Nothing had changed: nothing is written.
        assert (folder / "data" / "registrations.snapshot").stat().st_mtime_ns == before
        assert exported(folder / "data") == expected


def test_snapshot_on_demand():
    """After a snapshot on demand a SIGKILL loses nothing that came before it."""
    with servers.temporary_folder() as folder:
        with servers.Numberd(folder / "data") as server, Client(server.port) as client:
            client.register(*[(BASE + i, i, 0) for i in range(3000)])
            assert server.ctl("snapshot") == "the snapshot is written\n"
            assert server.stats()["snapshot"]["records"] == 3000
            client.register((BASE + 5000, 1, 0))
            server.kill()
        with servers.Numberd(folder / "data") as server, Client(server.port) as client:
            assert client.lookup([BASE, BASE + 2999]) == [1, 1]


def test_snapshot_while_writing():
    """Snapshots under registrations and moves hold every number that was registered throughout."""
    with servers.temporary_folder() as folder:
        with servers.Numberd(folder / "data") as server, Client(server.port) as client, Client(server.port) as asker:
            client.register(*[(BASE + i, i, 0) for i in range(60000)])
            for round_ in range(5):
                asker.send(frame(SNAPSHOT))
                moves = b"".join(struct.pack("<QQ", BASE + i + (round_ % 2) * 10**6, BASE + i + (1 - round_ % 2) * 10**6)
                                 for i in range(1000))
                results = client.ask(frame(MOVE, moves, 1000))
                # A move that met the snapshot was refused and may be repeated.
                while REFUSED in results.body:
                    assert results.retry_after_ms > 0
                    time.sleep(results.retry_after_ms / 1000)
                    left = b"".join(moves[16 * i:16 * i + 16] for i, s in enumerate(results.body) if s == REFUSED)
                    moves, results = left, client.ask(frame(MOVE, left, len(left) // 16))
                asker.receive()
            server.ctl("snapshot")
            server.kill()
        rows = exported(folder / "data")
        assert len(rows) == 60000
        assert {int(row.split(",")[1]) for row in rows} == set(range(60000))


def fails(folder, status, *words):
    result = subprocess.run([servers.BIN / "numberd", "--data-dir", folder, "--listen", "127.0.0.1:0", "--stats-listen",
                             "127.0.0.1:0"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert result.returncode == status, result
    assert result.stderr.count("\n") == 1, result.stderr
    for word in words:
        assert word in result.stderr, (word, result.stderr)


def test_damaged_snapshot():
    """A damaged snapshot is refused with one line, and left as it is."""
    with servers.temporary_folder() as folder:
        with servers.Numberd(folder / "data") as server, Client(server.port) as client:
            client.register(*[(BASE + i, i, 0) for i in range(10000)])
        path = folder / "data" / "registrations.snapshot"
        whole = path.read_bytes()
        for damaged in (whole[:-1], whole[:100000], whole[:100] + b"\xff" + whole[101:], b"", whole + b"x"):
            path.write_bytes(damaged)
            fails(folder / "data", 65, "registrations.snapshot", "damaged", "backup")
            assert path.read_bytes() == damaged
        path.write_bytes(whole)
        with servers.Numberd(folder / "data") as server, Client(server.port) as client:
            assert client.lookup([BASE + 9999]) == [1]


def test_full_disk():
    """A snapshot that does not fit fails with a line and leaves the earlier one whole (RLIMIT_FSIZE plays the disk)."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.register(*[(BASE + i, i, 0) for i in range(1000)])
        whole = (data / "registrations.snapshot").read_bytes()
        wrapper = ["bash", "-c", "ulimit -f 64; exec \"$@\"", "wrapper"]
        with servers.Numberd(data, wrapper=wrapper, status=74) as server, Client(server.port) as client:
            client.register(*[(BASE + i, i, 0) for i in range(20000)])
            assert "could not write the snapshot" in server.ctl("snapshot", status=74)
            snapshot = server.stats()["snapshot"]
            assert snapshot["number"] == 1 and snapshot["good_number"] == 0, snapshot
            assert client.lookup([BASE + 19999]) == [1]
        assert "cannot write" in server.log, server.log
        assert (data / "registrations.snapshot").read_bytes() == whole
        assert not (data / "registrations.snapshot.new").exists()


def test_full_disk_that_is_mended():
    """A disk that refuses at the stop gets some seconds; when it takes the snapshot then, nothing is lost."""
    import threading
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.register((BASE, 1, 0))
            (data / "registrations.snapshot.new").mkdir()  # what is in its way
            mend = threading.Timer(2, (data / "registrations.snapshot.new").rmdir)
            mend.start()
        mend.join()
        assert "Is a directory" in server.log
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert client.lookup([BASE]) == [1]


def test_snapshot_that_cannot_be_looked_at():
    """A snapshot that is a dangling link is not taken for none."""
    with servers.temporary_folder() as folder:
        with servers.Numberd(folder / "data"):
            pass
        path = folder / "data" / "registrations.snapshot"
        path.unlink()
        path.symlink_to(folder / "elsewhere")
        fails(folder / "data", 66, "registrations.snapshot", "No such file")
        assert path.is_symlink()


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
