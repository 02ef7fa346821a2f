"""Restarts numberd by SIGUSR2 again and again under load, and counts the requests that failed. Started by restart.sh, and by
test_restart.py.

Readers ask about numbers whose answer is known, pipelining their requests; writers register new ones and look each up again after a
restart or two. All of them connect anew when the server says goodbye, and send again what it had not answered, as PROTOCOL.md has it.
A request has failed when it was neither answered rightly nor sent back by a goodbye: a connection that is refused, reset or closed
without one, a wrong answer, a code other than OK."""
import argparse
import collections
import contextlib
import ctypes
import os
import random
import signal
import subprocess
import threading
import time

import client
import servers

READERS, WRITERS = 3, 1
BATCH, DEPTH = 64, 8
FIRST_NEW = 261320000000  # in a country that numberload knows nothing of
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Successors are nobody's children (server/succession.h); they are to be ours, to be waited for, as a service manager's would be its."""
    assert ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as status:
        return int(status.read().rsplit(")", 1)[1].split()[1])


def has_ended(pid):
    """Also waits for it, if it has."""
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return True


class Service(servers.Numberd):
    """A numberd and its successors, one after the other; `pid` is the one that serves."""

    def __enter__(self):
        adopt_orphans()
        super().__enter__()
        self.pid = self.process.pid
        return self

    def begin_succession(self):
        """The process that is to take over."""
        count = len(self.successors())
        os.kill(self.pid, signal.SIGUSR2)
        servers.wait_until(lambda: len(self.successors()) > count, "a successor", pause=0.001)
        pid = self.successors()[-1]
        with contextlib.suppress(FileNotFoundError):
            assert parent_of(pid) == os.getpid(), f"the successor is a child of {parent_of(pid)}"
        return pid

    def successors(self):
        return [int(line.split(" process ")[1].split()[0]) for line in self.read_log().splitlines() if "SIGUSR2: process " in line]

    def count_ready(self):
        return self.read_log().count("numberd: ready: ")

    def succeed(self):
        """In how many seconds the successor serves; then waits until the old one has ended."""
        ready = self.count_ready()
        started = time.monotonic()
        pid = self.begin_succession()
        servers.wait_until(lambda: self.count_ready() > ready, f"a successor that is ready: {self.read_log()}", pause=0.001)
        took = time.monotonic() - started
        self.wait_for_end(self.pid)
        self.pid = pid
        return took

    def wait_for_end(self, pid):
        if pid == self.process.pid:
            status = self.process.wait(servers.PATIENCE)
        else:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == 0, f"process {pid} ended with {status}: {self.read_log()}"

    def __exit__(self, *trace):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM if trace[0] is None else signal.SIGKILL)
        if trace[0] is None and self.pid != self.process.pid:
            self.wait_for_end(self.pid)
        super().__exit__(*trace)


class Connection:
    """What a client has sent and not had an answer to, over one connection after the other."""

    def __init__(self, load, tls=None):
        self.load, self.tls = load, tls
        self.waiting = collections.OrderedDict()  # request id -> (frame, when it was first sent)
        self.next_id = 1
        self.client = None

    def connect(self):
        try:
            self.client = client.Client(self.load.port, greet=False)
            for frame in (client.hello(), *(frame for frame, _ in self.waiting.values())):
                self.client.send(frame)
            reply = self.client.receive()
            if reply.code == client.GOING_AWAY:  # before it was greeted
                return self.again()
            if reply.code != client.OK:
                raise AssertionError(f"hello: code {reply.code}")
        except OSError as error:
            self.load.fail(f"connecting: {error!r}")
            time.sleep(0.01)
            self.again()
        except (EOFError, AssertionError) as error:
            self.load.fail(f"greeting: {error!r}")
            self.again()

    def again(self):
        if self.client is not None:
            self.client.socket.close()
        self.client = None

    def send(self, make):
        """`make`: the frame from a request id."""
        frame = make(self.next_id)
        self.waiting[self.next_id] = (frame, time.monotonic())
        self.next_id += 1
        if self.client is not None:
            with contextlib.suppress(OSError):  # what there is to say about it the next receive will see
                self.client.send(frame)

    def receive(self):
        """The next reply but goodbyes, with its request's id."""
        while True:
            while self.client is None:
                self.connect()
            try:
                reply = self.client.receive()
            except (OSError, EOFError) as error:
                self.load.fail(f"waiting for {len(self.waiting)} replies: {error!r}")
                self.again()
                continue
            if reply.request_id == 0 and reply.code == client.GOING_AWAY:
                self.load.goodbyes += 1
                self.again()
                continue
            _, sent = self.waiting.pop(reply.request_id)
            self.load.note(time.monotonic() - sent)
            if reply.code != client.OK:
                self.load.fail(f"request of type {reply.type - 128}: code {reply.code}")
            return reply


class Load:
    """The clients of one test, each a thread."""

    def __init__(self, port, numbers):
        self.port = port
        self.known = list(numbers)
        self.requests = self.goodbyes = self.registered = 0
        self.longest = 0.0
        self.failures = []
        self.lock = threading.Lock()
        self.is_stopping = False

    def fail(self, text):
        with self.lock:
            self.failures.append(text)

    def note(self, seconds):
        with self.lock:
            self.requests += 1
            self.longest = max(self.longest, seconds)

    def read(self, seed):
        chance = random.Random(seed)
        connection = Connection(self)
        asked = {}
        while not (self.is_stopping and not connection.waiting):
            while len(connection.waiting) < DEPTH and not self.is_stopping:
                batch = [chance.choice(self.known) if i % 2 else FIRST_NEW - 1 - chance.randrange(10**6) for i in range(BATCH)]
                asked[connection.next_id] = batch
                connection.send(lambda request_id, batch=batch: client.numbers(client.LOOKUP, batch, request_id))
            if connection.waiting:
                reply = connection.receive()
                asked.pop(reply.request_id)
                if reply.code == client.OK and list(reply.body) != [client.NOT_REGISTERED, client.REGISTERED] * (BATCH // 2):
                    self.fail(f"wrong answers: {reply.body[:8]}")
        if connection.client is not None:
            connection.client.socket.close()

    def write(self, seed):
        connection = Connection(self)
        number = FIRST_NEW + seed * 10**7
        while not self.is_stopping:
            entries = [(number + i, number + i, 0) for i in range(8)]
            connection.send(lambda request_id, entries=entries: client.registrations(entries, request_id))
            reply = connection.receive()
            if reply.code == client.OK and set(reply.body) != {client.ADDED}:
                self.fail(f"registering new numbers: {reply.body}")
            with self.lock:
                self.known += [entry[0] for entry in entries]
                self.registered += len(entries)
            number += len(entries)
        if connection.client is not None:
            connection.client.socket.close()

    def __enter__(self):
        self.threads = [threading.Thread(target=self.read, args=(i,)) for i in range(READERS)]
        self.threads += [threading.Thread(target=self.write, args=(i,)) for i in range(WRITERS)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_stopping = True
        for thread in self.threads:
            thread.join(servers.PATIENCE)
            assert not thread.is_alive(), "a client still waits"


def check_known(port, numbers):
    """Everything that was acknowledged is there."""
    with client.Client(port) as one:
        for at in range(0, len(numbers), 60000):
            part = numbers[at:at + 60000]
            lost = [number for number, status in zip(part, one.lookup(part)) if status != client.REGISTERED]
            assert not lost, f"{len(lost)} of {len(part)} acknowledged registrations are gone"


def generate(folder, count):
    """A data directory with so many numbers; a thousand of them."""
    with subprocess.Popen([servers.BIN / "numberload", "generate", "--count", str(count)], stdout=subprocess.PIPE) as source:
        subprocess.run([servers.BIN / "numberctl", "import", "-", "--data-dir", folder], stdin=source.stdout, check=True,
                       capture_output=True)
    lines = subprocess.run([servers.BIN / "numberload", "generate", "--count", str(min(count, 1000))], capture_output=True, text=True,
                           check=True).stdout.splitlines()
    return [int(line.split(",")[0]) for line in lines[1:]]


def restart(restarts, count, flags=(), pause=0.1):
    """Prints a line every ten restarts, returns the load and the seconds that each restart took."""
    took = []
    with servers.temporary_folder() as folder:
        numbers = generate(folder / "data", count)
        with Service(folder / "data", "--snapshot-minutes", "1", *flags) as service:
            with Load(service.port, numbers) as load:
                for i in range(restarts):
                    time.sleep(pause)
                    took.append(service.succeed())
                    if (i + 1) % 10 == 0:
                        print(f"{i + 1} restarts, {load.requests} requests, {len(load.failures)} failed", flush=True)
                time.sleep(pause)
            check_known(service.port, load.known)
            stored, logged = service.stats()["query_log"], service.stats()["query_log"]["looked_up"]
            assert stored["lost"] == 0 and logged >= load.requests, stored
    return load, took


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("--n", type=int, default=100_000, help="numbers registered (100000)")
    options = parser.parse_args()
    load, took = restart(options.restarts, options.n)
    for text, count in collections.Counter(load.failures).most_common(10):
        print(f"failed, {count} times: {text}")
    print("seconds from SIGUSR2 to serving:", *(f"{seconds:.3f}" for seconds in took))
    print(f"{options.restarts} restarts with {options.n} numbers: {load.requests} requests ({load.registered} registrations), "
          f"{len(load.failures)} failed, {load.goodbyes} goodbyes; from SIGUSR2 to serving {sorted(took)[len(took) // 2]:.3f} s in the middle, "
          f"{max(took):.3f} s at most; the longest wait for a reply {load.longest:.3f} s")
    raise SystemExit(1 if load.failures else 0)


if __name__ == "__main__":
    main()
