"""numberctl import and export end to end: every form of input, into a running server and aside into a data directory, whole or
not at all; what is refused, and that nothing has changed then."""
import ctypes
import ctypes.util
import gzip
import json
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time

import servers
from client import *  # noqa: F403 -- the protocol's names
from test_persistence import (BASE, CANNOT_CREATE, DAMAGED, IN_USE, IO_ERROR, NO_INPUT, exported, fails, small_disk, snapshots,
                              strace, write_at)

USAGE, REJECTS, UNAVAILABLE_STATUS = 64, 65, 69
FIGURES = {"rows", "added", "replaced", "rejected", "seconds", "dry_run"}
COMPARED = {"removed", "unchanged", "duplicates"}


# --- helpers ---

# Where the rejects of standard input go; removed at the end.
SCRATCH = tempfile.TemporaryDirectory(prefix="numberd-test-")


def numberctl(*arguments, stdin=None, wrapper=(), cwd=None):
    """One run; what it reads and writes as bytes and text. `stdin` is bytes (through a pipe), an open file or nothing."""
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin or subprocess.DEVNULL}
    result = subprocess.run([*wrapper, servers.BIN / "numberctl", *map(str, arguments)], capture_output=True, timeout=300,
                            cwd=cwd or SCRATCH.name, **given)
    result.stdout, result.stderr = result.stdout.decode(), result.stderr.decode()
    return result


def report(*arguments, status=0, **given):
    """The JSON report of an import that is carried out, without the seconds."""
    result = numberctl("import", "--json", *arguments, **given)
    assert result.returncode == status and result.stderr == "", result
    figures = json.loads(result.stdout)
    assert figures.pop("seconds") >= 0
    return figures


def refused(status, *words, verb="import", arguments=(), **given):
    """The verb ends with the status, says why in one line that has all the words, and reports nothing."""
    result = numberctl(verb, *arguments, **given)
    lines = result.stderr.splitlines()
    assert result.returncode == status and result.stdout == "" and len(lines) == 1, result
    assert lines[0].startswith("numberctl: ") and all(word in lines[0] for word in words), (words, lines)


def rows(first, count, account=0, flags=0):
    """Sorted, as `exported` gives them."""
    return [f"+{BASE + i},{account + i},{flags}" for i in range(first, first + count)]


def text(lines, header=False):
    return "".join(f"{line}\n" for line in (["number,account,flags"] if header else []) + list(lines)).encode()


def as_json(lines):
    return "".join('{"number":"%s","account":"%s","flags":%s}\n' % tuple(line.split(",")) for line in lines).encode()


def zstd(data):
    """One frame with a checksum, by the library that numberctl itself needs: neither Python nor this machine may have more."""
    library = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    library.ZSTD_compressBound.restype = library.ZSTD_compress2.restype = size
    library.ZSTD_compressBound.argtypes = library.ZSTD_isError.argtypes = [size]
    library.ZSTD_createCCtx.restype = pointer
    library.ZSTD_freeCCtx.argtypes = [pointer]
    library.ZSTD_CCtx_setParameter.argtypes = [pointer, ctypes.c_int, ctypes.c_int]
    library.ZSTD_compress2.argtypes = [pointer, ctypes.c_char_p, size, ctypes.c_char_p, size]
    context = library.ZSTD_createCCtx()
    library.ZSTD_CCtx_setParameter(context, 201, 1)  # ZSTD_c_checksumFlag, as the zstd command does
    compressed = ctypes.create_string_buffer(library.ZSTD_compressBound(len(data)))
    length = library.ZSTD_compress2(context, compressed, len(compressed), data, len(data))
    library.ZSTD_freeCCtx(context)
    assert not library.ZSTD_isError(length)
    return compressed.raw[:length]


def write(path, data):
    path.write_bytes(data)
    return path


def contents(folder):
    """Each file with its bytes, each folder; left out are a snapshot on its way, which counts for nothing, and the query log,
    which each start goes on with."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
            for path in folder.rglob("*") if path.suffix != ".new" and "querylog" not in path.parts}


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def flip(path):
    """Damages one byte in the middle."""
    offset = path.stat().st_size // 2
    write_at(path, offset, bytes([path.read_bytes()[offset] ^ 0x10]))


def fill(folder, lines):
    """A data directory with these registrations."""
    assert report("--data-dir", folder, "-", stdin=text(lines))["added"] == len(lines)
    return folder


# --- forms of input ---

def test_csv():
    """Header, quotes, CRLF, a byte order mark, missing fields and a missing last line end are fine, online and aside."""
    plain = b"+447700000001,18446744073709551615,255\n+447700000002,2,0\n+447700000003,0,0\n+447700000004,4,0\n"
    forms = {
        "plain": plain,
        "header": b"number,account,flags\n" + plain,
        "CRLF": b"number,account,flags\r\n" + plain.replace(b"\n", b"\r\n"),
        "no line end": plain[:-1],
        "byte order mark": b"\xef\xbb\xbf" + plain,
        "mark, header, CRLF": b"\xef\xbb\xbfnumber,account,flags\r\n" + plain.replace(b"\n", b"\r\n"),
        "quotes": b'"number","account","flags"\n"+447700000001","18446744073709551615","255"\n"+447700000002",2\n'
                  b'+447700000003,"",""\n"+447700000004","4",0',
        "missing fields, blank lines": b"\n\n+447700000001,18446744073709551615,255\n\n+447700000002,2\n+447700000003\n"
                                       b"+447700000004,4,\n\n",
        "blanks": b" +447700000001 , 18446744073709551615 , 255 \n +447700000002,2,0\n+447700000003,,\n+447700000004,4\n",
        "no plus": plain.replace(b"+", b""),
    }
    expected = plain.decode().splitlines()
    with servers.temporary_folder() as folder, servers.Numberd(folder / "online") as server:
        for index, (name, form) in enumerate(forms.items()):
            data = folder / str(index)
            figures = report("--data-dir", data, "-", stdin=form)
            assert figures == {"rows": 4, "added": 4, "replaced": 0, "rejected": 0, "removed": 0, "unchanged": 0,
                               "duplicates": 0, "dry_run": False}, (name, figures)
            assert exported(data) == expected, name
            figures = report("--server", server.address, write(folder / "form.csv", form))
            assert figures["rows"] == figures["added"] + figures["replaced"] == 4, (name, figures)
            assert figures["added"] == (4 if index == 0 else 0), (name, figures)
        with Client(server.port) as client:
            client.ask(numbers(DEREGISTER, [447700000004]))
        assert exported(server.data_dir, "--server", server.address) == expected[:3]


def test_json_lines():
    """JSON lines with accounts as text or integers, members in any order and missing, CRLF and blank lines; not more."""
    lines = ('{"number":"+447700000001","account":"18446744073709551615","flags":255}\r\n\r\n'
             '  {"flags": 1, "account": 9223372036854775807, "number": "+447700000002"}\n'
             '{"number":"+447700000003"}\n'
             '{"number":"+447700000004","account":9223372036854775808}\n'
             '{"number":"+447700000005","name":"A. Person"}\n'
             '{"number":447700000006}\n'
             '{"number":"+447700000007","flags":256}\n'
             '{"number":"+447700000008","number":"+447700000009"}\n'
             '{"number":"+4477000000\n'
             '[]\n'
             '{"number":"+447700000010","account":10}')
    with servers.temporary_folder() as folder:
        data, rejects = folder / "data", folder / "rejects"
        figures = report("--data-dir", data, "--rejects", rejects, "-", stdin=b"\xef\xbb\xbf \n" + lines.encode(),
                         status=REJECTS)
        assert (figures["rows"], figures["added"], figures["rejected"]) == (11, 4, 7), figures
        assert exported(data) == ["+447700000001,18446744073709551615,255", "+447700000002,9223372036854775807,1",
                                  "+447700000003,0,0", "+447700000010,10,0"]
        table = [line.split("\t") for line in rejects.read_text().splitlines()]
        assert table[0] == ["line", "reason", "row"] and [row[0] for row in table[1:]] == list("6789") + ["10", "11", "12"], table
        for row, word in zip(table[1:], ("string", "member other", "not a string", "flags", "twice", "valid JSON", "object")):
            assert word in row[1], row


def test_compressed():
    """Plain, zstd and gzip, whole and in several frames, of CSV and of JSON lines, come to the same from a file, standard input
    and a pipe."""
    lines = rows(0, 20000, account=2**63, flags=7)
    half = len(lines) // 2
    forms = {}
    for kind, encode in (("csv", text), ("json", as_json)):
        whole, parts = encode(lines), (encode(lines[:half]), encode(lines[half:]))
        forms.update({kind: whole, f"{kind} zstd": zstd(whole), f"{kind} zstd frames": b"".join(map(zstd, parts)),
                      f"{kind} gzip": gzip.compress(whole, 1), f"{kind} gzip members": b"".join(map(gzip.compress, parts))})
    with servers.temporary_folder() as folder, servers.Numberd(folder / "online") as server:
        for index, (name, form) in enumerate(forms.items()):
            path = write(folder / f"input{index}", form)
            data = folder / str(index)
            assert report("--data-dir", data, path)["added"] == len(lines), name
            assert exported(data) == lines, name
            before = times(data)
            with path.open("rb") as file:
                assert report("--data-dir", data, "-", stdin=file)["unchanged"] == len(lines), name
            assert report("--data-dir", data, "-", stdin=form)["unchanged"] == len(lines), name
            assert times(data) == before, name
            with path.open("rb") as file:
                figures = report("--server", server.address, "-", stdin=file)
            assert figures["added" if index == 0 else "replaced"] == figures["rows"] == len(lines), (name, figures)
            assert report("--server", server.address, path)["replaced"] == len(lines), name
        assert exported(server.data_dir, "--server", server.address) == lines


def test_slow_pipe():
    """A pipe that gives few bytes at a time is read to its end, whatever they are."""
    lines = rows(0, 300)
    with servers.temporary_folder() as folder:
        for index, form in enumerate((text(lines, header=True), zstd(text(lines)), gzip.compress(as_json(lines)))):
            data = folder / str(index)
            process = subprocess.Popen([servers.BIN / "numberctl", "import", "--data-dir", data, "-"], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=False, bufsize=0)
            step = max(1, len(form) // 300)
            for at in range(0, len(form), step):
                process.stdin.write(form[at:at + step])
                time.sleep(0.0005)
            assert process.communicate(timeout=servers.PATIENCE)[0].startswith(b"300 rows: 300 added"), index
            assert process.returncode == 0 and exported(data) == lines


def test_named_pipe():
    """A named pipe as the file is opened once, so that its writer is not cut off: online and aside."""
    lines = rows(0, 3000)
    with servers.temporary_folder() as folder, servers.Numberd(folder / "online") as server:
        fifo = folder / "fifo"
        os.mkfifo(fifo)
        for index in range(8):
            target = ("--data-dir", folder / str(index)) if index < 7 else ("--server", server.address)
            writer = subprocess.Popen(["bash", "-c", 'cat > "$1"', "writer", fifo], stdin=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL)
            process = subprocess.Popen([servers.BIN / "numberctl", "import", "--json", *target, fifo], stdout=subprocess.PIPE,
                                       stdin=subprocess.DEVNULL)
            try:
                writer.communicate(text(lines), timeout=servers.PATIENCE)
                figures = json.loads(process.communicate(timeout=15)[0])
                assert writer.returncode == process.returncode == 0 and figures["added"] == 3000, figures
            finally:
                writer.kill()
                process.kill()
                process.wait(servers.PATIENCE)


def test_tolerant():
    """Numbers as people write them are taken with --tolerant only, and a trunk zero in parentheses never."""
    source = "+44 7700 000-001,1\n+44 (7700) 000.002,2\n\u00a0+447700000003,3\n+44 (0) 7700 000004,4\n+44/7700000005,5\n"
    with servers.temporary_folder() as folder:
        path = write(folder / "people.csv", source.encode())
        strict = report("--data-dir", folder / "strict", path, status=REJECTS)
        assert (strict["added"], strict["rejected"]) == (0, 5), strict
        rejects = (folder / "people.csv.rejects").read_text().splitlines()
        assert len(rejects) == 6 and rejects[1].endswith("\t+44 7700 000-001,1"), rejects
        tolerant = report("--tolerant", "--data-dir", folder / "tolerant", path, status=REJECTS)
        assert (tolerant["added"], tolerant["rejected"]) == (3, 2), tolerant
        rejects = [line.split("\t") for line in (folder / "people.csv.rejects").read_text().splitlines()]
        assert [row[0] for row in rejects] == ["line", "4", "5"] and "(0)" in rejects[1][1], rejects
        assert exported(folder / "tolerant") == [f"+44770000000{i},{i},0" for i in (1, 2, 3)]
        # The same numbers to a server, as JSON; spelled otherwise, they are the same ones.
        with servers.Numberd(folder / "online") as server:
            lines = b'{"number":"+44 7700-000001","account":1}\n{"number":"(+44) 7700000001","account":2}\n'
            figures = report("--tolerant", "--server", server.address, "-", stdin=lines)
            assert (figures["added"], figures["replaced"]) == (1, 1), figures
            assert "account 2" in server.ctl("lookup", "--records", "+447700000001")


def test_duplicates():
    """Of several rows of one number the last counts, however far apart; aside they are counted, and are no changes."""
    few = [(i % 3, i) for i in range(100000)]  # more than the builder keeps together
    many = [(10 + i % 40000, i) for i in range(90000)]
    mixed = [row for pair in zip(few, many) for row in pair]
    last = dict(mixed)
    lines = [f"+{BASE + i},{account},0" for i, account in mixed]
    expected = [f"+{BASE + i},{last[i]},0" for i in sorted(last)]
    with servers.temporary_folder() as folder:
        data = folder / "aside"
        figures = report("--data-dir", data, "-", stdin=text(lines))
        assert figures == {"rows": len(lines), "added": len(last), "replaced": 0, "rejected": 0, "removed": 0, "unchanged": 0,
                           "duplicates": len(lines) - len(last), "dry_run": False}, figures
        assert exported(data) == expected
        before = times(data)
        figures = report("--data-dir", data, "-", stdin=text(lines))
        assert (figures["unchanged"], figures["duplicates"]) == (len(last), len(lines) - len(last)), figures
        assert times(data) == before
        with servers.Numberd(folder / "online") as server:
            figures = report("--server", server.address, "-", stdin=text(lines))
            assert figures == {"rows": len(lines), "added": len(last), "replaced": len(lines) - len(last), "rejected": 0,
                               "dry_run": False}, figures
        assert exported(folder / "online") == expected


def test_rejects():
    """Each bad row is a line of the file of rejects: its line, the reason, the row; the good ones are registered."""
    source = ("number,account,flags\n+447700000001,1,0\nhello,2,0\n+447700000003,minus,0\n\"+447700000004\",4,256\n"
              "+447700000005,5,0,extra\n+999123456,6,0\n+447700000007,18446744073709551616,0\n\"a\tb\x1b[2J\r\n\",8,0\n"
              "+447700000009,9,0\n+0447700000010,10,0\n+447700000011,11,0")
    with servers.temporary_folder() as folder, servers.Numberd(folder / "online") as server:
        path = write(folder / "rows.csv", source.encode())
        for target in (("--data-dir", folder / "aside"), ("--server", server.address)):
            figures = report(*target, path, status=REJECTS)
            assert (figures["rows"], figures["added"], figures["rejected"]) == (11, 3, 8), figures
            rejects = folder / "rows.csv.rejects"
            assert rejects.stat().st_mode & 0o077 == 0
            table = [line.split("\t") for line in rejects.read_text().splitlines()]
            assert table[0] == ["line", "reason", "row"] and all(len(row) == 3 for row in table), table
            assert [row[0] for row in table[1:]] == ["3", "4", "5", "6", "7", "8", "10", "12"], table
            for row, word in zip(table[1:], ("letter", "account", "flags", "three fields", "country code", "account", "", "")):
                assert word in row[1] and row[1] != "", row
            assert table[2][2] == "+447700000003,minus,0" and table[7][2].startswith("a b [2J"), table
            rejects.unlink()
        expected = ["+447700000001,1,0", "+447700000009,9,0", "+447700000011,11,0"]
        assert exported(folder / "aside") == exported(server.data_dir, "--server", server.address) == expected
        # By another name; of standard input in the folder where it runs; none without a bad row.
        result = numberctl("import", "--data-dir", folder / "aside", "--rejects", folder / "named", path)
        assert result.returncode == REJECTS and str(folder / "named") in result.stdout, result
        assert result.stdout.startswith("11 rows: 0 added, 0 replaced, 0 removed, 3 unchanged, 0 duplicates, 8 rejected"), result
        report("--data-dir", folder / "aside", "-", stdin=source.encode(), status=REJECTS, cwd=folder)
        assert (folder / "import.rejects").read_bytes() == (folder / "named").read_bytes()
        report("--data-dir", folder / "aside", write(folder / "good.csv", text(expected)))
        assert not (folder / "good.csv.rejects").exists()


def test_rejects_that_cannot_be_written():
    """A file of rejects that is the input, cannot be made or is not written whole ends the import with its status."""
    bad = b"".join(b"bad%d,1,0\n" % i for i in range(3000)) + b"+447700000001,1,0\n"
    with servers.temporary_folder() as folder:
        path = write(folder / "bad.csv", bad)
        data = fill(folder / "data", rows(100, 100))
        before = contents(data)
        (folder / "link").symlink_to(path)
        for name in (path, folder / "link"):
            refused(USAGE, "input itself", arguments=("--data-dir", data, "--rejects", name, path))
        assert path.read_bytes() == bad
        with path.open("rb") as file:
            refused(USAGE, "input itself", arguments=("--data-dir", data, "--rejects", path, "-"), stdin=file)
        refused(CANNOT_CREATE, "nowhere", "--rejects", arguments=("--data-dir", data, "--rejects", folder / "nowhere/x", path))
        refused(IO_ERROR, "rejects", "/dev/full", arguments=("--data-dir", data, "--rejects", "/dev/full", path))
        assert contents(data) == before and exported(data) == rows(100, 100)
        # A disk that was full for a moment only: lines are lost, and that is said.
        refused(IO_ERROR, "rejects", arguments=("--data-dir", data, "--rejects", folder / "rejects", path),
                wrapper=strace("write:error=ENOSPC:when=2"))


def test_corrupt_input():
    """Compressed data that is damaged, cut off or followed by something ends with 65 and one line; aside nothing has changed."""
    lines = rows(0, 50000, account=1)
    noise = random.Random(1)
    many = text(f"+{BASE + noise.randrange(10**6)},{noise.getrandbits(64)},0" for _ in range(50000))
    with servers.temporary_folder() as folder, servers.Numberd(folder / "online") as server:
        data = fill(folder / "data", rows(0, 1000))
        before = contents(data)
        for name, whole in (("zstd", zstd(many)), ("gzip", gzip.compress(many, 1))):
            middle = len(whole) // 2
            forms = {"flipped": whole[:middle] + bytes([whole[middle] ^ 0x55]) + whole[middle + 1:], "cut": whole[:-3],
                     "half": whole[:middle], "head": whole[:6], "followed": whole + b"+447700000001,1,0\n"}
            for kind, form in forms.items():
                path = write(folder / f"{name}-{kind}", form)
                for more in ((), ("--replace-all", "--force"), ("--dry-run",)):
                    refused(DAMAGED, path.name, name, arguments=("--data-dir", data, *more, path))
                refused(DAMAGED, name, arguments=("--data-dir", data, "-"), stdin=form)
                result = numberctl("import", "--server", server.address, path)
                assert result.returncode == DAMAGED and name in result.stderr, (name, kind, result)
        assert contents(data) == before and exported(data) == rows(0, 1000)
        # Online, what came before the damage is there, and the whole file mends the rest.
        assert report("--server", server.address, write(folder / "good", zstd(text(lines))))["rows"] == 50000
        records = set(exported(server.data_dir, "--server", server.address))
        assert records >= set(lines) and {row.split(",")[0] for row in records} <= {f"+{BASE + i}" for i in range(10**6)}


def test_unreadable_input():
    """An input that is not there, is a folder or is missing altogether is said in one line; no data directory is made."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        refused(NO_INPUT, "nowhere", "No such file", arguments=("--data-dir", data, folder / "nowhere"))
        refused(USAGE, "file", arguments=("--data-dir", data))
        refused(USAGE, "file", arguments=("--data-dir", data, "-", "-"))
        for flags in (("--max-shrink", "101"), ("--max-shrink", "-1"), ("--max-shrink", "5%"), ("--expect", "many"),
                      ("--expect", "-5"), ("--force",), ("--no-such",)):
            refused(USAGE, flags[0], arguments=("--data-dir", data, *flags, "-"), stdin=b"")
        assert not data.exists()
        refused(NO_INPUT, "Is a directory", arguments=("--data-dir", data, folder))
        assert report("--data-dir", data, "/dev/null")["rows"] == 0
        refused(CANNOT_CREATE, "nowhere", arguments=("--data-dir", folder / "nowhere" / "data", "/dev/null"))


# --- into a running server ---

def test_online_survives_a_kill():
    """A server that is killed right after the command returned has all of it after a restart, hidden flags and accounts too."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        lines = []
        for round_ in range(3):
            more = rows(30000 * round_, 30000, account=2**64 - 100000, flags=round_)
            with servers.Numberd(data) as server:
                figures = report("--server", server.address, "-", stdin=zstd(text(lines[-10:] + more)))
                server.kill()
            assert (figures["added"], figures["replaced"]) == (30000, len(lines[-10:])), figures
            lines += more
            assert exported(data) == lines
        with servers.Numberd(data) as server, Client(server.port) as client:
            first = [BASE, BASE + 30000, BASE + 89999]
            assert client.lookup(first) == [1, 0, 1]  # the second is hidden
            assert exported(data, "--server", server.address) == lines


def test_online_interrupted():
    """A server that dies under the import ends it with 69 and a line; run again, all is there."""
    lines = rows(0, 300000)
    with servers.temporary_folder() as folder:
        data, source = folder / "data", write(folder / "rows.csv", text(lines))
        with servers.Numberd(data) as server:
            process = subprocess.Popen([servers.BIN / "numberctl", "import", "--server", server.address, "-"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            feeder = threading.Thread(target=feed, args=(process.stdin, text(lines[:200000])))
            feeder.start()
            feeder.join()
            servers.wait_until(lambda: server.stats()["directory"]["registered"] > 100000, "the import is under way")
            server.kill()
            feeder = threading.Thread(target=feed, args=(process.stdin, text(lines[200000:]), True))
            feeder.start()
            # Its own reader: communicate would write to the pipe as well.
            error = process.stderr.read().decode()
            output = process.stdout.read().decode()
            assert process.wait(servers.PATIENCE) == UNAVAILABLE_STATUS and error.count("\n") == 1, (process, output, error)
            feeder.join()
            process.stdout.close()
            process.stderr.close()
        assert set(exported(data)) < set(lines)
        refused(UNAVAILABLE_STATUS, "connect", arguments=("--server", server.address, source))
        with servers.Numberd(data) as server:
            figures = report("--server", server.address, source)
            assert figures["added"] + figures["replaced"] == 300000 and figures["replaced"] > 100000, figures
        assert exported(data) == lines


def feed(stream, data, end=False):
    try:
        stream.write(data)
        stream.flush()
        if end:
            stream.close()
    except BrokenPipeError:
        pass


# --- aside ---

def test_aside_into_an_empty_directory():
    """What is imported before the first start is there at it, for numberd, export and check alike, and stays over a kill."""
    lines = rows(0, 10000, account=5, flags=2)
    with servers.temporary_folder() as folder:
        data = folder / "data"
        result = numberctl("import", "--data-dir", data, "-", stdin=text(lines, header=True))
        assert result.stdout.startswith("10000 rows: 10000 added, 0 replaced, 0 removed, 0 unchanged, 0 duplicates, 0 rejected")
        assert all(path.stat().st_mode & 0o077 == 0 for path in [data, *data.rglob("*")])
        assert exported(data) == exported(data, "--last") == lines
        assert "10000 registrations" in servers.ctl("check", data)
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert client.records([BASE, BASE + 9999, BASE + 10000]) == [(5, 2), (10004, 2), None]
            assert client.register((BASE + 10000, 10005, 2), (BASE, 5, 3)) == [ADDED, REPLACED]
            server.kill()
        expected = [f"+{BASE},5,3", *lines[1:], *rows(10000, 1, account=5, flags=2)]
        assert exported(data) == expected
        servers.ctl("check", data)
        # A directory that a server made and nobody used is as good.
        with servers.Numberd(folder / "other"):
            pass
        report("--data-dir", folder / "other", "-", stdin=text(expected))
        with servers.Numberd(folder / "other") as server:
            assert exported(server.data_dir, "--server", server.address) == expected


def test_aside_into_a_filled_directory():
    """Rows are added to what snapshot and journal hold, replace it, or leave it as it is; time after time, between servers."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.register(*[(BASE + i, i, 0) for i in range(5000)])
            server.ctl("snapshot")
            client.register(*[(BASE + i, i, 0) for i in range(5000, 6000)])
            client.ask(numbers(DEREGISTER, [BASE]))
            server.kill()
        source = rows(100, 7, flags=3) + rows(5500, 200) + rows(5700, 500, account=1) + rows(9000, 1)
        figures = report("--data-dir", data, "-", stdin=text(source))
        assert figures == {"rows": 708, "added": 201, "replaced": 307, "rejected": 0, "removed": 0, "unchanged": 200,
                           "duplicates": 0, "dry_run": False}, figures
        expected = rows(1, 99) + source[:7] + rows(107, 5593) + source[207:]
        assert exported(data) == expected
        for round_ in range(3):
            with servers.Numberd(data) as server, Client(server.port) as client:
                assert exported(data, "--server", server.address) == expected
                assert client.lookup([BASE, BASE + 1]) == [0, 1]
                expected += rows(20000 + round_, 1)
                client.register((BASE + 20000 + round_, 20000 + round_, 0))
                if round_ == 1:
                    server.kill()
            assert report("--data-dir", data, "-", stdin=text(rows(10000 + round_, 1)))["added"] == 1
            expected = sorted(expected + rows(10000 + round_, 1))
            assert exported(data) == expected and len(snapshots(data)) <= 2
            servers.ctl("check", data)


def test_aside_behind_an_unfinished_commit():
    """A journal that breaks off within a commit counts up to there, and a start after the import cuts it as ever."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client:
            path, = (data / "journal").iterdir()
            client.register(*[(BASE + i, i, 0) for i in range(1000)])
            length = len(path.read_bytes().rstrip(b"\0"))
            client.register(*[(BASE + i, i, 0) for i in range(1000, 2000)])
            server.kill()
        os.truncate(path, length + 4000)  # of the first 256, which may be a commit of their own
        result = numberctl("import", "--data-dir", data, "-", stdin=text(rows(5000, 1000)))
        assert result.returncode == 0 and "1000 added" in result.stdout and "unfinished commit" in result.stderr, result
        for _ in range(2):
            with servers.Numberd(data) as server:
                assert exported(data, "--server", server.address) == rows(0, 1000) + rows(5000, 1000)
                server.kill()


def test_aside_behind_a_damaged_snapshot():
    """Where the older snapshot and the journal make up for a damaged one, an import goes on from there, with a notice."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client:
            for first in (0, 1000, 2000):
                client.register(*[(BASE + i, i, 0) for i in range(first, first + 1000)])
                if first < 2000:
                    server.ctl("snapshot")
            server.kill()
        flip(snapshots(data)[0])
        result = numberctl("import", "--data-dir", data, "-", stdin=text(rows(3000, 1000)))
        assert result.returncode == 0 and "1000 added" in result.stdout and "is damaged" in result.stderr, result
        for _ in range(2):
            with servers.Numberd(data) as server:
                assert exported(data, "--server", server.address) == rows(0, 4000)
                server.kill()
        # Where they do not, nothing is imported, not even instead of all that was there.
        for path in snapshots(data):
            flip(path)
        before = contents(data)
        for more in ((), ("--replace-all", "--force"), ("--dry-run",)):
            result = numberctl("import", "--data-dir", data, *more, "-", stdin=text(rows(0, 10000)))
            assert result.returncode == DAMAGED and result.stdout == "" and "backup" in result.stderr, result
        assert contents(data) == before


def test_replace_all():
    """What the input does not name is gone, also after a restart, and does not come back when the newest snapshot is damaged:
    that is refused, or made up for from the replacement itself."""
    old, new = rows(0, 2000), rows(1000, 1500, account=10) + rows(7000, 1)
    for case in ("import", "start and kill", "kill with changes", "stop with changes"):
        with servers.temporary_folder() as folder:
            data = folder / "data"
            with servers.Numberd(data) as server, Client(server.port) as client:
                client.register(*[(BASE + i, i, 0) for i in range(2000)])
                if case != "import":  # both kinds: all in the snapshot, all in the journal
                    server.kill()
            figures = report("--data-dir", data, "--replace-all", "--force", "-", stdin=text(new))
            assert figures == {"rows": 1501, "added": 501, "replaced": 1000, "rejected": 0, "removed": 1000, "unchanged": 0,
                               "duplicates": 0, "dry_run": False}, figures
            expected = list(new)
            assert exported(data) == exported(data, "--last") == expected
            servers.ctl("check", data)
            if case != "import":
                with servers.Numberd(data) as server, Client(server.port) as client:
                    assert client.lookup([BASE, BASE + 999, BASE + 1000, BASE + 7000]) == [0, 0, 1, 1]
                    if case.endswith("changes"):
                        client.register(*[(BASE + 8000 + i, 8000 + i, 0) for i in range(5)])
                        expected += rows(8000, 5)
                    if not case.startswith("stop"):
                        server.kill()
                with servers.Numberd(data) as server, Client(server.port) as client:
                    assert client.lookup([BASE, BASE + 999, BASE + 1000, BASE + 7000]) == [0, 0, 1, 1]
                    server.kill()
            assert exported(data) == expected, case
            flip(snapshots(data)[0])
            if case.startswith("stop"):
                with servers.Numberd(data) as server:
                    assert "is damaged" in server.read_log()
                    assert exported(data, "--server", server.address) == expected
                    server.kill()
                continue
            before = contents(data)
            fails(data, DAMAGED, "backup")
            for verb, arguments in (("export", ("--data-dir", data)), ("check", (data,)),
                                    ("import", ("--data-dir", data, "/dev/null"))):
                result = numberctl(verb, *arguments)
                assert result.returncode == DAMAGED and "backup" in result.stdout + result.stderr, (case, result)
                assert f"+{BASE}," not in result.stdout, case
            # Not without the file either, once changes have come behind it.
            if case.endswith("changes"):
                newest = snapshots(data)[0]
                newest.rename(folder / "away")
                fails(data, DAMAGED, "lacks")
                (folder / "away").rename(newest)
            assert contents(data) == before, case
    # Twice in a row.
    with servers.temporary_folder() as folder:
        data = fill(folder / "data", old)
        for index in range(3):
            report("--data-dir", data, "--replace-all", "--force", "-", stdin=text(rows(3000 * index, 100, account=index)))
            assert exported(data) == rows(3000 * index, 100, account=index) and len(snapshots(data)) <= 2
        flip(snapshots(data)[0])
        fails(data, DAMAGED, "backup")


def test_replace_all_by_nothing():
    """An empty input replaces all only with --force; then numberd starts with nothing."""
    with servers.temporary_folder() as folder:
        data = fill(folder / "data", rows(0, 10))
        refused(DAMAGED, "10 of 10 registrations would be removed", arguments=("--data-dir", data, "--replace-all", "/dev/null"))
        figures = report("--data-dir", data, "--replace-all", "--max-shrink", 100, "/dev/null")
        assert (figures["removed"], figures["rows"]) == (10, 0), figures
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert client.lookup([BASE + i for i in range(10)]) == [0] * 10
            server.kill()
        assert exported(data) == []
        flip(snapshots(data)[0])
        fails(data, DAMAGED, "backup")


def test_dry_run():
    """--dry-run changes no byte of the directory, nor makes one, and its figures are those of the real run."""
    source = text(rows(500, 250) + rows(750, 500, account=1) + rows(800, 10, account=1) + ["nonsense"])
    with servers.temporary_folder() as folder:
        data, path = folder / "data", write(folder / "rows.csv", source)
        with servers.Numberd(data) as server, Client(server.port) as client:
            client.register(*[(BASE + i, i, 0) for i in range(500)])
            server.ctl("snapshot")
            client.register(*[(BASE + i, i, 0) for i in range(500, 1000)])
            server.kill()
        original = folder / "original"
        shutil.copytree(data, original)
        for more in ((), ("--replace-all", "--force")):
            before = contents(data), times(data)
            dry = report("--data-dir", data, "--dry-run", *more, path, status=REJECTS)
            assert (contents(data), times(data)) == before
            result = numberctl("import", "--data-dir", data, "--dry-run", *more, path)
            assert result.stdout.startswith("761 rows, not carried out: 250 added, 250 replaced, "), result
            assert (contents(data), times(data)) == before
            real = report("--data-dir", data, *more, path, status=REJECTS)
            assert contents(data) != before[0] and dry.pop("dry_run") is True and real.pop("dry_run") is False
            assert dry == real == {"rows": 761, "added": 250, "replaced": 250, "rejected": 1, "unchanged": 250,
                                   "removed": 500 if more else 0, "duplicates": 10}, (more, dry, real)
            shutil.rmtree(data)
            shutil.copytree(original, data)


def test_dry_run_makes_no_directory():
    """--dry-run into a directory that is not there says what would be added and does not make it."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        figures = report("--data-dir", data, "--dry-run", "-", stdin=text(rows(0, 100)))
        assert (figures["added"], figures["dry_run"]) == (100, True), figures
        assert not data.exists(), sorted(data.rglob("*"))


def test_shrink_limit():
    """--replace-all by 5 percent fewer is fine, by more refused with 65 and the figures; --max-shrink and --force do it."""
    with servers.temporary_folder() as folder:
        data = fill(folder / "data", rows(0, 10000))
        before = contents(data)
        for count, flags in ((9499, ()), (0, ()), (9899, ("--max-shrink", 1)), (9999, ("--max-shrink", 0)),
                             (4999, ("--max-shrink", 50))):
            refused(DAMAGED, "refused", f"{10000 - count} of 10000 registrations would be removed", "--force", "--max-shrink",
                    arguments=("--data-dir", data, "--replace-all", *flags, "-"), stdin=text(rows(0, count)))
        assert contents(data) == before
        # Without --replace-all nothing shrinks, and nothing is refused.
        assert report("--data-dir", data, "-", stdin=text(rows(0, 10)))["unchanged"] == 10
        left = 10000
        for count, flags in ((9500, ()), (9310, ("--max-shrink", 2)), (4655, ("--max-shrink", 50)), (4655, ("--max-shrink", 0)),
                             (100, ("--force",)), (20000, ("--max-shrink", 0)), (1, ("--max-shrink", 0, "--force"))):
            figures = report("--data-dir", data, "--replace-all", *flags, "-", stdin=text(rows(0, count)))
            assert figures["removed"] == max(0, left - count) and figures["added"] == max(0, count - left), (count, figures)
            left = count
            assert exported(data) == rows(0, count)


def test_again():
    """The same import once more changes nothing and writes nothing, also after a restart and whatever the order of the rows."""
    lines = rows(0, 20000, account=3, flags=1)
    shuffled = lines[::-1]
    with servers.temporary_folder() as folder:
        data = folder / "data"
        for more in ((), ("--replace-all",)):
            report("--data-dir", data, *more, "-", stdin=text(lines))
            before = contents(data), times(data)
            for again in (lines, shuffled, lines + lines):
                figures = report("--data-dir", data, *more, "-", stdin=gzip.compress(text(again), 1))
                assert (figures["unchanged"], figures["added"] + figures["replaced"] + figures["removed"]) == (20000, 0), figures
            assert (contents(data), times(data)) == before
            with servers.Numberd(data) as server:
                assert server.stats()["directory"]["registered"] == 20000
            before = contents(data), times(data)
            report("--data-dir", data, *more, "-", stdin=text(lines))
            assert (contents(data), times(data)) == before


def test_interrupted():
    """A SIGKILL at any moment of an import aside leaves all as it was or all done; run again, it comes to the same."""
    present = rows(0, 50000)
    lines = rows(40000, 30000, account=7) + rows(100000, 90000)
    results = {(): rows(0, 40000) + lines, ("--replace-all", "--force"): lines}
    with servers.temporary_folder() as folder:
        source, original, data = write(folder / "rows.csv", text(lines)), folder / "original", folder / "data"
        with servers.Numberd(original) as server:
            server.ctl("import", "-", text=text(present).decode())

        def begin(more):
            return subprocess.Popen([servers.BIN / "numberctl", "import", "--data-dir", data, *more, source],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

        def renew():
            shutil.rmtree(data, ignore_errors=True)
            shutil.copytree(original, data)

        untouched = 0
        for more, expected in results.items():
            renew()
            begun = time.monotonic()
            assert begin(more).wait(servers.PATIENCE) == 0
            took = time.monotonic() - begun
            assert exported(data) == expected
            renew()
            for round_ in range(10):
                process = begin(more)
                time.sleep(took * (round_ + random.random()) / 10)
                process.kill()
                process.wait(servers.PATIENCE)
                found = exported(data)
                if found == present:
                    untouched += 1
                else:
                    assert found == expected
                    renew()
            assert exported(data) == present
            with servers.Numberd(data) as server:
                assert server.stats()["directory"]["registered"] == len(present) and not list(data.rglob("*.new"))
            # Killed when it has begun to write, then run again.
            process = begin(more)
            servers.wait_until(lambda: list(data.rglob("*.new")) or process.poll() is not None, "it writes", pause=0.0005)
            process.kill()
            process.wait(servers.PATIENCE)
            assert exported(data) in (present, expected)
            report("--data-dir", data, *more, source)
            assert exported(data) == expected and not list(data.rglob("*.new"))
            servers.ctl("check", data)
            with servers.Numberd(data) as server:
                assert server.stats()["directory"]["registered"] == len(expected)
        assert untouched >= 5, untouched


def test_interrupted_in_an_empty_directory():
    """A SIGKILL of the first import leaves a directory that a server starts with, and that an import fills."""
    lines = rows(0, 60000)
    with servers.temporary_folder() as folder:
        source = write(folder / "rows.csv", text(lines))
        for round_ in range(5):
            data = folder / str(round_)
            process = subprocess.Popen([servers.BIN / "numberctl", "import", "--data-dir", data, source],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            if round_ == 0:  # at the last moment before it counts
                servers.wait_until(lambda: list(data.rglob("*.new")) or process.poll() is not None, "it writes", pause=0.0002)
            else:
                time.sleep(random.random() * 0.1)
            process.kill()
            process.wait(servers.PATIENCE)
            if (data / "numberd.format").exists():
                assert exported(data) in ([], lines)
            if round_ % 2 == 0:
                with servers.Numberd(data) as server:
                    assert server.stats()["directory"]["registered"] in (0, len(lines))
            figures = report("--data-dir", data, source)
            assert figures["added"] + figures["unchanged"] == len(lines) and exported(data) == lines


def test_in_use():
    """A directory that a server or another import has open is refused with 75, and left alone; a server that can't be reached is
    named."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server:
            server.ctl("import", "-", text=text(rows(0, 100)).decode())
            refused(IN_USE, "in use", str(data), arguments=("--data-dir", data, "-"), stdin=text(rows(0, 1)))
            for more in (("--dry-run",), ("--replace-all", "--force")):
                refused(69, "in use", "--server", str(data), stdin=text(rows(0, 1)),
                        arguments=("--data-dir", data, "--server", f"127.0.0.1:{servers.free_port()}", *more, "-"))
            assert server.stats()["directory"]["registered"] == 100
            assert exported(data, "--server", server.address) == rows(0, 100)
        first = subprocess.Popen([servers.BIN / "numberctl", "import", "--data-dir", data, "-"], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
        first.stdin.write(text(rows(100, 5)))
        first.stdin.flush()
        servers.wait_until(lambda: numberctl("check", data).returncode == IN_USE, "the first has it open")
        refused(IN_USE, "in use", arguments=("--data-dir", data, "-"), stdin=text(rows(200, 1)))
        fails(data, IN_USE, "in use")
        assert first.communicate(timeout=servers.PATIENCE)[0].startswith(b"5 rows: 5 added")
        assert first.returncode == 0 and exported(data) == rows(0, 105)


def test_full_disk():
    """A disk that fills up under the import aside is said in one line, nothing has changed, and with room again it succeeds."""
    lines = rows(0, 100000, account=1)
    with servers.temporary_folder() as folder, tempfile.NamedTemporaryFile() as source, \
            small_disk(folder, 240) as (wrapper, disk):
        source.write(text(lines))
        source.flush()
        filler = disk / "filler"

        def leave(room):
            filler.unlink(missing_ok=True)
            state = os.statvfs(disk)
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - room)

        def rows_of(name):
            result = numberctl("export", "--data-dir", folder / name, wrapper=wrapper)
            assert result.returncode == 0 and result.stderr == "", result
            return sorted(result.stdout.splitlines()[1:])

        # Into one that is filled, by addition and by replacement; then into a new one. (One that a server made has room: its
        # segment is cut to its content first.)
        assert report("--data-dir", folder / "filled", "-", stdin=text(rows(50000, 500)), wrapper=wrapper)["added"] == 500
        with servers.Numberd(folder / "made", wrapper=wrapper):
            pass
        cases = (("filled", (), rows(50000, 500)), ("filled", ("--replace-all", "--force"), rows(50000, 500)),
                 ("new", (), []))
        for name, more, present in cases:
            before = contents(disk / name) if name != "new" else None
            for room in (1 << 20, 64 << 10):
                leave(room)
                refused(IO_ERROR, "No space left", "free space", str(folder / name), wrapper=wrapper,
                        arguments=("--data-dir", folder / name, *more, source.name))
                assert not list((disk / name).rglob("*.new"))
                assert name == "new" or contents(disk / name) == before
                assert rows_of(name) == present
            filler.unlink()
        for name in ("filled", "made", "new"):
            assert report("--data-dir", folder / name, source.name, wrapper=wrapper)["rows"] == 100000
            assert rows_of(name) == lines
            with servers.Numberd(folder / name, wrapper=wrapper) as server:
                assert server.stats()["directory"]["registered"] == 100000
            shutil.rmtree(disk / name)


def test_failed_sync():
    """A disk that does not take the snapshot when it is synced: one line, the status, and nothing has changed."""
    with servers.temporary_folder() as folder:
        data = fill(folder / "data", rows(0, 1000))
        before = contents(data)
        for injection in ("fsync:error=EIO:when=1+", "/^rename:error=EACCES", "pwrite64:error=ENOSPC:when=50+"):
            result = numberctl("import", "--data-dir", data, "--replace-all", "--force", "-", stdin=text(rows(0, 10)),
                               wrapper=strace(injection))
            assert result.returncode == IO_ERROR and result.stdout == "" and result.stderr.count("\n") == 1, (injection, result)
            assert contents(data) == before and not list(data.rglob("*.new")), injection
        assert exported(data) == rows(0, 1000)


def test_expect():
    """--expect is a hint for the size: right, far too small, too big or missing, the result is the same."""
    lines = rows(0, 30000)
    with servers.temporary_folder() as folder:
        for expected in (None, 0, 1, 30000, 3000000):
            data = folder / str(expected)
            more = () if expected is None else ("--expect", expected)
            assert report("--data-dir", data, *more, "-", stdin=text(lines))["added"] == 30000
            assert exported(data) == lines
            with servers.Numberd(data) as server:
                assert server.stats()["directory"]["registered"] == 30000


def test_json_report():
    """--json gives one object whose members and types do not depend on what happened; aside it has three more."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "online") as server:
        good, bad = text(rows(0, 10)), b"bad\n"
        for target, members in ((("--data-dir", folder / "aside"), FIGURES | COMPARED), (("--server", server.address), FIGURES)):
            for source, status in ((good, 0), (good + bad, REJECTS), (b"", 0), (bad, REJECTS)):
                result = numberctl("import", "--json", *target, "-", stdin=source, cwd=folder)
                assert result.returncode == status and result.stderr == "" and result.stdout.count("\n") == 1, result
                figures = json.loads(result.stdout)
                assert set(figures) == members, figures
                assert all(type(figures[name]) is int for name in members - {"seconds", "dry_run"}), figures
                assert type(figures["seconds"]) is float and figures["dry_run"] is False
                lines = source.count(b"\n")
                assert (figures["rows"], figures["rejected"]) == (lines, source.count(b"bad")), figures


# --- there and back ---

def test_round_trip():
    """50,000 registrations with all flags and accounts up to 2^64 - 1 come out as they went in, as CSV and as JSON lines."""
    noise = random.Random(7)
    generated = subprocess.run([servers.BIN / "numberload", "generate", "--count", "50000", "--seed", "3"], capture_output=True,
                               text=True, check=True, timeout=300).stdout.splitlines()[1:]
    edges = [0, 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]
    lines = sorted(f"{line.split(',')[0]},{edges[i] if i < len(edges) else noise.getrandbits(64)},{i % 256}"
                   for i, line in enumerate(generated))
    assert len(lines) == 50000
    with servers.temporary_folder() as folder:
        first = fill(folder / "first", lines)
        csv, objects = folder / "rows.csv", folder / "rows.json"
        for name, flags in ((csv, ()), (objects, ("--json",))):
            servers.ctl("export", "--data-dir", first, "--output", name, *flags)
            # In any order: a shard may have grown in between when it is loaded.
            assert sorted(name.read_text().splitlines()) == sorted(servers.ctl("export", "--data-dir", first, *flags).splitlines())
        assert csv.read_text().startswith("number,account,flags\n") and sorted(csv.read_text().splitlines()[1:]) == lines
        assert sorted("{number},{account},{flags}".format(**json.loads(line)) for line in objects.open()) == lines
        for index, source in enumerate((csv, objects, write(folder / "csv.gz", gzip.compress(csv.read_bytes(), 1)),
                                        write(folder / "json.zst", zstd(objects.read_bytes())))):
            data = folder / str(index)
            figures = report("--data-dir", data, "--replace-all", source)
            assert (figures["rows"], figures["added"], figures["rejected"]) == (50000, 50000, 0), figures
            assert exported(data) == lines
            again = servers.ctl("export", "--data-dir", data, "--json").splitlines()
            assert sorted(again) == sorted(objects.read_text().splitlines())
        with servers.Numberd(folder / "online") as server, Client(server.port) as client:
            assert report("--server", server.address, objects)["added"] == 50000
            assert report("--server", server.address, csv)["replaced"] == 50000
            assert exported(server.data_dir, "--server", server.address) == lines
            some = [line.split(",") for line in lines[::50]]
            asked = [int(number) for number, _, _ in some]
            # The hidden ones are exported, and not found.
            assert client.lookup(asked) == [1 - int(flags) % 2 for _, _, flags in some]
        assert exported(folder / "online") == lines


def test_export_that_cannot_write():
    """An export that a full disk cut, if only for a moment, does not pass for a whole one: 74, and the old file stays."""
    with servers.temporary_folder() as folder:
        data = fill(folder / "data", rows(0, 20000))
        target = write(folder / "out.csv", b"old\n")
        injection = strace("write:error=ENOSPC:when=5")
        for flags in ((), ("--json",)):
            refused(IO_ERROR, "cannot write", verb="export", arguments=("--data-dir", data, "--output", target, *flags),
                    wrapper=injection)
            assert target.read_bytes() == b"old\n" and sorted(path.name for path in folder.iterdir()) == ["data", "out.csv"]
            result = numberctl("export", "--data-dir", data, *flags, wrapper=injection)
            assert result.returncode == IO_ERROR and "cannot write" in result.stderr, result.stderr
        refused(IO_ERROR, "cannot write", verb="export", arguments=("--data-dir", data, "--output", "/dev/full"))
        fifo = folder / "fifo"
        os.mkfifo(fifo)
        with subprocess.Popen(["cat", fifo], stdout=subprocess.DEVNULL) as reader:
            refused(IO_ERROR, "cannot write", verb="export", arguments=("--data-dir", data, "--output", fifo), wrapper=injection)
            reader.wait(servers.PATIENCE)


if __name__ == "__main__":
    servers.run_tests(globals())
