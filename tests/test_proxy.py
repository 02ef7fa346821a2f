"""Connections through a proxy: the PROXY protocol's header, who may send one, whose address counts, and HAProxy itself."""
import ipaddress
import json
import struct
import subprocess
import time

import servers
from certificates import Authority
from client import *  # noqa: F403 -- the protocol's names

BASE = 4915112000000
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def header(source, command=1, extensions=b""):
    """A header of version 2 for a client at that address; None: of no family."""
    if source is None:
        family, addresses = 0, b""
    else:
        address = ipaddress.ip_address(source)
        family = 0x11 if address.version == 4 else 0x21
        addresses = address.packed + (b"\xc0\0\2\1" if address.version == 4 else bytes(16)) + struct.pack(">HH", 4000, 4164)
    rest = addresses + extensions
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack(">H", len(rest)) + rest


def behind(folder, *flags, **options):
    return servers.Numberd(folder / "data", "--proxy-listen", "127.0.0.1:0", "--proxy-from", "127.0.0.1,192.0.2.0/24", *flags,
                           **options)


def rows(server, *selector):
    return [line.split(",") for line in servers.disclose(server.data_dir, *selector).splitlines()[1:]]


def test_addresses():
    """The claimed address and the proxy's are both in the log; what a proxy asks for itself has its own alone."""
    with servers.temporary_folder() as folder:
        with behind(folder) as server:
            for source in ("198.51.100.7", "2001:db8::7"):
                with Client(server.proxy_port, first=header(source)) as client:
                    client.lookup([BASE])
                    client.lookup([BASE + i for i in range(5000)])  # more than one block
            # Extensions (here: an authority, a checksum) are skipped.
            with Client(server.proxy_port, first=header("198.51.100.8", extensions=b"\x02\0\x03abc\x03\0\x04\0\0\0\0")) as client:
                client.lookup([BASE])
            for first in (header(None), header("198.51.100.9", command=0)):
                with Client(server.proxy_port, first=first) as client:
                    client.lookup([BASE])
            with Client(server.port) as client:
                client.lookup([BASE])
        found = [(row[4], row[5]) for row in rows(server, "--number", f"+{BASE}")]
        assert sorted(found) == sorted([("198.51.100.7", "127.0.0.1")] * 2 + [("2001:db8::7", "127.0.0.1")] * 2 +
                                       [("198.51.100.8", "127.0.0.1")] + [("127.0.0.1", "")] * 3), found
        assert len(rows(server, "--ip", "198.51.100.7")) == 5001
        order = (*servers.ORDER, "--from", "2026-01-01", "--until", "2037-01-01", "--ip", "198.51.100.8", "--key",
                 server.data_dir / "officer.private", "--data-dir", server.data_dir)
        made = json.loads(servers.ctl("hold", *order, "--json"))
        held = rows(server, "--ip", "198.51.100.8", "--hold", server.data_dir / "querylog" / made["hold"])
        assert [row[4:6] for row in held] == [["198.51.100.8", "127.0.0.1"]], held


def test_any_split():
    """The header comes in whatever pieces; behind it the first frame may lie in the same one."""
    with servers.temporary_folder() as folder, behind(folder) as server:
        data = header("198.51.100.7", extensions=b"\x04\0\x10" + bytes(16)) + hello() + numbers(LOOKUP, [BASE])
        for cut in (*range(1, len(header("198.51.100.7")) + 30), None):
            with Client(server.proxy_port, greet=False) as client:
                for piece in ([data[:cut], data[cut:]] if cut else [bytes([byte]) for byte in data]):
                    client.send(piece)
                    time.sleep(0.002)
                assert client.receive().code == OK and list(client.receive().body) == [NOT_REGISTERED], cut
        assert server.stats()["frames_malformed"] == 0


def test_refusals():
    """Without a header, with a broken one, or from somewhere else: closed, without a byte of an answer."""
    good = header("198.51.100.7")
    broken = (hello() + numbers(LOOKUP, [BASE]), b"PROXY TCP4 198.51.100.7 192.0.2.1 4000 4164\r\n" + hello(),
              good[:12] + b"\x11" + good[13:] + hello(), good[:12] + b"\x22" + good[13:] + hello(),
              good[:13] + b"\x12" + good[14:] + hello(), good[:13] + b"\x31" + good[14:] + hello(),
              good[:14] + b"\0\x04" + good[16:20] + hello(), good[:14] + b"\xff\xff" + bytes(70000))
    with servers.temporary_folder() as folder, behind(folder, "--patience-seconds", "1") as server:
        for first in broken:
            with Client(server.proxy_port, greet=False) as client:
                try:
                    client.send(first)
                except ConnectionError:
                    pass
                assert client.receive_all() == b"", first
        assert server.stats()["frames_malformed"] == len(broken)
        with Client(server.proxy_port, greet=False, first=good[:20]) as client:  # the rest never comes
            assert client.receive_all() == b""
        assert server.stats()["connections_slow"] == 1
        with Client(server.proxy_port, greet=False, source="127.0.0.2", first=good + hello()) as client:
            assert client.receive_all() == b""
        with Client(server.port, greet=False, first=good) as client:  # where no header belongs, it is a broken frame
            assert client.receive().code == BAD_FRAME


def test_whose_budget():
    """The client's network pays, and the client's address has its share of connections, not the proxy's."""
    with servers.temporary_folder() as folder, \
            behind(folder, "--network-budget", "100/1", "--connections-per-address", "3", "--connects-per-second", "0") as server:
        def client(source, **options):
            return Client(server.proxy_port, first=header(source), **options)
        with client("198.51.100.7") as one, client("198.51.100.7") as two, client("198.51.100.8") as three:
            assert one.lookup([BASE] * 90).count(LIMITED) == 0
            assert two.lookup([BASE] * 90).count(LIMITED) == 80
            assert three.lookup([BASE] * 90).count(LIMITED) == 0
            with client("198.51.100.7"), client("198.51.100.7", greet=False) as fourth, client("198.51.100.9") as other:
                assert fourth.receive_all() == b""
                other.lookup([BASE])
            assert server.stats()["connections_refused"] == {"full": 0, "crowded_address": 1, "hasty_address": 0}


def test_under_tls():
    """With --proxy-tls the client's TLS begins behind the header."""
    with servers.temporary_folder() as folder:
        authority = Authority(folder)
        certificate, key = authority.sign("server")
        with behind(folder, "--proxy-tls", "yes", "--tls-certificate", certificate, "--tls-key", key) as server:
            with Client(server.proxy_port, first=header("198.51.100.7"), tls=authority.context()) as client:
                client.lookup([BASE])
            try:
                with Client(server.proxy_port, first=header("198.51.100.7")) as client:
                    raise AssertionError("plain frames were taken")
            except (EOFError, ConnectionError, struct.error):
                pass
        assert [(row[4], row[5]) for row in rows(server, "--number", f"+{BASE}")] == [("198.51.100.7", "127.0.0.1")]


CONFIGURATION = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend plain
    bind 127.0.0.1:{plain}
    default_backend numberd
frontend encrypted
    bind 127.0.0.1:{encrypted} ssl crt {bundle}
    default_backend numberd
backend numberd
    option tcp-check
    server one 127.0.0.1:{server} send-proxy-v2 check check-send-proxy inter 200ms
"""


def test_haproxy():
    """HAProxy in front, which ends TLS: lookups pass, with the client's address; its checks are no malformed frames."""
    with servers.temporary_folder() as folder:
        authority = Authority(folder)
        certificate, key = authority.sign("front")
        bundle = folder / "bundle.pem"
        bundle.write_bytes(certificate.read_bytes() + key.read_bytes())
        with behind(folder) as server:
            plain, encrypted = servers.free_port(), servers.free_port()
            configuration = folder / "haproxy.cfg"
            configuration.write_text(CONFIGURATION.format(plain=plain, encrypted=encrypted, server=server.proxy_port, bundle=bundle))
            haproxy = subprocess.Popen(["haproxy", "-db", "-f", configuration], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                servers.wait_until(lambda: haproxy.poll() is not None or servers.can_connect(plain), "haproxy listens")
                with Client(plain, source="127.0.0.5") as client:
                    client.lookup([BASE + 1])
                with Client(encrypted, source="127.0.0.6", tls=authority.context()) as client:
                    client.lookup([BASE + 1])
                address = f"127.0.0.1:{plain}"
                report = json.loads(subprocess.run(
                    [servers.BIN / "numberload", "run", "--server", address, "--numbers", "200000", "--batch", "100", "--hit-ratio",
                     "0", "--json"], capture_output=True, text=True, timeout=120, check=True).stdout)
                assert report["wrong"] == 0
                time.sleep(0.6)  # some checks
                assert server.stats()["frames_malformed"] == 0
            finally:
                haproxy.terminate()
                haproxy.wait(30)
                haproxy.stderr.close()
        found = sorted((row[4], row[5]) for row in rows(server, "--number", f"+{BASE + 1}"))
        assert found == [("127.0.0.5", "127.0.0.1"), ("127.0.0.6", "127.0.0.1")], found


def test_flags():
    """What does not fit together is said in one line."""
    with servers.temporary_folder() as folder:
        for flags, words in (
                (("--proxy-listen", "127.0.0.1:0"), "wants --proxy-from"),
                (("--proxy-from", "127.0.0.1"), "want a --proxy-listen"),
                (("--proxy-tls", "yes"), "TLS is asked for"),
                (("--proxy-listen", "127.0.0.1:0", "--proxy-from", "127.0.0.1,,::1"), "network 2 is none"),
                (("--proxy-listen", "127.0.0.1:0", "--proxy-from", "10.0.0.0/33"), "network 1 is none"),
                (("--proxy-listen", "127.0.0.1:0", "--proxy-from", "localhost"), "network 1 is none"),
                (("--proxy-listen", "0.0.0.0:0", "--proxy-from", "10.0.0.0/8"), "say --proxy-tls yes")):
            line = servers.numberd_error(folder / "data", *flags, status=78)
            assert words in line, (flags, line)


if __name__ == "__main__":
    servers.run_tests(globals())
