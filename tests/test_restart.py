"""A restart that nobody notices: SIGUSR2 starts a successor, which takes over (server/succession.h)."""
import contextlib
import os
import signal

import restart
import servers
from certificates import Authority
from client import *  # noqa: F403 -- the protocol's names
from test_persistence import strace
from test_systemd import Manager, environment

BASE = 4915112000000


def test_under_load():
    """No request fails, and nothing that was acknowledged is gone."""
    load, took = restart.restart(int(os.environ.get("NUMBERD_RESTARTS", 20)), 20000)
    assert not load.failures, load.failures[:5]
    assert load.goodbyes >= len(took) and load.registered > 0, (load.goodbyes, load.registered)


def test_ports():
    """The successor has the ports that there were, though the configuration names none in particular; and its own tokens."""
    with servers.temporary_folder() as folder:
        authority, tokens = Authority(folder), folder / "tokens"
        certificate, key = authority.sign("server")
        token = servers.ctl("token", "add", tokens, "--principal", "7", "--roles", "lookup,register").strip().encode()
        flags = ("--token-file", tokens, "--tls-listen", "127.0.0.1:0", "--tls-certificate", certificate, "--tls-key", key,
                 "--proxy-listen", "127.0.0.1:0", "--proxy-from", "127.0.0.1")
        with restart.Service(folder / "data", *flags) as service:
            before = (service.port, service.tls_port, service.proxy_port, service.stats_port)
            with Client(service.port, token=token) as one:
                assert one.register((BASE, 1, 0)) == [ADDED]
            other = servers.ctl("token", "add", tokens, "--principal", "8", "--roles", "lookup").strip().encode()
            service.succeed()
            assert service.read_log().count(f"lookups under TLS on 127.0.0.1:{before[1]}\n") == 2
            header = b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n"  # version 1, which is refused: the port is the proxies' still
            with Client(service.proxy_port, greet=False, first=header) as one:
                assert one.is_closed()
            for port, tls in ((before[0], None), (before[1], authority.context())):
                with Client(port, token=other, tls=tls) as one:
                    assert one.lookup([BASE, BASE + 1]) == [REGISTERED, NOT_REGISTERED]
            assert service.stats()["directory"]["registered"] == 1


def test_certificates_and_resumption():
    """Clients under TLS come back, too."""
    with servers.temporary_folder() as folder:
        authority = Authority(folder)
        certificate, key = authority.sign("server")
        with restart.Service(folder / "data", "--tls-listen", "127.0.0.1:0", "--tls-certificate", certificate, "--tls-key", key) as service:
            context = authority.context()
            with Client(service.tls_port, tls=context) as one:
                session = one.socket.session
                service.begin_succession()
                reply = one.receive()
                assert (reply.code, reply.request_id) == (GOING_AWAY, 0)
                assert one.is_closed()
            service.wait_for_end(service.pid)
            service.pid = service.successors()[-1]
            with Client(service.tls_port, tls=context, session=session) as one:
                assert one.lookup([BASE]) == [NOT_REGISTERED]


def test_a_successor_that_cannot_start():
    """Then the old one goes on, and says so; and the next one may succeed."""
    with servers.temporary_folder() as folder:
        config = folder / "numberd.conf"
        config.write_text("cache-seconds = 60\n")
        with restart.Service(folder / "data", "--config", config) as service:
            with Client(service.port) as one:
                assert one.register((BASE, 1, 0)) == [ADDED]
                config.write_text("cache-seconds = never\n")
                pid = service.begin_succession()
                service.wait_for("the successor has ended before it was ready")
                assert "cache-seconds" in service.read_log()
                servers.wait_until(lambda: restart.has_ended(pid), "its end")
                assert one.lookup([BASE]) == [REGISTERED]  # on the same connection
                assert one.register((BASE + 1, 1, 0)) == [ADDED]
            config.write_text("cache-seconds = 30\n")
            service.succeed()
            with Client(service.port) as one:
                reply = one.ask(numbers(LOOKUP, [BASE, BASE + 1]))
                assert (list(reply.body), reply.cache_seconds) == ([REGISTERED, REGISTERED], 30)


def test_a_late_introduction():
    """A successor that is faster than what introduces it to the old one does not speak before it."""
    with servers.temporary_folder() as folder, restart.Service(folder / "data", wrapper=strace("pidfd_open:delay_enter=500000")) as service:
        service.succeed()
        with Client(service.port) as one:
            assert one.lookup([BASE]) == [NOT_REGISTERED]


def test_a_held_snapshot():
    """A snapshot that was asked for before is written first; the successor takes the next ones."""
    with servers.temporary_folder() as folder:
        restart.generate(folder / "data", 300_000)
        with restart.Service(folder / "data") as service:
            with Client(service.port) as one:
                one.register((restart.FIRST_NEW, 1, 0))
                number = int.from_bytes(one.ask(frame(SNAPSHOT)).body, "little")
                service.succeed()
            assert number == 1
            with Client(service.port) as one:
                assert one.lookup([restart.FIRST_NEW]) == [REGISTERED]
            assert service.stats()["snapshot"]["position"] == 1, service.stats()["snapshot"]  # it was loaded from there
            service.ctl("snapshot")


def test_a_successor_that_ends_while_it_waits():
    """For a snapshot that is under way: then the old one goes on, too."""
    with servers.temporary_folder() as folder:
        restart.generate(folder / "data", 1_000_000)
        with restart.Service(folder / "data") as service, Client(service.port) as one:
            one.register((restart.FIRST_NEW, 1, 0))
            one.ask(frame(SNAPSHOT))
            pid = service.begin_succession()
            servers.wait_until(lambda: "is finished first" in service.read_log() or "handed over" in service.read_log(), "the successor waits",
                               pause=0.001)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            servers.wait_until(lambda: "this process goes on" in service.read_log() or "handed over" in service.read_log(), "an end of it")
            if "handed over" in service.read_log():  # the snapshot was faster
                raise servers.Skipped("the hand-over had begun")
            assert one.lookup([restart.FIRST_NEW]) == [REGISTERED]


def test_a_stop_meanwhile():
    """SIGTERM while a successor loads ends both."""
    with servers.temporary_folder() as folder:
        restart.generate(folder / "data", 300_000)
        with restart.Service(folder / "data") as service:
            pid = service.begin_succession()
            os.kill(service.pid, signal.SIGTERM)
            service.process.wait(servers.PATIENCE)
            if "handed over" in service.read_log():  # it was faster
                service.pid = pid
                return
            servers.wait_until(lambda: restart.has_ended(pid), "the successor's end")
            assert "stopped; the registrations are saved" in service.read_log()


def test_one_at_a_time():
    """A second signal while a successor is on its way changes nothing. (With a journal that has failed: test_persistence.py.)"""
    with servers.temporary_folder() as folder:
        restart.generate(folder / "data", 300_000)
        with restart.Service(folder / "data") as service:
            pid = service.begin_succession()
            os.kill(service.pid, signal.SIGUSR2)
            servers.wait_until(lambda: service.count_ready() == 2, "the successor")
            service.wait_for_end(service.pid)
            service.pid = pid
            assert service.read_log().count("handed over") == 1


def test_systemd():
    """The service manager learns who its service is now; the watchdog is the successor's, too."""
    with servers.temporary_folder() as folder:
        manager = Manager(folder)
        with environment(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="600000"):
            with restart.Service(folder / "data") as service:
                manager.wait("READY=1")
                service.succeed()
                manager.wait(f"MAINPID={service.pid}")
                manager.wait("READY=1", 2)
                assert "STOPPING=1" not in manager.seen, manager.seen
                beats = manager.seen.count("WATCHDOG=1")
                manager.wait("WATCHDOG=1", beats + 3)
            manager.wait("STOPPING=1")


if __name__ == "__main__":
    servers.run_tests(globals())
