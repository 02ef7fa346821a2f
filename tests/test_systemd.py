"""systemd: what numberd tells it and when, the sockets that it passes, and how far its unit shuts the service in."""
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

import servers
from client import *  # noqa: F403 -- the protocol's names

BASE = 4915112000000
UNITS = pathlib.Path(__file__).resolve().parent.parent / "server" / "systemd"


class Manager:
    """The socket on which systemd would listen; it reads all the while, since who sends waits when the socket's queue is full."""

    def __init__(self, folder):
        self.path = str(folder / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.seen = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while True:
            self.seen += self.socket.recv(4096).decode().splitlines()

    def wait(self, line, count=1):
        servers.wait_until(lambda: sum(one.startswith(line) for one in self.seen) >= count, f"{line}; seen {self.seen}")


@contextlib.contextmanager
def environment(**more):
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def worker_thread(server):
    """The thread that has used most time, after some lookups."""
    with Client(server.port) as client:
        for _ in range(300):
            client.lookup([BASE + i for i in range(2000)])
    tasks = pathlib.Path(f"/proc/{server.process.pid}/task")
    return max(tasks.iterdir(), key=lambda task: int((task / "schedstat").read_text().split()[0])).name


def test_states():
    """Ready when it answers, reloading at SIGHUP, stopping at SIGTERM; and alive all the while."""
    with servers.temporary_folder() as folder:
        manager = Manager(folder)
        with environment(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="600000"), servers.Numberd(folder / "data") as server:
            manager.wait("READY=1")
            assert any(line.startswith("STATUS=ready: 0 numbers") for line in manager.seen), manager.seen
            manager.wait("WATCHDOG=1", 5)
            server.process.send_signal(signal.SIGHUP)
            manager.wait("RELOADING=1")
            manager.wait("READY=1", 2)
            assert any(line.startswith("MONOTONIC_USEC=") for line in manager.seen)
            assert "STOPPING=1" not in manager.seen
        manager.wait("STOPPING=1")


def test_no_watchdog():
    """Without a watchdog nothing is sent to it, nor to nobody."""
    with servers.temporary_folder() as folder:
        manager = Manager(folder)
        with environment(NOTIFY_SOCKET=manager.path), servers.Numberd(folder / "data"):
            manager.wait("READY=1")
            time.sleep(0.5)
        assert "WATCHDOG=1" not in manager.seen
        with environment(NOTIFY_SOCKET=str(folder / "nobody")), servers.Numberd(folder / "other") as server, Client(server.port) as client:
            client.lookup([BASE])


def test_hanging_worker():
    """A worker that answers no more is no sign of life, though the main thread goes on."""
    with servers.temporary_folder() as folder:
        manager = Manager(folder)
        with environment(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="300000"), servers.Numberd(folder / "data", "--threads", "1") as server:
            manager.wait("WATCHDOG=1", 3)
            worker = worker_thread(server)
            with subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-p", worker, "-e", "inject=epoll_wait:delay_enter=3s:when=1"],
                                  stderr=subprocess.DEVNULL) as tracer:
                time.sleep(1)
                if tracer.poll() is not None:
                    raise servers.Skipped("this machine lets nobody trace")
                before = manager.seen.count("WATCHDOG=1")
                time.sleep(1)
                assert manager.seen.count("WATCHDOG=1") == before, "a worker hangs and nobody says so"
                assert "numberd_connections_open" in server.get("/metrics")
                manager.wait("WATCHDOG=1", before + 3)
                tracer.kill()  # a tracer that is asked to end waits for a moment at which it can let go


def test_journal():
    """Where standard error is journald's, lines have a priority in front and no time of their own; elsewhere they have."""
    with servers.temporary_folder() as folder:
        log = folder / "log"
        for named, first in ((True, ("<5>", "<4>")), (False, "20")):
            with open(log, "w") as file:
                status = os.fstat(file.fileno())
                stream = f"{status.st_dev}:{status.st_ino + (not named)}"
                process = subprocess.Popen([servers.BIN / "numberd", "--data-dir", folder / "data", "--listen", "127.0.0.1:0", "--stats-listen",
                                            "127.0.0.1:0"], stderr=file, env={**os.environ, "JOURNAL_STREAM": stream})
                servers.wait_until(lambda: "ready: " in log.read_text(), "it is ready")
                process.terminate()
                assert process.wait(60) == 0
            assert all(line.startswith(first) for line in log.read_text().splitlines()), log.read_text()
            assert ("numberd: " in log.read_text()) is not named


@contextlib.contextmanager
def activated(folder, names, *flags, count=1):
    """numberd as systemd starts it at the first connection to one of the sockets; gives their ports."""
    ports = []
    for _ in range(count):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    listen = [word for port in ports for word in ("-l", f"127.0.0.1:{port}")]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(["systemd-socket-activate", *listen, f"--fdname={names}", servers.BIN / "numberd", "--data-dir",
                                    folder / "data", "--stats-listen", "127.0.0.1:0", *flags], stderr=log, stdin=subprocess.DEVNULL)
    try:
        servers.wait_until(lambda: "Listening on" in (folder / "log").read_text(), "the sockets are open")
        yield process, ports
    finally:
        process.terminate()
        process.wait(60)


def test_sockets():
    """A passed socket takes the place of the configured one; who connected before the start is served."""
    with servers.temporary_folder() as folder:
        with activated(folder, "lookup:stats", count=2) as (process, (lookup, stats)):
            with Client(lookup, greet=False) as client:
                reply = client.ask(hello())  # it starts at this connection
                assert reply.code == OK
                servers.wait_until(lambda: client.ask(numbers(LOOKUP, [BASE])).code == OK, "it is ready")
            log = (folder / "log").read_text()
            assert f"lookups on 127.0.0.1:{lookup}, stats on http://127.0.0.1:{stats}/" in log, log
        assert process.returncode == 0


def test_wrong_sockets():
    """A name that no port has, and what follows from a port that wants more, are said in one line."""
    for names, flags, words in (("lokup", (), "a socket named \"lokup\""), ("lookup-tls", (), "without --tls-certificate"),
                                ("proxy", (), "--proxy-from")):
        with servers.temporary_folder() as folder, activated(folder, names, *flags) as (process, (port,)):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
            assert process.wait(60) == 78, names
            lines = [line for line in (folder / "log").read_text().splitlines() if line.startswith("numberd: ")]
            assert len(lines) == 1 and words in lines[0], lines


def test_units():
    """systemd understands the units, and the service is shut in."""
    with servers.temporary_folder() as folder:
        text = (UNITS / "numberd.service").read_text().replace("/usr/bin/numberd", str(servers.BIN.resolve() / "numberd"))
        (folder / "numberd.service").write_text(text.replace("Documentation=man:numberd(8)\n", ""))
        (folder / "numberd.socket").write_text((UNITS / "numberd.socket").read_text())
        units = [folder / "numberd.service", folder / "numberd.socket"]
        verify = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
        assert verify.returncode == 0 and verify.stderr == "", verify
        security = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=12", UNITS / "numberd.service"],
                                  capture_output=True, text=True, timeout=60)
        assert security.returncode == 0, security.stdout[-300:]


if __name__ == "__main__":
    servers.run_tests(globals())
