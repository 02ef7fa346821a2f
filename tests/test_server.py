"""The server over its socket: the rules of the protocol, hostile and impatient clients, and the orderly end."""
import contextlib
import os
import pathlib
import pwd
import random
import resource
import signal
import socket
import struct
import time

import servers
from client import *  # noqa: F403 -- the protocol's names

BASE = 4915112300000


@contextlib.contextmanager
def running(*flags):
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data", *flags) as server:
        yield server


def test_updates_and_lookups():
    """Each kind of update has its statuses, and lookups see it at once."""
    with running() as server, Client(server.port) as client:
        assert client.register((BASE, 2**64 - 1, 0xfe), (12, 1, 0), (BASE + 1, 5, 0)) == [ADDED, INVALID, ADDED]
        assert client.register((BASE + 1, 6, 2)) == [REPLACED]
        assert client.lookup([BASE, BASE + 1, BASE + 2, 0, 2**64 - 1]) == [1, 1, 0, INVALID, INVALID]
        record = client.ask(numbers(LOOKUP_RECORDS, [BASE, BASE + 2]))
        assert record.body == struct.pack("<BB6xQ", REGISTERED, 0xfe, 2**64 - 1) + bytes(16)
        move = struct.pack("<QQ", BASE, BASE + 9) + struct.pack("<QQ", BASE, BASE + 8)
        move += struct.pack("<QQ", BASE + 9, BASE + 1) + struct.pack("<QQ", BASE + 9, 3)
        assert list(client.ask(frame(MOVE, move, 4)).body) == [MOVED, ABSENT, OCCUPIED, INVALID]
        assert list(client.ask(numbers(DEREGISTER, [BASE + 9, BASE + 9])).body) == [REMOVED, ABSENT]
        assert client.lookup([BASE, BASE + 1, BASE + 9]) == [0, 1, 0]


def test_hidden_is_exactly_unregistered():
    """The whole reply for a hidden account equals, byte for byte, the one for no account."""
    with running() as server, Client(server.port) as client:
        client.register((BASE, 77, 1), (BASE + 1, 78, 0xff))
        for kind in (LOOKUP, LOOKUP_RECORDS):
            hidden, hidden_too, absent = (client.ask(numbers(kind, [BASE + i])) for i in range(3))
            assert hidden.header + hidden.body == absent.header + absent.body
            assert hidden_too.header + hidden_too.body == absent.header + absent.body


def test_largest_batch():
    """65,535 numbers in one request, answered by index."""
    with running() as server, Client(server.port) as client:
        entries = [(BASE + 2 * i, i, 0) for i in range(65535)]
        assert client.register(*entries) == [ADDED] * 65535
        assert client.lookup([BASE + i for i in range(65535)]) == [REGISTERED, NOT_REGISTERED] * 32767 + [REGISTERED]


def test_hello_rules():
    """What comes instead of a good hello gets its code and a close."""
    cases = [(frame(PING), HELLO_EXPECTED), (hello(magic=b"HTTP"), BAD_FRAME), (hello(lowest=2, highest=9), VERSION_UNSUPPORTED),
             (hello(lowest=0, highest=0), VERSION_UNSUPPORTED), (hello(lowest=3, highest=1), BAD_FRAME),
             (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", BAD_FRAME)]
    with running() as server:
        for data, code in cases:
            with Client(server.port, greet=False) as client:
                assert client.ask(data).code == code, (data, code)
                assert client.is_closed()
        with Client(server.port, greet=False) as client:
            assert client.ask(hello(lowest=0, highest=7)).body[:2] == b"\1\0"
            assert client.ask(hello()).code == OK
        assert server.stats()["frames_malformed"] == 3


def test_malformed_frames():
    """Each breach gets BAD_FRAME with a reason, and a close; the server lives on."""
    good = numbers(LOOKUP, [BASE])
    breaches = [struct.pack("<I", 23) + good[4:], struct.pack("<I", 2**32 - 1) + good[4:], struct.pack("<I", 0) + good[4:],
                good[:5] + b"\4" + good[6:], good[:6] + b"\0\0" + good[8:], good[:12] + b"\1" + good[13:],
                frame(PING, b"x"), frame(PING, count=1), frame(DEREGISTER, bytes(8), 1, flags=1)]
    with running() as server:
        for breach in breaches:
            with Client(server.port) as client:
                reply = client.ask(frame(PING) + breach) and client.receive()
                assert reply.code == BAD_FRAME and reply.body, breach
                assert client.is_closed()
        with Client(server.port) as client:
            assert client.ask(frame(0x7f, b"what is this?")).code == UNKNOWN_TYPE
            assert client.ask(frame(PING)).code == OK


def test_random_bytes():
    """Mutated conversations over many connections never stop the server or another client."""
    source = random.Random(7)
    base = hello() + numbers(LOOKUP, [BASE, BASE + 1]) + registrations([(BASE, 1, 0)]) + frame(STATS) + frame(SNAPSHOT)
    with running() as server, Client(server.port) as witness:
        for _ in range(500):
            data = bytearray(base)
            for _ in range(source.randrange(1, 8)):
                data[source.randrange(len(data))] = source.randrange(256)
            with Client(server.port, greet=False) as client, contextlib.suppress(OSError):
                client.send(bytes(data[:source.randrange(len(data) + 1)]))
                if source.random() < 0.5:
                    client.socket.shutdown(socket.SHUT_WR)
                    while client.socket.recv(65536):
                        pass
        assert witness.lookup([12]) == [INVALID]


def test_early_closes():
    """Half a frame and a close, a reset, a close with replies unread: nothing is left behind."""
    with running() as server:
        for i in range(50):
            with Client(server.port) as client:
                client.send(numbers(LOOKUP, [BASE] * 1000)[:1 + 37 * i])
                if i % 2 == 0:
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        servers.wait_until(lambda: server.stats()["connections_open"] == 0, "all are closed")


def test_tiny_first_bytes():
    """A few bytes that look like a short frame keep nobody waiting, before the hello and after it."""
    with running() as server:
        with Client(server.port, greet=False) as first, Client(server.port) as second:
            first.send(b"\4\0\0\0")
            second.send(b"\1\0\0\0\0\0")
            time.sleep(0.2)
            with Client(server.port) as other:
                assert other.ask(frame(PING)).code == OK
            first.send(bytes(12))
            assert first.receive().code == BAD_FRAME


def test_no_waiting_before_the_hello():
    """Before the hello a long request is refused by its header, not gathered."""
    with running() as server, Client(server.port, greet=False) as client:
        client.send(registrations([(BASE + i, 0, 0) for i in range(60000)])[:16])
        assert client.receive().code == HELLO_EXPECTED
        assert client.is_closed()


def test_out_of_descriptors():
    """With few descriptors: the limit is cut, the stats port does not spin, and the lookups go on; with more, so does the stats
    port."""
    wrapper = ["bash", "-c", "ulimit -n 140; exec \"$@\"", "wrapper"]
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data", wrapper=wrapper) as server, \
            contextlib.ExitStack() as stack:
        assert "connections-max is cut" in server.read_log()
        client = stack.enter_context(Client(server.port))
        for _ in range(150):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.stats_port)))
        time.sleep(0.5)
        before = cpu_seconds(server.process.pid)
        time.sleep(1)
        assert cpu_seconds(server.process.pid) - before < 0.5, "the server spins"
        assert client.lookup([BASE]) == [0]
        stack.close()
        assert server.get("/healthz") == "ok\n"
        assert "[warn]" not in server.read_log()


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_half_close_gets_all_replies():
    """A client that shuts its sending side down still gets what it is owed."""
    with running() as server, Client(server.port) as client:
        client.send(b"".join(numbers(LOOKUP, [BASE] * 5000, i) for i in range(1, 101)))
        client.socket.shutdown(socket.SHUT_WR)
        for i in range(1, 101):
            assert client.receive().request_id == i
        assert client.is_closed()


def test_slow_reader():
    """Who does not read is no longer read from; memory stays bounded, and late reading still gets everything."""
    with running() as server, Client(server.port) as client, Client(server.port) as other:
        request = numbers(LOOKUP_RECORDS, [BASE] * 1000)
        client.socket.setblocking(False)
        sent = 0
        data = request * 8000  # 64 MB of requests for 128 MB of replies
        stalled_since = None
        while stalled_since is None or time.monotonic() - stalled_since < 1:
            try:
                sent += client.socket.send(data[sent:sent + 65536])
                stalled_since = None
            except BlockingIOError:
                stalled_since = stalled_since or time.monotonic()
                time.sleep(0.01)
        assert sent < len(data) / 2, "the server stopped reading"
        assert other.ask(frame(PING)).code == OK
        client.socket.setblocking(True)
        for _ in range(sent // len(request)):
            reply = client.receive()
            assert reply.code == OK and reply.count == 1000


def test_long_answers_do_not_stall():
    """Requests whose replies go beyond the output cap are all answered, also to a client that has ended its side."""
    for end in (False, True):
        with running() as server, Client(server.port) as client:
            client.send(frame(STATS) * 6000)  # some 8 MiB of replies
            if end:
                client.socket.shutdown(socket.SHUT_WR)
            for _ in range(6000):
                assert client.receive().code == OK


def test_last_words_are_heard():
    """A client that goes on sending still reads all its replies and the reason for the close."""
    with running() as server, Client(server.port) as client:
        client.send(numbers(LOOKUP_RECORDS, [BASE] * 60000) * 4 + b"\xff" * 16 + bytes(3000000))
        for _ in range(4):
            assert client.receive().count == 60000
        assert client.receive().code == BAD_FRAME
        assert client.is_closed()


def test_stop_while_clients_send():
    """SIGTERM under a stream of registrations: whatever was done was acknowledged before the goodbye."""
    with servers.temporary_folder() as folder:
        with servers.Numberd(folder / "data") as server, Client(server.port) as client:
            import threading
            stream = b"".join(registrations([(BASE + 50 * i + j, 0, 0) for j in range(50)], i + 1) for i in range(20000))
            sender = threading.Thread(target=send_all, args=(client, stream))
            sender.start()
            time.sleep(0.05)
            os.kill(server.process.pid, signal.SIGTERM)
            acknowledged = 0
            while (reply := client.receive()).code == OK:
                acknowledged += list(reply.body).count(ADDED)
            assert (reply.code, reply.request_id) == (GOING_AWAY, 0)
            client.socket.close()
            sender.join()
        with servers.Numberd(folder / "data") as server:
            assert server.stats()["directory"]["registered"] == acknowledged
            assert acknowledged > 0


def send_all(client, data):
    with contextlib.suppress(OSError):
        client.send(data)


def test_signal_while_starting():
    """A SIGTERM in the first moments is an orderly stop, too."""
    import subprocess
    for delay in (0.01, 0.03, 0.06, 0.1):
        with servers.temporary_folder() as folder:
            process = subprocess.Popen([servers.BIN / "numberd", "--data-dir", folder / "data", "--listen", "127.0.0.1:0",
                                        "--stats-listen", "127.0.0.1:0"], stderr=subprocess.DEVNULL)
            servers.wait_until((folder / "data" / "lock").exists, "the data directory is taken")
            time.sleep(delay)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_a_thousand_connections():
    """A thousand clients at once, each answered, and the next thousand too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with running() as server, contextlib.ExitStack() as stack:
        for _ in range(2):
            clients = [stack.enter_context(Client(server.port, greet=False)) for _ in range(1000)]
            for client in clients:
                client.send(hello() + numbers(LOOKUP, [BASE]))
            for client in clients:
                assert client.receive().code == OK
                assert client.receive().code == OK
            assert server.stats()["connections_open"] >= 1000


def test_connection_limit():
    """Beyond the limit clients are told so and closed; when others leave there is room again."""
    with running("--connections-max", "2") as server:
        first, second = Client(server.port), Client(server.port)
        with Client(server.port, greet=False) as third:
            reply = third.receive()
            assert (reply.type, reply.code, reply.request_id) == (HELLO | 0x80, UNAVAILABLE, 0) and reply.retry_after_ms > 0
            assert third.is_closed()
        assert "all its connections are taken" in servers.ctl("ping", "--server", server.address, status=75)
        first.socket.close()
        servers.wait_until(lambda: server.stats()["connections_open"] == 1, "the first is gone")
        with Client(server.port) as third:
            third.lookup([BASE])
        second.lookup([BASE])
        second.socket.close()
        assert server.stats()["connections_refused"]["full"] == 2


def test_connections_by_address():
    """One address has its share of the connections, and of new ones in a second; others have theirs."""
    with running("--connections-per-address", "3", "--connects-per-second", "0") as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port, source="127.0.0.2")) for _ in range(3)]
        with Client(server.port, greet=False, source="127.0.0.2") as fourth:
            assert fourth.receive().code == UNAVAILABLE
        stack.enter_context(Client(server.port, source="127.0.0.3")).lookup([BASE])
        clients[0].socket.close()
        servers.wait_until(lambda: server.stats()["connections_open"] == 3, "the first is gone")
        stack.enter_context(Client(server.port, source="127.0.0.2")).lookup([BASE])
        assert server.stats()["connections_refused"] == {"full": 0, "crowded_address": 1, "hasty_address": 0}
    with running("--connects-per-second", "10") as server:
        refused = 0
        for _ in range(60):
            with Client(server.port, greet=False, source="127.0.0.2") as client:
                client.send(hello())
                refused += client.receive().code == UNAVAILABLE
        assert 25 <= refused <= 40 and server.stats()["connections_refused"]["hasty_address"] == refused, refused
        Client(server.port, source="127.0.0.3").socket.close()


def test_reserve():
    """The last places are for operators: others are told so, who say nothing have two seconds, and no address may hold all."""
    with servers.temporary_folder() as folder:
        tokens = folder / "tokens"
        operator, other = (servers.ctl("token", "add", tokens, "--principal", principal, "--roles", roles).strip().encode()
                           for principal, roles in ((1, "operate"), (2, "lookup")))
        with servers.Numberd(folder / "data", "--token-file", tokens, "--connections-max", "24", "--connections-reserve", "8") as server, \
                contextlib.ExitStack() as stack:
            for _ in range(16):
                stack.enter_context(Client(server.port, token=other))
            with Client(server.port, greet=False, source="127.0.0.2") as late:
                reply = late.ask(hello(other))
                assert reply.code == UNAVAILABLE and reply.request_id == 1 and late.is_closed()
            servers.wait_until(lambda: server.stats()["connections_open"] == 16, "the late one has left its place")
            started = time.monotonic()
            with Client(server.port, greet=False, source="127.0.0.2") as silent, \
                    Client(server.port, greet=False, source="127.0.0.2") as second:
                silent.send(hello()[:1])  # a connection without a byte is the kernel's for a second
                servers.wait_until(lambda: server.stats()["connections_open"] == 17, "the silent one has a place")
                second.send(hello()[:1])
                assert second.receive().code == UNAVAILABLE  # one in eight for an address
                with Client(server.port, token=operator) as client:
                    assert client.ask(frame(STATS)).code == OK
                assert silent.receive_all() == b"" and time.monotonic() - started < 6


def status_of(process):
    return dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines() if ":\t" in line)


def test_user():
    """Started by root with --user it is that user for good, with a data directory of theirs, and works; never can it gain more."""
    if os.geteuid() != 0:
        raise servers.Skipped("only root can become somebody else")
    nobody = pwd.getpwnam("nobody")
    with servers.temporary_folder() as folder:
        folder.chmod(0o711)
        with servers.Numberd(folder / "data", "--user", "nobody") as server, Client(server.port) as client:
            status = status_of(server.process)
            assert status["Uid"].split() == [str(nobody.pw_uid)] * 4 and status["Gid"].split() == [str(nobody.pw_gid)] * 4
            assert status["NoNewPrivs"] == "1" and int(status["CapEff"], 16) == 0 and int(status["CapPrm"], 16) == 0
            assert status["Groups"].split() in ([], [str(nobody.pw_gid)])
            assert client.register((BASE, 1, 0)) == [ADDED] and client.lookup([BASE]) == [REGISTERED]
            assert "runs as root" not in server.read_log()
        assert (folder / "data").stat().st_uid == nobody.pw_uid and (folder / "data").stat().st_mode & 0o777 == 0o700
        line = servers.numberd_error(folder / "other", "--user", "no-such-user", status=67)
        assert "there is no user no-such-user" in line and not (folder / "other").exists()
        with running() as server:
            assert "runs as root" in server.read_log() and status_of(server.process)["NoNewPrivs"] == "1"


def mixed_requests(chance, base, count):
    """Requests of all kinds, lookups most of all, for 400 numbers; and what each lookup finds, None for the others."""
    there, frames, expected = set(), [], []
    for request_id in range(1, count + 1):
        kind = chance.choice(["lookup"] * 6 + ["lone", "long", "register", "deregister", "ping"])
        some = [base + chance.randrange(400) for _ in range({"lone": 1, "long": 700, "lookup": chance.randrange(2, 60)}.get(kind, 3))]
        found = None
        if kind == "register":
            frames.append(registrations([(number, 1, 0) for number in dict.fromkeys(some)], request_id))
            there.update(some)
        elif kind == "deregister":
            frames.append(numbers(DEREGISTER, list(dict.fromkeys(some)), request_id))
            there.difference_update(some)
        elif kind == "ping":
            frames.append(frame(PING, request_id=request_id))
        else:
            frames.append(numbers(LOOKUP, some, request_id))
            found = [REGISTERED if number in there else NOT_REGISTERED for number in some]
        expected.append(found)
    return frames, expected


def check_replies(client, expected, first):
    for i, found in enumerate(expected, first):
        reply = client.receive()
        assert (reply.request_id, reply.code) == (i, OK), (i, reply.request_id, reply.code)
        assert found is None or list(reply.body) == found, (i, reply.body, found)


def test_lookups_ahead():
    """Requests that come together are answered as one by one: each lookup sees the changes before it, and none after it."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server, Client(server.port) as client:
        frames, expected = mixed_requests(random.Random(7), BASE, 1500)
        for at in range(0, len(frames), 100):  # that many at once
            client.send(b"".join(frames[at:at + 100]))
            check_replies(client, expected[at:at + 100], at + 1)


def test_rounds():
    """Requests that come together on many connections are answered as one by one, to whom they belong, whatever the others do: some send
    half a frame, some change what they look up, some leave."""
    chance = random.Random(8)
    with running() as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(150)]
        requests = [mixed_requests(chance, BASE + 1000 * i, 24) for i in range(len(clients))]
        left = set()
        for at in range(0, 24, 3):
            halves = {i: chance.random() < 0.2 for i in range(len(clients))}
            os.kill(server.process.pid, signal.SIGSTOP)  # so that all are there when it looks
            for i, client in enumerate(clients):
                if i in left:
                    continue
                if chance.random() < 0.05:
                    client.send(requests[i][0][at] + chance.choice([b"", b"nonsense that is no frame"]))
                    client.socket.close()
                    left.add(i)
                    continue
                data = b"".join(requests[i][0][at:at + 3])
                client.send(data[:len(data) // 2] if halves[i] else data)
            os.kill(server.process.pid, signal.SIGCONT)
            for i, client in enumerate(clients):
                if i not in left and halves[i]:
                    data = b"".join(requests[i][0][at:at + 3])
                    client.send(data[len(data) // 2:])
            for i, client in enumerate(clients):
                if i not in left:
                    check_replies(client, requests[i][1][at:at + 3], at + 1)
        assert 20 < len(left) < 100
        servers.wait_until(lambda: server.stats()["connections_open"] == len(clients) - len(left), "the others leave")


def test_probes():
    """Each worker is probed 20 times a second, and idle ones take a probe soon."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data", "--threads", "2") as server:
        counts = lambda: server.stats()["waits"]["counts"]  # noqa: E731
        before, begun = sum(counts()), time.monotonic()
        servers.wait_until(lambda: sum(counts()) >= before + 40, "forty probes")
        took = time.monotonic() - begun
        assert took > 0.8, took
        assert sum(counts()[:9]) > 20, counts()  # 0.26 s at most


def test_two_workers():
    """Connections are dealt out to all workers; what one registers the others see."""
    with running("--threads", "3") as server:
        clients = [Client(server.port) for _ in range(6)]
        for i, client in enumerate(clients):
            assert client.register((BASE + i, i, 0)) == [ADDED]
            for other in clients:
                assert other.lookup([BASE + i]) == [REGISTERED]
        stats = server.stats()
        assert stats["workers"] == 3 and stats["directory"]["registered"] == 6
        for client in clients:
            client.socket.close()


def test_orderly_stop():
    """SIGTERM: what was asked is answered, each client gets GOING_AWAY and a close, the exit status is 0."""
    with running() as server:
        idle, busy, half = Client(server.port), Client(server.port), Client(server.port)
        half.send(numbers(LOOKUP, [BASE])[:20])
        busy.send(numbers(LOOKUP, [BASE], 7))
        time.sleep(0.2)
        os.kill(server.process.pid, signal.SIGTERM)
        assert busy.receive().request_id == 7
        for client in (idle, busy, half):
            reply = client.receive()
            assert (reply.code, reply.request_id, reply.type) == (GOING_AWAY, 0, GOODBYE | 0x80)
            assert client.is_closed()
        for _ in range(20):  # impatience changes nothing
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.process.pid, signal.SIGTERM)
            time.sleep(0.01)
        assert server.process.wait(20) == 0


def test_hangup_is_no_stop():
    """SIGHUP, as from a terminal that goes away, stops nothing: it has the tokens read again, if there are any."""
    with running() as server, Client(server.port) as client:
        os.kill(server.process.pid, signal.SIGHUP)
        server.wait_for("SIGHUP: there is no token file")
        assert client.register((BASE, 1, 0)) == [ADDED]


def test_stop_does_not_wait_for_ever():
    """A client that never reads does not keep the server from stopping."""
    with running("--drain-seconds", "1") as server, Client(server.port) as client:
        client.socket.settimeout(1)
        with contextlib.suppress(TimeoutError):
            client.send(numbers(LOOKUP_RECORDS, [BASE] * 1000) * 4000)
        started = time.monotonic()
        os.kill(server.process.pid, signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert time.monotonic() - started < 20


def test_http():
    """The stats port: each page, the numbers on it, and its refusals."""
    import json
    import subprocess
    import urllib.error
    with running() as server, Client(server.port) as client:
        client.register((BASE, 1, 0))
        client.lookup([BASE, BASE + 1, 5])
        stats = server.stats()
        assert stats["lookups"] == {"registered": 1, "not_registered": 1, "invalid": 1, "limited": 0}
        assert stats["updates"]["added"] == 1
        metrics = server.get("/metrics")
        assert 'numberd_lookups_total{answer="registered"} 1\n' in metrics
        check = subprocess.run(["promtool", "check", "metrics"], input=metrics, text=True, capture_output=True)
        assert check.returncode == 0 and not check.stderr.strip(), check
        for line in ('numberd_lookup_batch_numbers_bucket{le="2"} 0', 'numberd_lookup_batch_numbers_bucket{le="4"} 1',
                     'numberd_lookup_batch_numbers_bucket{le="+Inf"} 1', "numberd_lookup_batch_numbers_sum 3"):
            assert line + "\n" in metrics, line
        assert 'numberd_queue_seconds_bucket{le="+Inf"} ' in metrics
        # A turn is counted when it is over, which its reply does not wait for.
        servers.wait_until(lambda: sum(server.stats()["turns"]["counts"]) >= 3, "the turns are counted")
        stats = server.stats()
        turns, busy = stats["turns"], stats["worker_busy_seconds"]
        assert 0 < turns["sum"] < 3 * 10 and len(turns["counts"]) == len(turns["bounds"]) + 1
        assert len(busy) == stats["workers"] and 0 < sum(busy) < 30, busy
        assert server.get("/healthz") == "ok\n" and server.get("/readyz") == "ready\n"
        assert "<title>numberd</title>" in server.get("/") and "stats.json" in server.get("/page.js") and "Chart.js" in server.get("/chart.js")
        wire = json.loads(client.ask(frame(STATS)).body)
        assert wire["lookups"] == stats["lookups"]
        for path, method, status in (("/nothing", "GET", 404), ("/metrics", "POST", 501)):
            try:
                request = servers.urllib.request.Request(f"http://127.0.0.1:{server.stats_port}{path}", method=method)
                servers.urllib.request.urlopen(request, timeout=5)
                raise AssertionError(path)
            except urllib.error.HTTPError as error:
                assert error.code in (status, 405), (path, error.code)


def test_directory_insight():
    """The directory's figures: those of the shards add up to those of the whole, on all ways to them."""
    import json
    with running() as server, Client(server.port) as client:
        for start in range(0, 20_000, 1000):
            client.register(*((BASE + start + i, 1, 0) for i in range(1000)))
        whole, shards = server.stats()["directory"], json.loads(server.get("/shards.json"))
        assert len(shards) == whole["shards"] == 256
        for name in ("registered", "slots", "bytes", "rebuilds"):
            assert sum(shard[name] for shard in shards) == whole[name], name
        assert whole["registered"] == 20_000 and whole["rebuilds"] > 0 and whole["rebuild_seconds"] > 0
        assert 0.4 < whole["fill"] < 0.95 and 16 < whole["bytes_per_number"] < 45  # so small a directory doubles its tables
        assert 0 < whole["second_line_share"] < 0.4 and 0 < whole["moves_per_insert"] < 2
        assert whole["bytes_peak"] > whole["bytes"]
        assert whole["lookup"] in ("avx512", "avx2", "neon", "scalar")
        metrics = server.get("/metrics")
        assert "numberd_directory_inserts_total 20000\n" in metrics
        assert f"numberd_directory_rebuilds_total {whole['rebuilds']}\n" in metrics
        assert server.stats()["huge_page_bytes"] <= server.stats()["resident_bytes"]


if __name__ == "__main__":
    servers.run_tests(globals())
