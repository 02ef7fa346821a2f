"""TLS: who is believed, what a client's certificate stands for, resumption, reload, and the same answers as without."""
import json
import os
import signal
import socket
import ssl
import subprocess
import urllib.request

import servers
from certificates import Authority, fingerprint_text, run
from client import *  # noqa: F403 -- the protocol's names

BASE = 4915112000000


class Tls(servers.Numberd):
    """A numberd with a TLS port and a certificate of `authority`."""

    def __init__(self, folder, authority, *flags, **options):
        self.certificate, self.key = authority.sign("server")
        super().__init__(folder / "data", "--tls-listen", "127.0.0.1:0", "--tls-certificate", self.certificate, "--tls-key",
                         self.key, *flags, **options)

    @property
    def tls_address(self):
        return f"127.0.0.1:{self.tls_port}"


def reload(server, words):
    before = server.read_log().count("SIGHUP")
    os.kill(server.process.pid, signal.SIGHUP)
    servers.wait_until(lambda: server.read_log().count("SIGHUP") > before, "SIGHUP is answered")
    servers.wait_until(lambda: words in server.read_log(), words)


def add(tokens, principal, roles, *arguments):
    return servers.ctl("token", "add", tokens, "--principal", principal, "--roles", roles, *arguments).strip().encode()


def test_answers():
    """Under TLS all is as without: single lookups, the largest batches, many at once, a byte at a time."""
    with servers.temporary_folder() as folder:
        authority = Authority(folder)
        with Tls(folder, authority) as server, Client(server.port) as plain, \
                Client(server.tls_port, tls=authority.context()) as client:
            assert client.socket.version() == "TLSv1.3"
            assert client.register(*((BASE + i, i, 0) for i in range(0, 60000, 2))) == [ADDED] * 30000
            for kind in (LOOKUP, LOOKUP_RECORDS):
                data = numbers(kind, [BASE + i for i in range(65535)])
                assert client.ask(data).body == plain.ask(data).body
            # Far more than one turn's reading in one piece, all of whose answers wait to be read.
            data = numbers(LOOKUP, [BASE + i for i in range(1000)]) * 300
            client.socket.settimeout(60)
            client.send(data)
            expected = plain.ask(numbers(LOOKUP, [BASE + i for i in range(1000)])).body
            for _ in range(300):
                assert client.receive().body == expected
            for byte in numbers(LOOKUP, [BASE, BASE + 1]):
                client.send(bytes([byte]))
            assert list(client.receive().body) == [REGISTERED, NOT_REGISTERED]
            shared = ("--server", server.tls_address, "--tls-ca", authority.certificate)
            assert "not registered" in servers.ctl("lookup", *shared, f"+{BASE + 1}")
            assert json.loads(servers.ctl("stats", "--json", *shared))["updates"]["added"] == 30000
            result = subprocess.run([servers.BIN / "numberload", "run", *map(str, shared), "--numbers", "200000", "--batch", "1000",
                                     "--hit-ratio", "0", "--json"], capture_output=True, text=True, timeout=120, check=True)
            assert json.loads(result.stdout)["wrong"] == 0


def test_who_is_believed():
    """A client does not speak with a server that its authority has not signed, or that is for another name; nor does the server
    speak anything but TLS 1.3 there."""
    with servers.temporary_folder() as folder:
        authority, other = Authority(folder), Authority(folder, "other")
        with Tls(folder, authority) as server:
            for arguments, words in (((), "certificate"), (("--tls-ca", other.certificate), "certificate"),
                                     (("--tls-ca", authority.certificate, "--tls-name", "elsewhere.example"), "mismatch")):
                line = servers.ctl("ping", "--server", server.tls_address, "--tls", *arguments, status=69)
                assert words in line and line.count("\n") == 1, line
            servers.ctl("ping", "--server", server.tls_address, "--tls-ca", authority.certificate, "--tls-name", "localhost")
            line = servers.ctl("ping", "--server", server.tls_address, "--tls-ca", folder / "none", status=78)
            assert "cannot use the authority" in line
            old = authority.context()
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            try:
                Client(server.tls_port, tls=old)
                raise AssertionError("TLS 1.2 was spoken")
            except (ssl.SSLError, ConnectionError):
                pass
            with Client(server.tls_port, greet=False) as client:  # one that forgot TLS
                client.send(hello())
                assert client.receive_all()[:1] in (b"", b"\x15")  # an alert at most
            servers.ctl("ping", "--server", server.address, "--tls", status=69)  # and one that has it where there is none
            with Client(server.tls_port, tls=authority.context()) as client:
                client.lookup([BASE])


def test_certificates_as_tokens():
    """A listed certificate stands for a token, also renewed for the same key; nobody else's does; its text is no token."""
    with servers.temporary_folder() as folder:
        authority, other = Authority(folder), Authority(folder, "other")
        tokens = folder / "tokens"
        listed, unlisted, foreign = authority.sign("listed"), authority.sign("unlisted"), other.sign("foreign")
        token = add(tokens, 6, "operate")
        entry = json.loads(add(tokens, 7, "lookup", "--certificate", listed[0], "--json"))
        assert entry["principal"] == 7 and "token" not in entry
        assert "is in" in servers.ctl("token", "add", tokens, "--principal", 8, "--roles", "lookup", "--certificate", listed[0],
                                            status=65)
        renewed = authority.sign("renewed", key=listed[1])
        foreign_same_key = other.sign("foreign-same-key", key=listed[1])
        with Tls(folder, authority, "--token-file", tokens, "--tls-client-ca", authority.certificate) as server:
            def client(shown, **options):
                return Client(server.tls_port, tls=authority.context(shown), **options)
            for shown in (listed, renewed):
                with client(shown) as one:
                    one.lookup([BASE])
                    assert one.ask(frame(STATS)).code == FORBIDDEN
            with client(listed, token=token) as one:  # a token that is shown goes before it
                assert one.ask(frame(STATS)).code == OK and one.ask(numbers(LOOKUP, [BASE])).code == FORBIDDEN
            for shown in (None, unlisted):
                with client(shown, greet=False) as one:
                    assert one.ask(hello()).code == UNAUTHORIZED and one.is_closed()
            for shown in (foreign, foreign_same_key):
                try:
                    with client(shown, greet=False) as one:
                        one.ask(hello())
                    raise AssertionError("another authority's certificate was taken")
                except (ssl.SSLError, ConnectionError, EOFError):
                    pass
            text = fingerprint_text(listed[0], entry["id"])
            for port, tls in ((server.port, None), (server.tls_port, authority.context())):
                with Client(port, greet=False, tls=tls) as one:
                    assert one.ask(hello(text)).code == UNAUTHORIZED
            servers.ctl("ping", "--server", server.tls_address, "--tls-ca", authority.certificate, "--tls-certificate", renewed[0],
                        "--tls-key", renewed[1])
            with client(listed) as one:
                servers.ctl("token", "revoke", tokens, entry["id"])
                reload(server, "1 tokens were read again")
                assert one.ask(numbers(LOOKUP, [BASE])).code == UNAUTHORIZED and one.is_closed()
        rows = servers.disclose(server.data_dir, "--requester", 7).splitlines()
        assert len(rows) == 3, rows


def test_resumption():
    """A session is resumed, and with it the certificate; after a reload it is not, and all is shown again."""
    with servers.temporary_folder() as folder:
        authority = Authority(folder)
        tokens = folder / "tokens"
        shown = authority.sign("shown")
        add(tokens, 7, "lookup", "--certificate", shown[0])
        with Tls(folder, authority, "--token-file", tokens, "--tls-client-ca", authority.certificate) as server:
            context = authority.context(shown)
            with Client(server.tls_port, tls=context) as first:
                first.lookup([BASE])
                assert not first.socket.session_reused
                session = first.socket.session
            with Client(server.tls_port, tls=context, session=session) as second:
                assert second.socket.session_reused
                second.lookup([BASE])
                later = second.socket.session
            reload(server, "1 tokens were read again")
            with Client(server.tls_port, tls=context, session=later) as third:
                assert not third.socket.session_reused
                third.lookup([BASE])


def test_reload():
    """At SIGHUP a new certificate counts for new connections; those that are open go on; a broken one changes nothing."""
    with servers.temporary_folder() as folder:
        authority, other = Authority(folder), Authority(folder, "other")
        with Tls(folder, authority) as server, Client(server.tls_port, tls=authority.context()) as old:
            ends_at = server.stats()["certificate_ends_at"]
            server.certificate.write_text("nonsense\n")
            reload(server, "the certificate stays as it was: cannot use the certificate")
            with Client(server.tls_port, tls=authority.context()) as client:
                client.lookup([BASE])
            certificate, key = other.sign("server-new", days=30)
            server.certificate.write_bytes(certificate.read_bytes())
            reload(server, "cannot use the private key")
            server.key.write_bytes(key.read_bytes())
            reload(server, "the certificate was read again")
            try:
                Client(server.tls_port, tls=authority.context())
                raise AssertionError("the old certificate was shown")
            except ssl.SSLError:
                pass
            with Client(server.tls_port, tls=other.context()) as client:
                client.lookup([BASE])
            old.lookup([BASE])
            assert server.stats()["certificate_ends_at"] > ends_at + 20 * 86400
            assert "numberd_certificate_end_timestamp_seconds" in server.get("/metrics")


def test_stats_port():
    """With --stats-tls the stats port speaks HTTPS, and nothing else."""
    with servers.temporary_folder() as folder:
        authority = Authority(folder)
        with Tls(folder, authority, "--stats-tls", "yes", wait=False) as server:
            server.wait_for("numberd: ready: ")
            context = authority.context()
            for path in ("/stats.json", "/metrics", "/healthz"):
                with urllib.request.urlopen(f"https://127.0.0.1:{server.stats_port}{path}", timeout=10, context=context) as reply:
                    assert reply.status == 200 and reply.read()
            with socket.create_connection(("127.0.0.1", server.stats_port), 10) as plain:
                plain.sendall(b"GET /stats.json HTTP/1.0\r\n\r\n")
                assert b"200" not in plain.recv(1000)


def test_ends():
    """However a client ends its side, with or without TLS's own word, in whatever packets, it gets all replies and the close."""
    with servers.temporary_folder() as folder:
        authority = Authority(folder)
        with Tls(folder, authority) as server:
            for notify in (True, False):
                for count in (1, 3000):
                    with socket.create_connection(("127.0.0.1", server.tls_port), 30) as connection:
                        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                        tls = authority.context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")

                        def until(action):
                            while True:
                                try:
                                    return action()
                                except ssl.SSLWantReadError:
                                    connection.sendall(outgoing.read())
                                    incoming.write(connection.recv(65536))
                        until(tls.do_handshake)
                        tls.write(hello() + numbers(LOOKUP, [BASE]) * count)
                        if notify:
                            try:
                                tls.unwrap()
                            except ssl.SSLWantReadError:
                                pass
                        connection.sendall(outgoing.read())  # all in one piece
                        if not notify:
                            connection.shutdown(socket.SHUT_WR)
                        received = b""
                        while piece := connection.recv(65536):
                            incoming.write(piece)
                            received += piece
                        replies = b""
                        try:
                            while piece := tls.read(65536):
                                replies += piece
                        except ssl.SSLError:
                            pass  # Python does not read behind its own last word
                        # Statuses of one number, and the hello's reply; under TLS somewhat more.
                        assert len(received) > 25 * count + 40 and (notify or len(replies) == 25 * count + 40), (notify, count)
            servers.wait_until(lambda: server.stats()["connections_open"] == 0, "all are closed", seconds=10)


def test_no_waiting_for_files():
    """A key under a password, or a pipe in place of a file, is refused at once, at the start and at SIGHUP."""
    with servers.temporary_folder() as folder:
        authority = Authority(folder)
        certificate, key = authority.sign("server")
        locked, pipe = folder / "locked.key", folder / "pipe"
        run("pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked)
        os.mkfifo(pipe)
        tokens = folder / "tokens"
        add(tokens, 1, "lookup")
        flags = ("--token-file", tokens, "--tls-listen", "127.0.0.1:0", "--tls-certificate")
        assert "cannot use the private key" in servers.numberd_error(folder / "data", *flags, certificate, "--tls-key", locked, status=78)
        for files in ((pipe, "--tls-key", key), (certificate, "--tls-key", pipe), (certificate, "--tls-key", key, "--tls-client-ca", pipe)):
            assert "no regular file" in servers.numberd_error(folder / "data", *flags, *files, status=78)
        with Tls(folder, authority) as server:
            server.key.write_bytes(locked.read_bytes())
            reload(server, "the certificate stays as it was: cannot use the private key")
            server.key.unlink()
            os.mkfifo(server.key)
            reload(server, "no regular file")
            with Client(server.tls_port, tls=authority.context()) as client:
                client.lookup([BASE])


def test_warnings():
    """What will keep everybody out is said at the start and at SIGHUP."""
    with servers.temporary_folder() as folder:
        authority = Authority(folder)
        certificate, key = authority.sign("server", days=-1)
        tokens = folder / "tokens"
        tokens.write_text("# none yet\n")
        tokens.chmod(0o600)
        with servers.Numberd(folder / "data", "--tls-listen", "127.0.0.1:0", "--tls-certificate", certificate, "--tls-key", key,
                             "--token-file", tokens) as server:
            log = server.read_log()
            assert "the certificate has expired" in log and "nobody gets in" in log, log
            server.process.send_signal(signal.SIGHUP)
            servers.wait_until(lambda: server.read_log().count("nobody gets in") == 2 == server.read_log().count("has expired"), "SIGHUP")
        line = servers.ctl("ping", "--server", "127.0.0.1:1", "--tls-key", key, status=78)
        assert "--tls-key wants --tls-certificate" in line


def test_patience():
    """Who does not get on with the handshake is closed like others who owe their hello."""
    with servers.temporary_folder() as folder:
        authority = Authority(folder)
        with Tls(folder, authority, "--patience-seconds", "1") as server:
            with Client(server.tls_port, greet=False) as silent, Client(server.tls_port, greet=False) as dripping, \
                    Client(server.tls_port, greet=False, tls=authority.context()) as mute, \
                    Client(server.tls_port, tls=authority.context()) as idle:
                dripping.send(b"\x16\x03\x01\x02\x00\x01")
                for client in (silent, dripping, mute):
                    client.receive_all()
                idle.lookup([BASE])
            assert server.stats()["connections_slow"] == 3


def test_flags():
    """What does not fit together is said in one line."""
    with servers.temporary_folder() as folder:
        authority = Authority(folder)
        certificate, key = authority.sign("server")
        tokens = folder / "tokens"
        add(tokens, 1, "lookup")
        for flags, words in (
                (("--tls-listen", "127.0.0.1:0"), "without --tls-certificate"),
                (("--stats-tls", "yes"), "without --tls-certificate"),
                (("--tls-certificate", certificate, "--tls-key", key), "no port uses it"),
                (("--tls-key", key), "want a --tls-certificate"),
                (("--tls-listen", "127.0.0.1:0", "--tls-certificate", certificate), "cannot use the private key"),
                (("--tls-listen", "127.0.0.1:0", "--tls-certificate", folder / "none"), "No such file"),
                (("--tls-listen", "127.0.0.1:0", "--tls-certificate", certificate, "--tls-key", key, "--tls-client-ca", key,
                  "--token-file", tokens), "cannot use the authority"),
                (("--tls-listen", "127.0.0.1:0", "--tls-certificate", certificate, "--tls-key", key, "--tls-client-ca", certificate),
                 "want a --token-file"),
                (("--tls-listen", "127.0.0.1", "--tls-certificate", certificate, "--tls-key", key), "--tls-listen: which port?"),
                (("--operators-from", "127.0.0.1"), "want a --token-file"),
                (("--listen", "127.0.0.1:70000"), "--listen: not an address"),
                (("--listen", "nowhere.invalid:1"), "--listen: cannot resolve"),
                (("--buffer-bytes-max", "100M", "--threads", "8"), "less than 16M for each of 8 threads"),
                (("--tls-listen", "0.0.0.0:0", "--tls-certificate", certificate, "--tls-key", key), "name a --token-file"),
                (("--listen", "0.0.0.0:0"), "use --tls-listen instead")):
            line = servers.numberd_error(folder / "data", *flags, status=78)
            assert words in line, (flags, line)
        with servers.Numberd(folder / "data", "--tls-listen", "0.0.0.0:0", "--tls-certificate", certificate, "--tls-key", key,
                             "--token-file", tokens) as server:
            assert "lookups under TLS on 0.0.0.0:" in server.read_log()


if __name__ == "__main__":
    servers.run_tests(globals())
