"""Kills numberd with SIGKILL again and again, on one data directory, while clients change registrations, and looks after
each restart whether what was acknowledged is there. Started by crash.sh, and by test_crash.py.

Each writer has numbers of its own and a connection that pipelines its requests, so what it will find after a kill is
known: requests take effect in their order, so its numbers are as some prefix of what it sent left them, and all that was
acknowledged is in the prefix. (With --feed the registrations come from Redis, and then of the last request any part may have taken
effect, since its numbers are spread over partitions.) Account ids only ever grow, so one from an earlier time is recognised. The seed decides what
is sent and when it is killed; how far the server comes by then, the machine decides."""
import argparse
import contextlib
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import client
import servers

WRITERS = 4
NUMBERS = 600  # a writer
BASE = 447700000000
KILL_MS_MAX = 150
# Out of a hundred kills so many come while the server starts, or after it has lived for long enough to write a snapshot by
# itself; so many meet one that was asked for, or durability interval or off.
PERCENT_STARTING, PERCENT_SCHEDULED, PERCENT_SNAPSHOT, PERCENT_RELAXED = 12, 3, 90, 20
CHECK_EVERY = 25


class Failure(Exception):
    """The server did what it must not do; the data directory is kept."""


def apply_entry(state, kind, entry):
    """Carries an entry out on a dictionary number -> (account, flags); returns the status and the numbers it touched."""
    if kind == client.REGISTER:
        number, account, flags = entry
        status = client.REPLACED if number in state else client.ADDED
        state[number] = (account, flags)
        return status, (number,)
    if kind == client.DEREGISTER:
        return (client.ABSENT if state.pop(entry, None) is None else client.REMOVED), (entry,)
    old, new = entry
    if old not in state:
        return client.ABSENT, ()
    if new in state:
        return client.OCCUPIED, ()
    state[new] = state.pop(old)
    return client.MOVED, entry


class Writer:
    """The numbers of one connection: what is acknowledged of them, and what was sent beyond that."""

    def __init__(self, index, seed):
        self.random = random.Random(f"{seed} writer {index}")
        self.numbers = [BASE + index * 10**6 + i for i in range(NUMBERS)]
        self.account = 0
        self.state = {}      # acknowledged
        self.ahead = {}      # when all that was sent has taken effect
        self.sent = []       # (kind, entries), unacknowledged, in order
        self.acknowledged = 0
        self.fault = None

    # --- while the server runs ---

    def make_entry(self, kind):
        if kind == client.REGISTER:
            self.account += 1
            return self.random.choice(self.numbers), self.account, self.random.randrange(128) * 2  # not hidden
        if kind == client.DEREGISTER:
            return self.random.choice(self.numbers)
        return self.random.choice(self.numbers), self.random.choice(self.numbers)

    def make_request(self):
        kind = self.random.choices([client.REGISTER, client.DEREGISTER, client.MOVE], [5, 2, 4])[0]
        size = 2000 if self.random.random() < 0.01 else self.random.choice([1, 1, 2, 5, 20, 100])
        entries = []
        for _ in range(size):
            entry = self.make_entry(kind)
            if kind == client.MOVE and self.random.random() < 0.9:
                # Mostly one that can be made; the others are part of the game.
                for _ in range(8):
                    if entry[0] in self.ahead and entry[1] not in self.ahead:
                        break
                    entry = self.make_entry(kind)
            entries.append(entry)
            apply_entry(self.ahead, kind, entry)
        self.sent.append((kind, entries))
        if kind == client.DEREGISTER:
            return client.numbers(kind, entries)
        return client.registrations(entries) if kind == client.REGISTER else client.moves(entries)

    def take_reply(self, reply):
        kind, entries = self.sent.pop(0)
        expected = bytes(apply_entry(self.state, kind, entry)[0] for entry in entries)
        if reply.code != client.OK or reply.body != expected:
            raise Failure(f"a reply of type {reply.type} has code {reply.code} or other statuses than it should")
        self.acknowledged += sum(status not in (client.ABSENT, client.OCCUPIED) for status in expected)

    def run(self, port):
        """Until the connection breaks."""
        try:
            with client.Client(port) as connection:
                window = self.random.choice([1, 4, 16])
                while True:
                    connection.send(self.make_request())
                    if len(self.sent) >= window:
                        self.take_reply(connection.receive())
        except (OSError, EOFError):
            pass
        except Exception as fault:  # for the main thread to report
            self.fault = fault

    # --- after a restart ---

    def judge(self, found):
        """Counts (lost, revived, disordered) numbers, takes what was found for acknowledged."""
        allowed = {number: {self.state.get(number)} for number in self.numbers}
        model = dict(self.state)
        different = {number for number in self.numbers if model.get(number) != found.get(number)}
        ordered = not different
        for kind, entries in self.sent:
            for entry in entries:
                for number in apply_entry(model, kind, entry)[1]:
                    allowed[number].add(model.get(number))
                    (different.discard if model.get(number) == found.get(number) else different.add)(number)
                ordered = ordered or not different
        wrong = [number for number in self.numbers if found.get(number) not in allowed[number]]
        revived = sum(allowed[number] == {None} for number in wrong)
        self.state, self.sent, self.ahead = dict(found), [], dict(found)
        return len(wrong) - revived, revived, 0 if ordered or wrong else 1


class Crash:
    def __init__(self, kills, seed, folder, progress=print, feed=None):
        """`feed`: the Redis that registrations come from."""
        self.kills, self.seed, self.progress, self.feed = kills, seed, progress, feed
        self.random = random.Random(f"{seed} kills")
        self.data = folder / "data"
        self.writers = [Writer(index, seed) for index in range(WRITERS)]
        self.lost = self.revived = self.disordered = self.checks = self.snapshots = 0
        self.start_seconds, self.starts = 0.0, 0

    def acknowledged(self):
        return sum(writer.acknowledged for writer in self.writers)

    def flags(self, scheduled):
        percent = self.random.randrange(100)
        flags = ["--threads", "2", "--snapshot-minutes", "0", "--journal-bytes", "16K" if scheduled else "0"]
        if percent < PERCENT_RELAXED:
            flags += ["--durability", "interval" if percent % 2 else "off", "--durability-interval-ms", "5"]
        return flags

    def feed_flags(self):
        return ["--registrations", self.feed.url] if self.feed else []

    def verify(self, server):
        with client.Client(server.port) as connection:
            for writer in self.writers:
                records = connection.records(writer.numbers)
                lost, revived, disordered = writer.judge(
                    {number: record for number, record in zip(writer.numbers, records) if record is not None})
                self.lost += lost
                self.revived += revived
                self.disordered += disordered
        if self.lost or self.revived or (self.disordered and not self.feed):
            raise Failure(self.summary(self.starts))

    def start(self, server):
        begun = time.monotonic()
        while not server.is_ready():
            if server.process.poll() is not None or time.monotonic() > begun + servers.PATIENCE:
                raise Failure(f"numberd did not start again: {server.read_log()}")
            time.sleep(0.002)
        self.start_seconds += time.monotonic() - begun
        self.starts += 1

    def ask_for_snapshot(self, server, seconds):
        """In the middle of it all; the reply is not waited for."""
        try:
            with client.Client(server.port) as connection:
                time.sleep(seconds)
                connection.ask(client.frame(client.SNAPSHOT))
                self.snapshots += 1
        except (OSError, EOFError):
            pass

    def write_until_killed(self, server, seconds):
        threads = [threading.Thread(target=writer.run, args=(server.port,)) for writer in self.writers]
        if self.random.randrange(100) < PERCENT_SNAPSHOT:
            # Half of them at once: the older snapshots and segments go, and the next start is quick.
            moment = max(0, self.random.uniform(-1, 1)) * seconds
            threads.append(threading.Thread(target=self.ask_for_snapshot, args=(server, moment)))
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        died = server.process.poll()
        server.kill()
        for thread in threads:
            thread.join()
        if died is not None:
            raise Failure(f"numberd ended by itself with {died}: {server.read_log()}")
        for writer in self.writers:
            if writer.fault is not None:
                raise writer.fault

    @contextlib.contextmanager
    def server(self, *flags):
        """Killed at a failure: an orderly stop would write over what there is to see."""
        with servers.Numberd(self.data, *self.feed_flags(), *flags, wait=False) as server:
            try:
                yield server
                if "Sanitizer" in server.read_log():
                    raise Failure(server.read_log())
            except Failure:
                server.kill()
                raise

    def cycle(self):
        starting = self.random.randrange(100) < PERCENT_STARTING
        scheduled = not starting and self.random.randrange(100) < PERCENT_SCHEDULED
        with self.server(*self.flags(scheduled)) as server:
            if starting:
                time.sleep(self.random.random() * 1.2 * self.start_seconds / max(self.starts, 1))
                server.kill()
                return
            self.start(server)
            self.verify(server)
            # On its own, the server looks once a second whether a snapshot is due.
            self.write_until_killed(server, (1000 * scheduled + self.random.random() * KILL_MS_MAX) / 1000)

    def check(self):
        self.checks += 1
        result = subprocess.run([servers.BIN / "numberctl", "check", self.data], capture_output=True, text=True,
                                timeout=300)
        if result.returncode != 0:
            raise Failure(f"numberctl check ends with {result.returncode}:\n{result.stdout}{result.stderr}")

    def summary(self, kills):
        return (f"kills {kills}, acknowledged changes {self.acknowledged()}, lost {self.lost}, revived {self.revived}"
                + (f", out of order {self.disordered}" if self.disordered and not self.feed else ""))

    def run(self):
        begun = time.monotonic()
        for kill in range(1, self.kills + 1):
            self.cycle()
            if kill % CHECK_EVERY == 0 or kill == self.kills:
                self.check()
                self.progress(f"{self.summary(kill)} ({time.monotonic() - begun:.0f} s; a start takes "
                              f"{1000 * self.start_seconds / max(self.starts, 1):.0f} ms; snapshots asked for "
                              f"{self.snapshots}, checks {self.checks})", flush=True)
        # What the last kill left.
        with self.server() as server:
            self.start(server)
            self.verify(server)
        return self.summary(self.kills)


def run(kills, seed, progress=print, with_feed=False):
    """The last line; raises Failure."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="numberd-crash-"))
    try:
        with servers.Redis() if with_feed else contextlib.nullcontext() as feed:
            summary = Crash(kills, seed, folder, progress, feed).run()
    except BaseException:
        print(f"seed {seed}; the data directory is kept: {folder / 'data'}", flush=True)
        raise
    servers.forget_counters(folder)
    shutil.rmtree(folder)
    return summary


def main():
    parser = argparse.ArgumentParser(
        prog="crash.sh", description="Kills numberd over and over; nothing that was acknowledged may be lost.",
        epilog="--bin DIR names the folder of numberd and numberctl (default: the release build's).")
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--feed", action="store_true", help="with registrations from a Redis, which is not killed")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    try:
        print(run(arguments.kills, arguments.seed, with_feed=arguments.feed))
    except Failure as failure:
        print(failure)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
