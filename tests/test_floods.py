"""Who floods costs others nothing: each defence by itself. What it comes to under load is bench_floods' to measure."""
import contextlib
import json
import resource
import select
import socket
import subprocess
import threading
import time

import servers
from client import *  # noqa: F403 -- the protocol's names

BASE = 4915112000000
MIB = 1 << 20
LONGEST = numbers(LOOKUP_RECORDS, [BASE] * 65535)


@contextlib.contextmanager
def running(*flags):
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data", *flags) as server:
        yield server


def flood(mode, server, *arguments, seconds=3):
    command = ["numberflood", mode, "--server", server.address, "--seconds", seconds, "--json", *arguments]
    result = subprocess.run([servers.BIN / command[0], *map(str, command[1:])], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result
    return json.loads(result.stdout)


@contextlib.contextmanager
def deaf(server, count):
    """Clients that ask for far more than they are owed at once, and do not read."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(count)]
        for client in clients:
            client.socket.settimeout(0.3)

            def ask(client=client):
                with contextlib.suppress(OSError):  # it is blocked, or closed
                    client.send(LONGEST * 40)
            thread = threading.Thread(target=ask)
            thread.start()
            stack.callback(thread.join)
        yield clients


def cpu_seconds(server):
    with open(f"/proc/{server.process.pid}/stat") as file:
        fields = file.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_frame_deadline():
    """Who drips a frame is closed when its time is over, though each moment brings a byte."""
    with running("--patience-seconds", "1") as server, Client(server.port) as client, Client(server.port) as other:
        started = time.monotonic()
        with contextlib.suppress(OSError):
            for i in range(0, 4000, 8):
                client.send(LONGEST[i:i + 8])
                time.sleep(0.05)
        assert 0.9 < time.monotonic() - started < 6, time.monotonic() - started
        assert client.is_closed() and server.stats()["connections_slow"] == 1
        other.lookup([BASE])


def test_output_cap():
    """Who does not read makes the server hold 4 MiB and a reply, not more; after its patience nothing."""
    with running("--patience-seconds", "2") as server, deaf(server, 1):
        most = 0
        while server.stats()["connections_slow"] == 0:
            most = max(most, server.stats()["buffer_bytes"])
            time.sleep(0.02)
        assert 2 * MIB < most < 10 * MIB, most
        servers.wait_until(lambda: server.stats()["buffer_bytes"] == 0, "its memory is free again")
        assert server.stats()["connections_evicted"] == 0


def test_total_memory():
    """All together hold what they may and no more: those who hold the most are closed, who reads is served meanwhile."""
    with running("--buffer-bytes-max", "16M", "--threads", "1") as server, Client(server.port) as honest, deaf(server, 12):
        for _ in range(40):
            assert honest.ask(LONGEST).count == 65535
            assert server.stats()["buffer_bytes"] <= (16 + 8) * MIB  # and what a turn adds, before someone is closed for it
        # Two or three fit.
        servers.wait_until(lambda: 8 <= server.stats()["connections_evicted"] <= 12, "the others are closed")
        assert f"numberd_connections_evicted_total {server.stats()['connections_evicted']}\n" in server.get("/metrics")
        honest.lookup([BASE])


def test_no_memory_for_a_header():
    """The header of a long frame alone takes no memory for it."""
    with running() as server, contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(Client(server.port)).send(LONGEST[:40])
        servers.wait_until(lambda: server.stats()["buffer_bytes"] >= 50 * 40, "all have come")
        assert server.stats()["buffer_bytes"] <= 50 * 1024, server.stats()["buffer_bytes"]


def test_no_lingering():
    """Who was told to stop and goes on sending is closed soon, too."""
    with running() as server, Client(server.port) as client:
        assert client.ask(b"\xff" * 16).code == BAD_FRAME
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 20:
                client.send(b"\xff")
                time.sleep(0.1)
        assert time.monotonic() - started < 6
        assert server.stats()["connections_open"] == 0


def test_no_reading_away():
    """Of what it sends meanwhile some MiB are read away, and no more."""
    with running() as server, Client(server.port) as client:
        assert client.ask(b"\xff" * 16).code == BAD_FRAME
        client.socket.settimeout(0.2)
        sent, started = 0, time.monotonic()
        with contextlib.suppress(TimeoutError, ConnectionError):
            while time.monotonic() - started < 1.5:
                sent += client.socket.send(bytes(MIB))
        assert 4 * MIB <= sent < 64 * MIB, sent  # what is beyond lies in the kernel's buffers


def test_connects():
    """Thousands that come and go by the second, from one address or many: the others are served, and nothing is left of them."""
    for arguments in (("--from", "127.0.0.2"), ("--from", "127.1.0.1", "--addresses", 500)):
        with running() as server, Client(server.port) as client:
            report = flood("connects", server, *arguments, "--rate", 3000, "--first-bytes", 1, seconds=2)
            assert report["connects"] > 1000, report
            assert client.lookup([BASE]) == [NOT_REGISTERED]
            servers.wait_until(lambda: server.stats()["connections_open"] == 1, "all are gone")
            hasty = server.stats()["connections_refused"]["hasty_address"]
            assert (hasty > 0) == (len(arguments) == 2), (arguments, hasty)


def refusal(server, source):
    """What the server says to who gets no place; None if it says nothing, as to most beyond a thousand a second."""
    with Client(server.port, greet=False, source=source) as client, contextlib.suppress(EOFError, ConnectionResetError):
        return client.receive().code
    return None


def test_operators():
    """With all places taken, and the reserve besieged from many addresses, an operator gets in from where operators come from."""
    with servers.temporary_folder() as folder:
        tokens, shown = folder / "tokens", folder / "token"
        token = servers.ctl("token", "add", tokens, "--principal", 1, "--roles", "operate").strip()
        shown.write_text(token)
        with servers.Numberd(folder / "data", "--token-file", tokens, "--connections-max", "100", "--connections-reserve", "8",
                             "--operators-from", "127.0.0.1,192.0.2.0/24") as server:
            siege = threading.Thread(target=flood, args=("half", server, "--from", "127.1.0.1", "--addresses", 200, "--connections", 300,
                                                         "--rate", 3000, "--first-bytes", 1), kwargs={"seconds": 5})
            siege.start()
            servers.wait_until(lambda: server.stats()["connections_refused"]["full"] > 200, "all places are taken", 5)
            servers.wait_until(lambda: refusal(server, "127.0.0.2") == UNAVAILABLE, "others are told why they get no place", 5)
            for _ in range(10):
                servers.ctl("stats", "--server", server.address, "--token-file", shown)
                time.sleep(0.1)
            assert server.stats()["connections_open"] >= 92
            siege.join()
        line = servers.numberd_error(folder / "data", "--token-file", tokens, "--operators-from", "127.0.0.1,", status=78)
        assert "--operators-from: network 2 is none" in line


def test_stats_port():
    """Hundreds who connect to the stats port and say nothing take some dozens of descriptors, and only for a while."""
    with running() as server, contextlib.ExitStack() as stack:
        files = servers.pathlib.Path(f"/proc/{server.process.pid}/fd")
        before = len(list(files.iterdir()))
        crowd = [stack.enter_context(socket.create_connection(("127.0.0.1", server.stats_port), 5)) for _ in range(400)]
        time.sleep(1)
        assert 20 <= len(list(files.iterdir())) - before <= 64, "the port takes too many"
        with Client(server.port) as client:
            client.lookup([BASE])
        for one in crowd:
            one.close()
        assert server.stats()["connections_open"] == 0


def test_out_of_descriptors():
    """Without a descriptor left who comes is closed, nothing spins, others are served; with some it goes on."""
    with running() as server, Client(server.port) as client:
        used = max(int(path.name) for path in servers.pathlib.Path(f"/proc/{server.process.pid}/fd").iterdir()) + 1
        soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used + 2, hard))
        with contextlib.ExitStack() as stack:
            crowd = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5)) for _ in range(200)]
            time.sleep(1)
            before = cpu_seconds(server)
            time.sleep(1)
            assert cpu_seconds(server) - before < 0.3, "the server spins"
            client.lookup([BASE])
            servers.wait_until(lambda: len(select.select(crowd, [], [], 0)[0]) >= 198, "all but two are closed")
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert server.stats()["connections_refused"]["full"] > 100
        with Client(server.port) as late:
            late.lookup([BASE])


if __name__ == "__main__":
    servers.run_tests(globals())
