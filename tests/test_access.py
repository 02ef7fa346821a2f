"""Who may ask, and how much: tokens and their roles, budgets, detectors, patience."""
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import servers
from client import *  # noqa: F403 -- the protocol's names

BASE = 4915112000000


def add(tokens, principal, roles, *arguments):
    """A new token's text."""
    return servers.ctl("token", "add", tokens, "--principal", principal, "--roles", roles, *arguments).strip().encode()


def listed(tokens):
    return [json.loads(line) for line in servers.ctl("token", "list", tokens, "--json").splitlines()]


def reload(server, words):
    before = server.read_log().count("SIGHUP")
    os.kill(server.process.pid, signal.SIGHUP)
    servers.wait_until(lambda: server.read_log().count("SIGHUP") > before, "SIGHUP is answered")
    assert words in server.read_log().splitlines()[-1], server.read_log()


def test_tokens():
    """A hello needs a known token; its principal is the requester in the log; no secret is in the file or in any line."""
    with servers.temporary_folder() as folder:
        tokens = folder / "tokens"
        first, second = add(tokens, 41, "lookup", "--name", "gate-1"), add(tokens, 42, "lookup,operate", "--budget", "70/5")
        assert (tokens.stat().st_mode & 0o777) == 0o600
        assert first[17:] not in tokens.read_bytes() and first[4:16] in tokens.read_bytes()
        assert [(entry["principal"], entry["roles"], entry["budget"], entry["name"]) for entry in
                sorted(listed(tokens), key=lambda entry: entry["principal"])] == [
                    (41, "lookup", "default", "gate-1"), (42, "lookup,operate", "70/5", "")]
        with servers.Numberd(folder / "data", "--token-file", tokens) as server:
            for token in (b"", b"0123456789abcdef", first[:-1], first + b"0", first[:-1] + bytes([first[-1] ^ 1]),
                          first[:17] + second[17:], b"nb1_" + b"0" * 12 + first[16:]):
                with Client(server.port, greet=False) as client:
                    assert client.ask(hello(token)).code == UNAUTHORIZED
                    assert client.is_closed()
            with Client(server.port, token=first) as client:
                client.lookup([BASE])
            shown = folder / "token"
            shown.write_bytes(second + b"\n")
            servers.ctl("lookup", "--server", server.address, "--token-file", shown, f"+{BASE}")
            servers.ctl("lookup", "--server", server.address, f"+{BASE}", status=77)
            emitted = server.read_log() + server.get("/stats.json") + server.get("/metrics")
        assert first[17:].decode() not in emitted and second[17:].decode() not in emitted
        for requester in (41, 42):
            records = servers.disclose(server.data_dir, "--requester", requester).splitlines()
            assert len(records) == 2, records


def test_roles():
    """Each request wants its role, and does nothing without it; the connection goes on."""
    requests = {"lookup": [numbers(LOOKUP, [BASE]), numbers(LOOKUP_RECORDS, [BASE])],
                "front": [lookup_for(9, "192.0.2.1", [BASE])],
                "register": [registrations([(BASE, 1, 0)]), numbers(DEREGISTER, [BASE]), moves([(BASE, BASE + 1)])],
                "operate": [frame(STATS), frame(SNAPSHOT)]}
    with servers.temporary_folder() as folder:
        tokens = folder / "tokens"
        shown = {roles: add(tokens, 1 + place, roles) for place, roles in enumerate((*requests, "lookup,register", "front,operate"))}
        with servers.Numberd(folder / "data", "--token-file", tokens) as server:
            for roles, token in shown.items():
                with Client(server.port, token=token) as client:
                    for role, frames in requests.items():
                        for data in frames:
                            expected = OK if role in roles.split(",") else FORBIDDEN
                            assert client.ask(data).code == expected, (roles, role, data)
                    assert client.ask(frame(PING)).code == OK
            assert server.stats()["updates"]["added"] == 2  # by the two that may
            with Client(server.port, token=shown["lookup"]) as client:  # another token for the rest of the conversation
                assert client.ask(hello(shown["register"])).code == OK
                assert client.ask(numbers(LOOKUP, [BASE])).code == FORBIDDEN


def test_reload():
    """At SIGHUP new tokens count, revoked ones end, other roles begin; a file that cannot be read changes nothing."""
    with servers.temporary_folder() as folder:
        tokens = folder / "tokens"
        stays, goes = add(tokens, 1, "lookup"), add(tokens, 2, "lookup")
        with servers.Numberd(folder / "data", "--token-file", tokens, "--threads", "2") as server, \
                Client(server.port, token=stays) as one, Client(server.port, token=goes) as two:
            one.lookup([BASE]), two.lookup([BASE])
            new = add(tokens, 3, "register")
            with Client(server.port, greet=False) as client:
                assert client.ask(hello(new)).code == UNAUTHORIZED
            servers.ctl("token", "revoke", tokens, goes[4:16].decode())
            text = tokens.read_text()
            tokens.write_text(text.replace(f"{stays[4:16].decode()} 1 lookup", f"{stays[4:16].decode()} 1 operate") + "nonsense\n")
            reload(server, "line 4: write ID")
            two.lookup([BASE])
            tokens.write_text(tokens.read_text().replace("nonsense\n", ""))
            reload(server, "2 tokens were read again")
            assert two.ask(numbers(LOOKUP, [BASE])).code == UNAUTHORIZED and two.is_closed()
            assert one.ask(numbers(LOOKUP, [BASE])).code == FORBIDDEN and one.ask(frame(STATS)).code == OK
            with Client(server.port, token=new) as client:
                assert client.register((BASE, 1, 0)) == [ADDED]
            tokens.unlink()
            reload(server, "the tokens stay as they were")
            assert one.ask(frame(STATS)).code == OK


def test_owner_of_the_file():
    """Root changes a server's token file, and it stays the server's."""
    if os.geteuid() != 0:
        raise servers.Skipped("only root can change what is another's")
    with servers.temporary_folder() as folder:
        tokens = folder / "tokens"
        token = add(tokens, 1, "lookup")
        os.chown(tokens, 65534, 65534)
        add(tokens, 2, "lookup")
        servers.ctl("token", "revoke", tokens, token[4:16].decode())
        status = tokens.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65534, 65534, 0o600)


def test_a_file_of_roots():
    """A server reads what root alone writes and its group may read, and nothing that others may read; the owner stays so."""
    if os.geteuid() != 0:
        raise servers.Skipped("only root can give files away")
    with servers.temporary_folder() as folder:
        folder.chmod(0o755)
        tokens = folder / "tokens"
        token = add(tokens, 1, "lookup")
        os.chown(tokens, 0, 65534)
        tokens.chmod(0o640)
        add(tokens, 2, "lookup")
        status = tokens.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 65534, 0o640)
        (folder / "data").mkdir()
        os.chown(folder / "data", 65534, 65534)
        with servers.Numberd(folder / "data", "--token-file", tokens, "--user", "nobody") as server:
            with Client(server.port, token=token) as client:
                client.lookup([BASE])
            tokens.chmod(0o644)
            os.kill(server.process.pid, signal.SIGHUP)
            server.wait_for("open to others")
            tokens.chmod(0o600)
            os.kill(server.process.pid, signal.SIGHUP)
            server.wait_for("must be readable by the user")


def test_concurrent_adds():
    """Tokens that are made at the same time are all there."""
    with servers.temporary_folder() as folder:
        tokens = folder / "tokens"
        running = [subprocess.Popen([servers.BIN / "numberctl", "token", "add", tokens, "--principal", str(principal), "--roles",
                                     "lookup"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for principal in range(1, 31)]
        assert all(process.wait(60) == 0 for process in running)
        assert sorted(entry["principal"] for entry in listed(tokens)) == list(range(1, 31))


def test_budget():
    """What the budget has is served, the rest is LIMITED, over all connections and workers of a principal, and of no other."""
    with servers.temporary_folder() as folder:
        tokens = folder / "tokens"
        small, other = add(tokens, 1, "lookup,register", "--budget", "100/3600"), add(tokens, 2, "lookup")
        with servers.Numberd(folder / "data", "--token-file", tokens, "--threads", "2") as server, \
                Client(server.port, token=small) as one, Client(server.port, token=small) as two, \
                Client(server.port, token=other) as three:
            one.register(*((BASE + i, 1, 0) for i in range(200)))
            assert one.ask(numbers(LOOKUP, [BASE])).quota_left == 99
            reply = two.ask(numbers(LOOKUP, [BASE + i for i in range(70)]))
            assert (list(reply.body), reply.quota_left, reply.retry_after_ms) == ([REGISTERED] * 70, 29, 0)
            reply = one.ask(numbers(LOOKUP, [BASE + i for i in range(100)]))
            assert list(reply.body[:29]) == [REGISTERED] * 29 and set(reply.body[32:]) == {LIMITED}, reply.body
            assert reply.quota_left == 0 and 65000 < reply.retry_after_ms < 72000, reply.retry_after_ms
            reply = two.ask(numbers(LOOKUP_RECORDS, [BASE] * 5))
            assert reply.code == OK and [reply.body[16 * i] for i in range(5)][-1] == LIMITED
            assert reply.body[-16:] == bytes([LIMITED]) + bytes(15)
            time.sleep(2.1)
            reply = two.ask(numbers(LOOKUP, [BASE] * 10))
            assert 2 <= list(reply.body).count(REGISTERED) <= 5 and reply.body[-1] == LIMITED
            assert three.lookup([BASE] * 1000) == [REGISTERED] * 1000
            limited = server.stats()["lookups"]["limited"]
        # Who asked for what, answered or not, is in the log.
        rows = servers.disclose(server.data_dir, "--requester", 1).splitlines()[1:]
        assert sum(",limited," in row for row in rows) == limited and len(rows) == 1 + 70 + 100 + 5 + 10, (limited, len(rows))


def test_no_budget():
    """Who asks though nothing is left is answered, but then not read for a while; others of the same front are. Not all of it is logged."""
    with servers.temporary_folder() as folder:
        tokens = folder / "tokens"
        small, front = add(tokens, 1, "lookup", "--budget", "100/1"), add(tokens, 2, "front,lookup", "--budget", "none")
        with servers.Numberd(folder / "data", "--token-file", tokens, "--network-budget", "none") as server, \
                Client(server.port, token=small) as one, Client(server.port, token=small) as two, Client(server.port, token=front) as three:
            assert set(one.lookup([BASE] * 100)) == {NOT_REGISTERED}
            started = time.monotonic()
            one.send(numbers(LOOKUP, [BASE] * 3000) + frame(PING) + frame(PING))
            assert set(one.receive().body) == {LIMITED} and time.monotonic() - started < 0.2
            three.lookup([BASE])
            assert one.receive().code == OK and time.monotonic() - started > 0.25, "0.1 ms a number"
            assert one.receive().code == OK and time.monotonic() - started < 2
            # A front's connection has others on it.
            for _ in range(10):
                three.ask(lookup_for(5, "203.0.113.1", [BASE] * 20000))
            started = time.monotonic()
            assert LIMITED in three.ask(lookup_for(5, "203.0.113.1", [BASE] * 20000)).body
            assert LIMITED not in three.ask(lookup_for(6, "203.0.113.2", [BASE] * 100)).body
            assert time.monotonic() - started < 1
            assert set(two.lookup([BASE] * 65535)) == {LIMITED}
            stats = server.stats()
            lookups, unlogged = stats["lookups"], stats["limited_unlogged"]
            assert lookups["limited"] - 100_000 - 1000 * 10 < unlogged <= lookups["limited"] - 100_000, stats
            assert stats["query_log"]["looked_up"] == sum(lookups.values()) - unlogged and stats["query_log"]["lost"] == 0
            assert f"numberd_limited_unlogged_total {unlogged}\n" in server.get("/metrics")


def test_front():
    """Each requester that a front end names has a budget of its own; all of a network share one; loopback has none."""
    with servers.temporary_folder() as folder, \
            servers.Numberd(folder / "data", "--principal-budget", "100/1", "--network-budget", "250/1") as server, \
            Client(server.port) as client:
        def served(requester, ip, count):
            reply = client.ask(lookup_for(requester, ip, [BASE] * count))
            assert reply.code == OK and (LIMITED in reply.body) == (reply.retry_after_ms > 0)
            return count - list(reply.body).count(LIMITED), reply.quota_left
        assert served(1, "192.0.2.1", 80) == (80, 20)
        assert served(1, "192.0.2.2", 80) == (20, 0)
        assert [served(requester, "192.0.2.1", 80)[0] for requester in (2, 3, 4)] == [80, 80, 10]
        assert [served(requester, "2001:db8::1", 100)[0] for requester in (11, 12, 13)] == [100, 100, 50]
        assert served(14, "2001:db8:0:1::1", 100) == (0, 0)  # the same /48
        assert served(14, "2001:db8:1::1", 100) == (100, 0)
        assert served(0, "127.0.0.1", 10000) == (10000, 0xffffffff)
        assert client.ask(numbers(LOOKUP, [BASE] * 1000)).quota_left == 0xffffffff


def test_detection():
    """Who walks through a range is reported and has a tenth; who only reports, only reports; an address book is let be."""
    for policy in ("tighten", "report", "off"):
        with servers.temporary_folder() as folder, \
                servers.Numberd(folder / "data", "--detect", policy) as server, Client(server.port) as client:
            client.register(*((BASE + i, 1, 0) for i in range(0, 30000, 2)))
            book = sorted(BASE + 7919 * i % 10000000 for i in range(20000))
            client.register(*((number, 1, 0) for number in book[::3]))
            for _ in range(2):
                assert LIMITED not in client.ask(lookup_for(5, "0.0.0.0", book)).body
            assert server.stats()["suspicions"] == {"misses": 0, "density": 0, "principals": 0}
            asked = 0
            for start in range(0, 32000, 500):
                reply = client.ask(lookup_for(6, "0.0.0.0", [BASE + start + i for i in range(500)]))
                asked += 500 - list(reply.body).count(LIMITED)
            expected = 0 if policy == "off" else 1
            assert server.stats()["suspicions"]["density"] == expected, server.stats()["suspicions"]
            assert (reply.quota_left < 5000) == (policy == "tighten"), (policy, reply.quota_left)
            assert f'numberd_suspicions_total{{detector="density"}} {expected}' in server.get("/metrics")
            lines = [line for line in server.read_log().splitlines() if "density" in line]
            assert len(lines) == expected and all("requester 6 of principal 0" in line for line in lines), lines
            assert str(BASE)[:8] not in server.read_log()


def test_many_reports():
    """However many are suspected, the log gets ten lines a minute."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server, Client(server.port) as client:
        for requester in range(1, 41):
            client.ask(lookup_for(requester, "0.0.0.0", [BASE + 1000003 * i for i in range(3000)]))
        assert server.stats()["suspicions"]["misses"] == 40
        assert 10 <= server.read_log().count("enumeration is suspected (misses)") <= 20


def status_of(address, path, token=None):
    request = urllib.request.Request(f"http://{address}{path}", headers={"Authorization": f"Bearer {token.decode()}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def test_stats_port():
    """From beyond loopback the stats port wants a token with the role operate, but for the two health checks."""
    with servers.beyond_loopback() as ip, servers.temporary_folder() as folder:
        tokens = folder / "tokens"
        operator, other = add(tokens, 1, "operate"), add(tokens, 2, "lookup,register,front")
        port = servers.free_port()
        with servers.Numberd(folder / "data", "--token-file", tokens, "--insecure", "yes", "--stats-listen", f"0.0.0.0:{port}",
                             wait=False) as server:
            server.wait_for("numberd: ready: ")
            address = f"{ip}:{port}"
            for path in ("/", "/metrics", "/stats.json", "/shards.json"):
                assert [status_of(address, path, token) for token in (None, b"nb1_x", other, operator)] == [401, 401, 403, 200], path
                assert status_of(f"127.0.0.1:{port}", path) == 200
            assert status_of(address, "/healthz") == status_of(address, "/readyz") == 200
            servers.ctl("token", "revoke", tokens, operator[4:16].decode())
            reload(server, "1 tokens")
            assert status_of(address, "/metrics", operator) == 401


def test_networks():
    """Who comes from beyond loopback without a token pays as a network."""
    with servers.beyond_loopback() as ip, servers.temporary_folder() as folder:
        port = servers.free_port()
        with servers.Numberd(folder / "data", "--insecure", "yes", "--listen", f"0.0.0.0:{port}", "--network-budget", "300/1",
                             wait=False) as server:
            server.wait_for("numberd: ready: ")
            with Client(port, host=ip) as client, Client(port) as local:
                assert client.lookup([BASE] * 400).count(LIMITED) == 100
                assert LIMITED not in local.lookup([BASE] * 400)


def test_patience():
    """Who owes a hello, the rest of a frame, or the reading of replies, is closed; who owes nothing is not."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data", "--patience-seconds", "1") as server, \
            Client(server.port) as idle, Client(server.port, greet=False) as silent, Client(server.port) as slow, \
            Client(server.port, greet=False) as dripping, Client(server.port) as deaf:
        started = time.monotonic()
        slow.send(numbers(LOOKUP, [BASE] * 100)[:-1])
        deaf.socket.settimeout(1)
        try:
            deaf.send(numbers(LOOKUP_RECORDS, [BASE] * 1000) * 3000)
        except (TimeoutError, ConnectionError):
            pass
        for byte in hello()[:12]:
            try:
                dripping.send(bytes([byte]))
            except ConnectionError:
                break
            time.sleep(0.2)
        for client in (silent, slow, dripping):
            assert client.is_closed()
        assert 1 <= time.monotonic() - started < 10
        servers.wait_until(lambda: server.stats()["connections_slow"] == 4, "the four are closed")
        assert idle.ask(frame(PING)).code == OK
        # One that gets on, though not quickly, is let be.
        with Client(server.port) as client:
            for _ in range(10):
                data = numbers(LOOKUP, [BASE] * 10)
                client.send(data[:20])
                time.sleep(0.3)
                assert client.ask(data[20:]).code == OK
        assert server.stats()["connections_slow"] == 4


if __name__ == "__main__":
    servers.run_tests(globals())
