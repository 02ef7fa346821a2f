"""The lines in README.md that say what is wrong are those that the programs print, each provoked here."""
import os
import pathlib
import re
import shutil
import socket
import subprocess

import servers
from client import *  # noqa: F403 -- the protocol's names
from test_persistence import SEGMENT_BYTES, entries, small_disk

README = (pathlib.Path(__file__).resolve().parent.parent / "README.md").read_text()
SECTION = README.split("### When it does not work\n")[1].split("\n### ")[0]
LINES = [line for block in re.findall(r"```\n(.*?)```", SECTION, re.S) for line in block.splitlines()]
met = set()
untried = []  # words of the lines that this machine does not allow to provoke


def check(line, **names):
    """The line, with the names of this test replaced by those of README, is there."""
    for here, there in names.values():
        line = line.replace(str(here), there)
    line = re.sub(r"^\S+Z numberd: ", "numberd: ", line.strip())
    assert line in LINES, f"README.md has no line\n{line}"
    met.add(line)


def folder_name(path):
    return path, "/srv/numberd"


def error(data, *flags, status, user=None, name="/srv/numberd"):
    """What numberd says when it cannot start."""
    wrapper = ["runuser", "-u", user, "--"] if user else []
    result = subprocess.run([*wrapper, servers.BIN / "numberd", "--data-dir", data, "--listen", "127.0.0.1:0", "--stats-listen",
                             "127.0.0.1:0", *map(str, flags)], capture_output=True, text=True, timeout=servers.PATIENCE,
                            stdin=subprocess.DEVNULL)
    assert result.returncode == status, result.stderr
    return [line for line in result.stderr.splitlines() if line.startswith("numberd: ")][0]


def test_ports_and_lock():
    """A port that is taken, a data directory in use, a server that is not there."""
    with servers.temporary_folder() as folder, socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        check(error(folder / "data", "--listen", f"127.0.0.1:{port}", status=69), port=(f":{port}:", ":4164:"))
        with servers.Numberd(folder / "used"):
            check(error(folder / "used", status=75), folder=folder_name(folder / "used"))
        away = servers.free_port()
        check(servers.ctl("lookup", "+447700900123", "--server", f"127.0.0.1:{away}", status=69), port=(f":{away}:", ":4164:"))


def test_permissions():
    """Somebody else's directory."""
    if os.geteuid() != 0 or shutil.which("runuser") is None:
        untried.append("Permission denied")
        raise servers.Skipped("only root can be somebody else")
    with servers.temporary_folder() as folder:
        folder.chmod(0o755)
        programs = folder / "bin"  # where they lie nobody else may get at
        programs.mkdir()
        shutil.copy(servers.BIN / "numberd", programs)
        before, servers.BIN = servers.BIN, programs
        try:
            (folder / "data").mkdir(mode=0o700)
            check(error(folder / "data", status=77, user="nobody"), folder=folder_name(folder / "data"))
            check(error(folder / "data" / "new", status=73, user="nobody"), folder=folder_name(folder / "data" / "new"))
        finally:
            servers.BIN = before


def test_configuration():
    """A key that is none, one of the officer's that is none, a format of another version, a port beyond loopback."""
    with servers.temporary_folder() as folder:
        (folder / "officer.public").write_text("not a key\n")
        check(error(folder / "data", "--officer-key", folder / "officer.public", status=65), path=(f"{folder}/", ""))
        (folder / "numberd.conf").write_text("cache-secs = 3\n")
        check(error(folder / "data", "--config", folder / "numberd.conf", status=78), path=(f"{folder}/", ""))
        (folder / "later").mkdir()
        (folder / "later" / "numberd.format").write_text("numberd data directory, format 9, little-endian\nserver 0123456789abcdef\n")
        check(error(folder / "later", status=65), folder=folder_name(folder / "later"))
        check(error(folder / "data", "--listen", "0.0.0.0:0", status=78))


def test_redis():
    """It is not there."""
    with servers.temporary_folder() as folder:
        away = servers.free_port()
        with servers.Numberd(folder / "data", "--redis", f"redis://127.0.0.1:{away}/0") as server:
            server.wait_for("Connection refused")
            line = next(line for line in server.read_log().splitlines() if "Connection refused" in line)
            check(line, port=(f"port {away}", "port 6400"))


def test_full_disk():
    """At the start, and while it runs."""
    untried.append("No space left")
    with servers.temporary_folder() as folder, small_disk(folder, 240) as (wrapper, disk):
        untried.pop()
        data = folder / "data"
        with servers.Numberd(data, wrapper=wrapper) as server, Client(server.port) as client:
            client.register(*entries(0, 65535))
            state = os.statvfs(disk)
            with (disk / "filler").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - (8 << 20))
            for account in range(1, 3 * SEGMENT_BYTES // (16 * 65535)):
                if client.ask(registrations(entries(0, 65535, account))).code == READ_ONLY:
                    break
            line = next(line for line in server.read_log().splitlines() if "read-only" in line)
            check(line, folder=folder_name(data))
            server.kill()
        result = subprocess.run([*wrapper, servers.BIN / "numberd", "--data-dir", data, "--listen", "127.0.0.1:0", "--stats-listen",
                                 "127.0.0.1:0"], capture_output=True, text=True, timeout=servers.PATIENCE, stdin=subprocess.DEVNULL)
        assert result.returncode == 74, result.stderr
        check(next(line for line in result.stderr.splitlines() if line.startswith("numberd: ")), folder=folder_name(data))


def test_all_were_met():
    """None of the lines is there in vain."""
    missing = [line for line in LINES if line not in met and not any(words in line for words in untried)]
    assert len(LINES) >= 12 and not missing, missing


if __name__ == "__main__":
    servers.run_tests(globals())
