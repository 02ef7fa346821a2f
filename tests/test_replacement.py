"""numberctl import --replace-all on a directory whose server runs: lookups and registrations go on, and all is replaced or nothing."""
import threading
import time

import servers
from client import *  # noqa: F403 -- the protocol's names
from test_import import refused, report, rows, text
from test_persistence import BASE, DAMAGED, fails


def keep_looking(server, numbers, ended, faults):
    """Looks the numbers up until the end; each must be registered each time."""
    with Client(server.port) as client:
        while not ended.is_set():
            answers = client.lookup(numbers)
            if answers != [REGISTERED] * len(numbers):
                faults.append(f"{answers.count(NOT_REGISTERED)} numbers were not registered")


def keep_registering(server, first, ended, done):
    """Registers one number after the other until the end; what is refused is repeated, as the protocol says."""
    with Client(server.port) as client:
        while not ended.is_set():
            reply = client.ask(registrations([(first + len(done), len(done), 0)]))
            assert reply.code == OK, reply.code
            if reply.body[0] == REFUSED:
                assert reply.retry_after_ms > 0
                time.sleep(reply.retry_after_ms / 1000)
                continue
            assert reply.body[0] == ADDED
            done.append(first + len(done))


def test_replace_all_of_a_running_server():
    """--replace-all on a server that runs: at once for each lookup, what others register meanwhile stays, and after a SIGKILL too."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data, "--threads", "2") as server:
            server.ctl("import", "-", text=text(rows(0, 20000)).decode())
            ended, faults, done = threading.Event(), [], []
            stable = list(range(BASE + 1000, BASE + 3000))
            threads = [threading.Thread(target=keep_looking, args=(server, stable, ended, faults)),
                       threading.Thread(target=keep_registering, args=(server, BASE + 10**6, ended, done))]
            for thread in threads:
                thread.start()
            try:
                for round_ in range(4):
                    added = 100 * (round_ + 1)
                    figures = report("--data-dir", data, "--server", server.address, "--replace-all", "--force", "-",
                                     stdin=text(rows(0, 20000 + added, account=round_) + rows(50000 + round_, 1)))
                    assert figures["replaced"] == 20000 + (added - 100 if round_ else 0) - (20000 if round_ == 0 else 0), figures
                    time.sleep(0.1)
            finally:
                ended.set()
                for thread in threads:
                    thread.join(servers.PATIENCE)
            assert not faults and len(done) > 10, (faults[:3], len(done))
            server.kill()
        with servers.Numberd(data) as server, Client(server.port) as client:
            assert client.lookup([BASE + 50000, BASE + 50001, BASE + 50002, BASE + 50003]) == [0, 0, 0, REGISTERED]
            assert client.records([BASE, BASE + 20399]) == [(3, 0), (20402, 0)]
            # The last replacement was compared with a state of its own, so what came after that is there.
            last = done[-5:]
            assert client.lookup(last) == [REGISTERED] * 5
            server.kill()
        newest = max((data / "snapshots").glob("*.snapshot"))
        newest.write_bytes(newest.read_bytes()[:-1])
        fails(data, DAMAGED, "backup")


def test_replacement_refused():
    """--dry-run, too much removed, rejects, and nothing to replace with: a running server stays as it is."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        with servers.Numberd(data) as server, Client(server.port) as client:
            server.ctl("import", "-", text=text(rows(0, 1000)).decode())
            arguments = ("--data-dir", data, "--server", server.address, "--replace-all", "-")
            position = server.stats()["directory"]["position"]
            figures = report("--dry-run", *arguments, stdin=text(rows(10, 1010)))
            assert (figures["added"], figures["removed"], figures["dry_run"]) == (20, 10, True), figures
            refused(DAMAGED, "refused", "500 of 1000", arguments=arguments, stdin=text(rows(500, 600)))
            refused(DAMAGED, "refused", "1 rows were rejected", arguments=("--rejects", folder / "r", *arguments),
                    stdin=text(rows(0, 1000)) + b"12,1,1\n")
            reply = client.ask(frame(REPLACE_ALL))
            number = struct.unpack("<Q", reply.body)[0]
            servers.wait_until(lambda: server.stats()["snapshot"]["number"] >= number, "it is over")
            snapshot = server.stats()["snapshot"]
            assert snapshot["good_number"] < number, snapshot
            assert server.stats()["directory"]["position"] == position
            assert client.lookup([BASE, BASE + 999, BASE + 1000]) == [REGISTERED, REGISTERED, NOT_REGISTERED]
            assert client.register((BASE + 5000, 1, 0)) == [ADDED]


if __name__ == "__main__":
    servers.run_tests(globals())
