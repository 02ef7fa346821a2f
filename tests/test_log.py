"""The log on standard error: its formats, its levels, and that it is never more than a person can read."""
import json
import re
import signal
import subprocess
import time

import servers
from client import *  # noqa: F403 -- the protocol's names

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def started(folder, *flags, ready="ready: 0 numbers"):
    """The lines of a server that was started and stopped."""
    with servers.Numberd(folder / "data", *flags, wait=False) as server:
        server.wait_for(ready)
    return server.log.splitlines()


def test_plain():
    """A time, the program, a level where it matters, the text."""
    with servers.temporary_folder() as folder:
        lines = started(folder)
        assert all(re.fullmatch(STAMP + r" numberd: \S.*", line) for line in lines), lines
        assert any("numberd: warning: " in line and "officer.private" in line for line in lines), lines
        assert not any("numberd: warning: ready" in line for line in lines)


def test_keys():
    """key=value, the text in quotes, whatever is in it."""
    with servers.temporary_folder() as folder:
        lines = started(folder, "--log-format", "keys", "--officer-key", make_key(folder, 'odd "name" \\'))
        pattern = re.compile(rf'time={STAMP} level=(notice|warning|error) process=\d+ message="((?:[^"\\]|\\.)*)"')
        found = [pattern.fullmatch(line) for line in lines]
        assert all(found), lines
        assert any(one[2].startswith("ready: 0 numbers") for one in found)


def make_key(folder, name):
    servers.ctl("officer-key", folder / name)
    return folder / f"{name}.public"


def test_json():
    """An object each; also the line with which it ends when it cannot start."""
    with servers.temporary_folder() as folder:
        lines = [json.loads(line) for line in started(folder, "--log-format", "json")]
        assert all(list(line) == ["time", "level", "process", "message"] for line in lines), lines
        assert {line["level"] for line in lines} == {"notice", "warning"}
        error = servers.numberd_error(folder / "data" / "odd\n\xff\"name\"" / "none", "--log-format", "json", status=73)
        told = json.loads(error)
        assert told["level"] == "error" and 'odd?\xff"name"' in told["message"], told


def test_levels():
    """Only what matters as much as was asked for."""
    with servers.temporary_folder() as folder:
        lines = started(folder, "--log-level", "warning", ready="officer.private")
        assert lines and all(" numberd: warning: " in line for line in lines), lines
        with servers.Numberd(folder / "data", "--log-level", "error", wait=False) as server:
            time.sleep(0.5)
        assert server.log == ""
        assert "notice|warning|error" in servers.numberd_error(folder / "data", "--log-level", "loud", status=64)


def test_bytes_that_are_no_text():
    """A line stays one line."""
    with servers.temporary_folder() as folder:
        path = bytes(folder) + b"/a\nb\xfe\x01/none"
        result = subprocess.run([servers.BIN / "numberd", "--data-dir", path, "--listen", "127.0.0.1:0", "--stats-listen", "127.0.0.1:0"],
                                capture_output=True, timeout=servers.PATIENCE)
        assert result.returncode == 73 and result.stderr.count(b"\n") == 1 and b"/a?b??/none" in result.stderr, result.stderr


def test_no_flood():
    """Of a thousand lines in a moment two hundred are written, and how many were not is said."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.0005)
        written = server.read_log().count("SIGHUP: ")
        assert 150 < written < 230, written
        time.sleep(0.3)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("lines were left out")
        said = sum(map(int, re.findall(r"numberd: warning: (\d+) lines were left out\n", server.read_log())))
        assert said > 100, said
        with Client(server.port) as client:
            client.lookup([4915112000000])


if __name__ == "__main__":
    servers.run_tests(globals())
