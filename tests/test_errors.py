"""Bad input: each mistake gets one clear line with the cause and the remedy, a sysexits status, and nothing is lost."""
import ctypes
import os
import re
import signal
import socket
import struct
import subprocess
import time

import servers
from client import *  # noqa: F403 -- the protocol's names

USAGE, DATAERR, NOINPUT, UNAVAILABLE_STATUS, CANTCREAT, TEMPFAIL, NOPERM, CONFIG = 64, 65, 66, 69, 73, 75, 77, 78


def run(program, *arguments, text=None):
    return subprocess.run([servers.BIN / program, *map(str, arguments)], capture_output=True, text=True, timeout=60,
                          input=text, stdin=None if text is not None else subprocess.DEVNULL)


def fails(program, status, words, *arguments, text=None):
    """The program ends with the status and one line that has all the words."""
    result = run(program, *arguments, text=text)
    assert result.returncode == status, (arguments, result.returncode, result.stderr)
    assert result.stderr.count("\n") == 1, (arguments, result.stderr)
    for word in words:
        assert word in result.stderr, (arguments, word, result.stderr)
    return result.stderr


def numberd_fails(folder, status, words, *flags):
    fails("numberd", status, words, "--data-dir", folder / "data", "--listen", "127.0.0.1:0", "--stats-listen",
          "127.0.0.1:0", *flags)


def test_flags_of_numberd():
    """Unknown flags, missing and impossible values; nothing is created."""
    with servers.temporary_folder() as folder:
        for words, *flags in [(("--frobnicate", "--help"), "--frobnicate"), (("--listen", "missing"), "--listen"),
                              (("threads", "1 to 64"), "--threads", "0"), (("threads", "many"), "--threads", "many"),
                              (("query-log-full", "drop|refuse"), "--query-log-full", "wait"),
                              (("retention-hours", "720"), "--retention-hours", "721"),
                              (("query-log-bytes",), "--query-log-bytes", "12X"), (("extra", "--help"), "extra")]:
            fails("numberd", USAGE, words, "--data-dir", folder / "data", *flags)
        assert not (folder / "data").exists()
        assert run("numberd", "--help").returncode == 0 and "--query-log-full" in run("numberd", "--help").stdout
        assert run("numberd", "--version").stdout.startswith("numberd ")


def test_config_file():
    """Keys of the file are the flags; flags win; unknown keys, bad values and bad lines are named."""
    with servers.temporary_folder() as folder:
        config = folder / "numberd.conf"
        for text, words in [("listne = 127.0.0.1:1\n", ("numberd.conf", "listne")), ("threads = 0\n", ("threads", "1 to 64")),
                            ("threads = 2\nnonsense\n", ("numberd.conf line 2",)), ("[section]\nthreads = 2\n", ("threads",))]:
            config.write_text(text)
            numberd_fails(folder, CONFIG, words, "--config", config)
        numberd_fails(folder, NOINPUT, ("missing.conf", "No such file"), "--config", folder / "missing.conf")
        config.write_text("; a comment\nthreads = 3\ncache-seconds = 77\n")
        with servers.Numberd(folder / "data", "--config", config, "--threads", "2") as server, Client(server.port) as client:
            assert server.stats()["workers"] == 2
            assert client.ask(numbers(LOOKUP, [4915112345678])).cache_seconds == 77


def test_ports():
    """A taken port, an address of another machine, an address that is none."""
    with servers.temporary_folder() as folder, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        numberd_fails(folder, UNAVAILABLE_STATUS, (str(port), "in use", "another port"), "--listen", f"127.0.0.1:{port}")
        numberd_fails(folder, UNAVAILABLE_STATUS, (str(port), "in use"), "--stats-listen", f"127.0.0.1:{port}")
        numberd_fails(folder, UNAVAILABLE_STATUS, ("192.0.2.1", "of this machine"), "--listen", "192.0.2.1:4164", "--insecure", "yes")
        numberd_fails(folder, CONFIG, ("HOST:PORT",), "--listen", ":4164")
        numberd_fails(folder, CONFIG, ("HOST:PORT",), "--listen", "127.0.0.1:99999")


def test_data_directory():
    """In use by another process, of another version, damaged, a file, not to be created."""
    with servers.temporary_folder() as folder:
        with servers.Numberd(folder / "data") as server, Client(server.port) as client:
            client.register((4915112345678, 1, 0))
            numberd_fails(folder, TEMPFAIL, ("in use", "--data-dir"))
        mark = folder / "data" / "numberd.format"
        good = mark.read_text()
        for other in ("format 1", "format 3"):
            mark.write_text(good.replace("format 2", other))
            numberd_fails(folder, DATAERR, (other, "format 2", "export"))
            fails("numberctl", DATAERR, (other,), "export", "--data-dir", folder / "data")
        mark.write_text("what is this\n")
        numberd_fails(folder, DATAERR, ("numberd.format", "damaged"))
        mark.write_text(good)
        (folder / "file").write_text("")
        fails("numberd", NOPERM, ("lock", "file"), "--data-dir", folder / "file")
        fails("numberd", CANTCREAT, ("cannot create the data directory", "--data-dir"), "--data-dir", folder / "no" / "way")
        assert run("numberctl", "export", "--data-dir", folder / "data").stdout.endswith("+4915112345678,1,0\n")


def test_files_of_another_version():
    """A snapshot or journal of another version or layout is named, not passed over, and left alone."""
    checksum = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
    checksum.restype = ctypes.c_uint64
    with servers.temporary_folder() as folder:
        with servers.Numberd(folder / "data") as server, Client(server.port) as client:
            client.register((4915112345678, 1, 0))
            server.ctl("snapshot")
            client.register((4915112345679, 1, 0))
            server.ctl("snapshot")
            server.kill()
        snapshot = max((folder / "data" / "snapshots").iterdir())
        segment, = (folder / "data" / "journal").iterdir()
        for path, offset, length, status, words in (
                (snapshot, 8, 120, DATAERR, ("version 3", "reads version 2", "export")),
                (snapshot, 16, 120, DATAERR, ("layout", "reads version 2, layout", "export")),
                (segment, 8, 56, DATAERR, ("version 2", "reads version 1", "export"))):
            whole = path.read_bytes()
            other = bytearray(whole)
            other[offset] += 1
            other[length:length + 8] = struct.pack("<Q", checksum(bytes(other[:length]), ctypes.c_size_t(length)))
            path.write_bytes(other)
            # The query log, which was open already, adds a line.
            result = run("numberd", "--data-dir", folder / "data", "--listen", "127.0.0.1:0", "--stats-listen", "127.0.0.1:0")
            lines = [line for line in result.stderr.splitlines() if line.startswith("numberd: ")]
            assert result.returncode == status and len(lines) == 1, result
            assert path.name in lines[0] and all(word in lines[0] for word in words), lines
            fails("numberctl", status, words, "export", "--data-dir", folder / "data")
            assert path.read_bytes() == other
            path.write_bytes(whole)


def test_token_file():
    """Missing, readable by others, malformed: named by file and line, and no token is shown."""
    with servers.temporary_folder() as folder:
        tokens = folder / "tokens"
        numberd_fails(folder, CONFIG, ("tokens", "No such file"), "--token-file", tokens)
        tokens.write_text("# none\n")
        tokens.chmod(0o644)
        numberd_fails(folder, CONFIG, ("chmod 600",), "--token-file", tokens)
        tokens.chmod(0o600)
        tokens.write_text("# tokens\n1 0123456789abcdef\n")
        numberd_fails(folder, CONFIG, ("line 2", "numberctl token add"), "--token-file", tokens)
        for words, arguments in ((("add, list or revoke",), ("make", tokens)), (("--principal",), ("add", tokens)),
                                 (("--roles",), ("add", tokens, "--principal", 1, "--roles", "disclose")),
                                 (("--budget",), ("add", tokens, "--principal", 1, "--roles", "lookup", "--budget", "5")),
                                 (("above 0",), ("add", tokens, "--principal", 0, "--roles", "lookup")),
                                 (("--name",), ("add", tokens, "--principal", 1, "--roles", "lookup", "--name", "a b")),
                                 (("one file",), ("list",)), (("one file",), ("revoke", tokens)),
                                 (("argument 1",), ("revoke", folder / "good", "xyz"))):
            (folder / "good").touch(0o600)
            fails("numberctl", USAGE, words, "token", *arguments)
        fails("numberctl", NOINPUT, ("No such file",), "token", "list", folder / "missing")
        fails("numberctl", NOINPUT, ("folder",), "token", "add", folder / "missing" / "tokens", "--principal", 1, "--roles", "lookup")
        fails("numberctl", DATAERR, ("line 2",), "token", "add", tokens, "--principal", 1, "--roles", "lookup")
        fails("numberctl", DATAERR, ("no token 0123456789ab",), "token", "revoke", folder / "good", "0123456789ab")


def test_print_and_check_config():
    """What is printed is what is read again, each setting with its flag; a check reads all that is named, and does nothing."""
    with servers.temporary_folder() as folder:
        tokens, officer, config = folder / "tokens", folder / "officer", folder / "config"
        servers.ctl("token", "add", tokens, "--principal", 1, "--roles", "lookup")
        servers.ctl("officer-key", officer)

        def numberd(*flags):
            return subprocess.run([servers.BIN / "numberd", *map(str, flags)], capture_output=True, text=True, timeout=60)
        flags = ("--data-dir", folder / "data", "--threads", 3, "--journal-bytes", "1536M", "--query-log-bytes", 3 << 20,
                 "--token-file", tokens, "--officer-key", f"{officer}.public", "--detect", "report", "--log-misses", "no",
                 "--principal-budget", "7/5", "--network-budget", "none", "--listen", "[::1]:0")
        printed = numberd(*flags, "--print-config")
        assert printed.returncode == 0 and not printed.stderr
        for line in (f"data-dir = {folder}/data", "threads = 3", "journal-bytes = 1536M", "query-log-bytes = 3M", "detect = report",
                     "log-misses = no", "principal-budget = 7/5", "network-budget = none", "listen = [::1]:0", "# redis ="):
            assert line in printed.stdout.splitlines(), line
        named = {line.strip().split()[0].lstrip("-") for line in numberd("--help").stdout.splitlines() if line.startswith("  --")}
        shown = {found[1] for found in re.finditer(r"^(?:# )?([a-z-]+) =", printed.stdout, re.MULTILINE)}
        assert named - {"config", "check-config", "print-config", "help,"} == shown, named ^ shown
        config.write_text(printed.stdout)
        assert numberd("--config", config, "--print-config").stdout == printed.stdout
        assert "threads = 5" in numberd("--config", config, "--threads", "5", "--print-config").stdout
        checked = numberd("--config", config, "--check-config")
        assert checked.returncode == 0 and checked.stdout.startswith("numberd: the configuration is good") and not checked.stderr
        assert not (folder / "data").exists()
        tokens.write_text("nonsense\n")
        fails("numberd", CONFIG, ["line 1"], "--config", config, "--check-config")
        fails("numberd", CONFIG, ["did you mean connections-max?"], "--check-config", "--listen", "0.0.0.0:0", "--config",
              write(folder / "other", "conections-maks = 3\n"))
        fails("numberd", USAGE, ["did you mean stats-listen?"], "--stat-listen", "x")
        fails("numberd", CONFIG, ["--listen is beyond loopback"], "--check-config", "--listen", "0.0.0.0:0")


def write(path, text):
    path.write_text(text)
    return path


def test_beyond_loopback():
    """A server that others could reach does not start without being told that it may; budgets are checked."""
    with servers.temporary_folder() as folder:
        for flag in ("--listen", "--stats-listen"):
            for address in ("0.0.0.0:0", "[::]:0"):
                numberd_fails(folder, CONFIG, (flag, "beyond loopback", "anybody may ask", "--insecure yes", "--token-file"), flag, address)
        (folder / "tokens").touch(0o600)
        numberd_fails(folder, CONFIG, ("not encrypted:", "--insecure yes"), "--listen", "0.0.0.0:0", "--token-file", folder / "tokens")
        for value in ("5", "0/1", "1/0", "1000000000001/1000000000", "1000000/1", "many/1", "1/1/1", ""):
            numberd_fails(folder, USAGE, ("principal-budget", "BURST/HOURLY"), "--principal-budget", value)
        config = folder / "config"
        config.write_text("network-budget = 70\n")
        numberd_fails(folder, CONFIG, ("network-budget", "BURST/HOURLY"), "--config", config)


def test_dead_redis():
    """A dead Redis is no reason not to start: it is said once, the events wait in the spool."""
    with servers.temporary_folder() as folder:
        numberd_fails(folder, USAGE, ("redis://",), "--redis", "localhost:6379")
        url = f"redis://127.0.0.1:{servers.free_port()}"
        with servers.Numberd(folder / "data", "--redis", url, "--drain-seconds", "1") as server, Client(server.port) as client:
            client.lookup([4915112345678])
            servers.wait_until(lambda: server.stats()["query_log"]["redis_failures"] > 2, "several tries")
            assert server.read_log().count("spool until Redis takes it again") == 1
        fails("numberctl", UNAVAILABLE_STATUS, ("Connection refused", "check that it runs"), "disclose", *servers.ORDER,
              "--from", "2026-01-01", "--until", "2037-01-01", "--output", folder / "out", "--number", "+4915112345678", "--redis", url, "--key", folder / "data" / "officer.private", "--data-dir", folder / "data")


def test_officer_key():
    """A public key that is not there, or is none: the server does not start without a seal."""
    with servers.temporary_folder() as folder:
        numberd_fails(folder, NOINPUT, ("officer's public key", "No such file"), "--officer-key", "/nonexistent")
        path = folder / "key.public"
        for text in ("", "numberd officer public key 1\n", "numberd officer private key 1\n" + "0" * 64 + "\n",
                     "numberd officer public key 1\n" + "0" * 63 + "g\n", "numberd officer public key 1\n" + "0" * 66 + "\n"):
            path.write_text(text)
            numberd_fails(folder, DATAERR, ("key.public", "no officer's public key", "numberctl officer-key"),
                          "--officer-key", path)


def test_numberctl_usage():
    """Unknown verbs and options, missing arguments, numbers that are none: what to write instead."""
    fails("numberctl", USAGE, ("frobnicate", "--help"), "frobnicate")
    fails("numberctl", USAGE, ("--frob", "lookup --help"), "lookup", "--frob")
    fails("numberctl", USAGE, ("name a number",), "lookup")
    fails("numberctl", USAGE, ("missing",), "lookup", "--server")
    fails("numberctl", DATAERR, ("letter",), "register", "+49abc")
    fails("numberctl", USAGE, ("--flags", "255"), "register", "+4915112345678", "--flags", "256")
    fails("numberctl", USAGE, ("old number",), "move", "+4915112345678")
    fails("numberctl", USAGE, ("--number, --requester and --ip",), "disclose")
    fails("numberctl", USAGE, ("--order",), "disclose", "--number", "+4915112345678")
    fails("numberctl", DATAERR, ("no", "--ip"), "disclose", "--ip", "10.0.0.256")
    fails("numberctl", USAGE, ("one key pair",), "officer-key")
    fails("numberctl", USAGE, ("one key pair",), "officer-key", "folder/")
    fails("numberctl", CANTCREAT, ("folder's permissions",), "officer-key", "/nonexistent/officer")
    fails("numberctl", USAGE, ("2026-11-24",), "disclose", "--number", "+4915112345678", "--from", "yesterday")
    for date in ("1960-01-01", "2026-02-31"):
        fails("numberctl", USAGE, ("no date from 1970",), "disclose", "--number", "+4915112345678", "--until", date)
    fails("numberctl", USAGE, ("before --until",), "disclose", "--number", "+4915112345678", "--from", "2026-01-02",
          "--until", "2026-01-01")
    fails("numberctl", NOINPUT, ("no data directory", "--data-dir"), "disclose", "--number", "+4915112345678",
          "--key", "/nonexistent", "--data-dir", "/nonexistent", *servers.ORDER, "--from", "2026-01-01", "--until", "2026-02-01",
          "--output", "/nonexistent")
    fails("numberctl", NOINPUT, ("ledger", "No such file"), "ledger", "/nonexistent")
    fails("numberctl", USAGE, ("NAME.verify",), "verify", "folder")
    fails("numberctl", USAGE, ("--rate",), "plan")
    fails("numberctl", USAGE, ("--renew",), "hold", "--renew")
    fails("numberctl", USAGE, ("can be 0",), "plan", "--rate", "0")
    fails("numberctl", UNAVAILABLE_STATUS, ("is numberd running",), "ping", "--server", f"127.0.0.1:{servers.free_port()}")
    fails("numberctl", UNAVAILABLE_STATUS, ("HOST:PORT",), "ping", "--server", "[::1")


def test_host_with_two_addresses():
    """localhost is ::1 and 127.0.0.1 on many machines; the server is at one of them."""
    if os.geteuid() != 0:
        raise servers.Skipped("another /etc/hosts takes root and a mount namespace")
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server:
        (folder / "hosts").write_text("::1 two.test\n127.0.0.1 two.test\n")
        command = f"mount --bind {folder / 'hosts'} /etc/hosts && exec {servers.BIN / 'numberctl'} ping --server two.test:{server.port}"
        result = subprocess.run(["unshare", "--mount", "sh", "-c", command], capture_output=True, text=True, timeout=60)
        assert "answered" in result.stdout, result


def test_statuses():
    """What the server refuses has the status that numberctl --help says."""
    with servers.temporary_folder() as folder:
        tokens = folder / "tokens"
        (folder / "token").write_text(servers.ctl("token", "add", tokens, "--principal", "1", "--roles", "lookup"))
        with servers.Numberd(folder / "data", "--token-file", tokens) as server:
            line = fails("numberctl", NOPERM, ("missing or unknown",), "lookup", "+447700900123", "--server", server.address)
            assert "is numberd running" not in line
            fails("numberctl", NOPERM, ("does not allow",), "register", "+447700900123", "--account", "1", "--server", server.address,
                  "--token-file", folder / "token")
    help_text = run("numberctl", "--help").stdout
    for verb in "lookup register deregister move import export snapshot stats ping disclose ledger verify officer-key plan hold cluster fetch".split():
        assert verb in help_text
        assert run("numberctl", verb, "--help").stdout.startswith(f"usage: numberctl {verb} ")


def test_numbers_as_wrong_words():
    """A number where none belongs is not repeated in the error."""
    for words in (["+447700900123"], ["export", "+447700900123"], ["disclose", "+447700900123"],
                  ["import", "+447700900123"], ["lookup", "--server", "+447700900123", "+447700900123"],
                  ["lookup", "+447700900123", "-xy"], ["lookup", "--server", "h", "-447700900123"]):
        result = run("numberctl", *words)
        assert result.returncode in (USAGE, NOINPUT, UNAVAILABLE_STATUS), (words, result)
        assert "447700900123" not in result.stderr and result.stderr.count("\n") == 1, (words, result)
    assert "-4:" in result.stderr
    # A file's name is shown, whatever digits it has.
    fails("numberctl", NOINPUT, ("/nowhere/rows-20261124.csv",), "import", "/nowhere/rows-20261124.csv")


def test_lost_output():
    """Output that cannot be written is an error, also when standard output is closed."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server:
        for redirection in ("> /dev/full", ">&-"):
            for command in ("lookup +447700900123", "stats", "ping"):
                result = subprocess.run(["bash", "-c", f"'{servers.BIN}/numberctl' {command} --server {server.address} {redirection}"],
                                        capture_output=True, text=True, timeout=30)
                assert result.returncode == 74 and "standard output" in result.stderr, (command, redirection, result)


def test_numberload_usage():
    """The load tester's mistakes."""
    fails("numberload", USAGE, ("--batch", "65535"), "run", "--batch", "0")
    fails("numberload", USAGE, ("hit-ratio",), "run", "--hit-ratio", "2")
    fails("numberload", USAGE, ("no such verb",), "walk")
    fails("numberload", UNAVAILABLE_STATUS, ("is numberd running",), "verify", "--server", f"127.0.0.1:{servers.free_port()}")


def test_import_files():
    """Missing and unreadable files, folders, a server that is not there; rejects that cannot be written."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server:
        fails("numberctl", NOINPUT, ("missing.csv", "No such file"), "import", "--server", server.address,
              folder / "missing.csv")
        fails("numberctl", NOINPUT, ("directory",), "import", "--server", server.address, folder)
        itself = folder / "itself.csv"
        itself.write_text("bad\n")
        fails("numberctl", USAGE, ("the input itself",), "import", "--server", server.address, "--rejects", itself, itself)
        assert itself.read_text() == "bad\n"
        good, bad = folder / "good.csv", folder / "bad.csv"
        good.write_text("+4915112345678,1,0\n")
        bad.write_text("+49,1,0\n")
        fails("numberctl", UNAVAILABLE_STATUS, ("is numberd running",), "import", "--server",
              f"127.0.0.1:{servers.free_port()}", good)
        result = run("numberctl", "import", "--server", server.address, "--rejects", folder / "no" / "way", bad)
        assert result.returncode == CANTCREAT and "--rejects" in result.stderr


NUMBER, OTHER, IP = 4915112345678, 4915198765432, "203.0.113.9"
SECRETS = ("15112345678", "15198765432", IP)


def test_numbers_stay_private():
    """No number and no IP in anything that the programs emit but answers: logs, statistics, errors, names of files."""
    with servers.temporary_folder() as folder:
        data, emitted = folder / "data", []
        rows = folder / "rows.csv"
        rows.write_text(f"+{NUMBER},1,0\n+{OTHER},x,0\n{OTHER}0000000000,1,0\n+{OTHER},2,0,9\n")

        def command(*words):
            result = run("numberctl", *words)
            emitted.append(result.stderr)
            return result

        def statistics(server):
            emitted.extend(server.get(path) for path in ("/metrics", "/stats.json", "/shards.json", "/"))

        redis_url = f"redis://127.0.0.1:{servers.free_port()}"
        for flags in ((), ("--redis", redis_url, "--query-log-bytes", "1M", "--drain-seconds", "0")):
            with servers.Numberd(data, *flags) as server, Client(server.port) as client:
                to = ("--server", server.address)
                client.register((NUMBER, 1, 0))
                for words in (("lookup", f"+{NUMBER}", "--ip", IP, "--requester", "5"), ("lookup", f"+{NUMBER}x"), ("deregister", f"+{OTHER}"),
                              ("move", f"+{NUMBER}", f"+{OTHER}"), ("move", f"+{NUMBER}", f"+{OTHER}"), ("import", str(rows)),
                              ("register", f"+{NUMBER}", "--account", "x"), ("snapshot",), ("stats", f"+{NUMBER}"), ("ping", IP)):
                    command(*words, *to)
                for junk in (numbers(LOOKUP, [NUMBER])[:20] + b"junk" * 10, struct.pack("<Q", NUMBER) * 8, f"GET /{NUMBER}".encode()):
                    with Client(server.port) as broken:
                        broken.send(junk)
                        broken.is_closed()
                for _ in range(30):
                    client.lookup([NUMBER] * 10000)
                statistics(server)
                try:
                    server.get(f"/{NUMBER}?ip={IP}")
                except servers.urllib.error.HTTPError as error:
                    emitted.append(str(error.headers))
            emitted.append(server.log)
        with servers.Numberd(data) as server:
            server.kill()
        segment = next((data / "querylog").glob("*.segment"))
        segment.write_bytes(segment.read_bytes()[:-100] + bytes(50))
        order = (*servers.ORDER, "--from", "2026-01-01", "--until", "2037-01-01", "--data-dir", data, "--key", data / "officer.private")
        command("disclose", *order, "--number", f"+{NUMBER}", "--output", folder / "out")
        command("disclose", *order, "--ip", IP + "9", "--output", folder / "out2")
        command("check", data)
        emitted.append(run("numberctl", "check", data).stdout)
        emitted.extend(str(path.relative_to(folder)) for path in folder.rglob("*"))
        assert sum(len(text) for text in emitted) > 20000
        for text in emitted:
            assert not any(secret in text for secret in SECRETS), text


def test_no_core():
    """A server that crashes leaves no core, though cores are allowed."""
    def crash(process):
        process.send_signal(signal.SIGSEGV)
        return os.WCOREDUMP(os.waitpid(process.pid, 0)[1])
    unlimited = ["bash", "-c", "ulimit -c unlimited && exec \"$@\"", "wrapper"]
    with servers.temporary_folder() as folder:
        control = subprocess.Popen([*unlimited, "sleep", "60"], cwd=folder)
        time.sleep(0.2)
        if not crash(control):
            raise servers.Skipped("this machine writes no cores")
        server = subprocess.Popen([*unlimited, servers.BIN / "numberd", "--data-dir", folder / "data", "--listen", "127.0.0.1:0",
                                   "--stats-listen", "127.0.0.1:0"], cwd=folder, stderr=subprocess.DEVNULL)
        servers.wait_until(lambda: list(folder.glob("data/officer.public")), "the server runs")
        time.sleep(0.3)
        assert not crash(server)


if __name__ == "__main__":
    servers.run_tests(globals())
