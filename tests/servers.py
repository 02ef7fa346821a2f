"""Starts and stops the programs under test: each in a temporary directory, on free ports, ended by its pid."""
import contextlib
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "loadtest"))
from own_network import own_network  # noqa: E402

BIN = pathlib.Path(os.environ["NUMBERD_BIN"])
# Sanitizer builds are several times slower.
PATIENCE = 60


def free_port():
    """One that nothing listens on; the next moment something may."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds=PATIENCE, pause=0.02):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} s: {what}")


def can_connect(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Numberd:
    """One numberd on ports that the system chose; a with-block stops it with SIGTERM and wants the exit status. `wrapper` is a
    command before it. Unless `wait` is false, the block begins when it is ready; its ports are waited for when asked for."""

    def __init__(self, data_dir, *flags, wrapper=(), status=0, wait=True):
        self.wrapper, self.status, self.wait = wrapper, status, wait
        self.data_dir = pathlib.Path(data_dir)
        self.flags = flags
        self.log = ""

    def __enter__(self):
        # Appended to by the server and opened anew to be read: a shared file position would let each overwrite the other.
        self.log_file = tempfile.NamedTemporaryFile(mode="a", prefix="numberd-log-")
        self.process = subprocess.Popen(
            [*self.wrapper, BIN / "numberd", "--data-dir", self.data_dir, "--listen", "127.0.0.1:0",
             "--stats-listen", "127.0.0.1:0", *self.flags],
            stdin=subprocess.DEVNULL, stdout=self.log_file, stderr=self.log_file)
        try:
            if self.wait:
                self.wait_until_ready()
        except AssertionError:
            self.process.kill()
            self.process.wait(PATIENCE)
            print(self.read_log())
            raise
        return self

    def wait_for(self, pattern):
        """Until it stands in the log."""
        found = wait_until(lambda: re.search(pattern, self.read_log()) or self.process.poll() is not None, pattern, pause=0.003)
        assert found is not True or (found := re.search(pattern, self.read_log())), self.read_log()
        return found

    @functools.cached_property
    def ports(self):
        found = self.wait_for(r"numberd: lookups on 127\.0\.0\.1:(\d+), stats on https?://127\.0\.0\.1:(\d+)/;.*\n")
        return int(found[1]), int(found[2])

    @property
    def port(self):
        return self.ports[0]

    @property
    def stats_port(self):
        return self.ports[1]

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @functools.cached_property
    def tls_port(self):
        return int(self.wait_for(r"numberd: lookups under TLS on 127\.0\.0\.1:(\d+)\n")[1])

    @functools.cached_property
    def proxy_port(self):
        return int(self.wait_for(r"numberd: lookups through proxies on 127\.0\.0\.1:(\d+)(, under TLS)?\n")[1])

    def is_ready(self):
        return "numberd: ready: " in self.read_log()

    def wait_until_ready(self):
        self.wait_for("numberd: ready: ")

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.log = self.read_log()
        self.log_file.close()
        if kind is not None or status not in (self.status, -signal.SIGKILL):
            print(self.log)
        assert status in (self.status, -signal.SIGKILL), f"numberd ended with {status}"

    def read_log(self):
        return pathlib.Path(self.log_file.name).read_text()

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.stats_port}{path}", timeout=10) as reply:
            return reply.read().decode()

    def stats(self):
        return json.loads(self.get("/stats.json"))

    def ctl(self, verb, *arguments, **options):
        return ctl(verb, "--server", self.address, *arguments, **options)


def ctl(*arguments, status=0, text=None, cwd=None):
    """Runs numberctl, wants the exit status, returns its standard output; standard error with a status not 0."""
    result = subprocess.run([BIN / "numberctl", *map(str, arguments)], input=text, capture_output=True, text=True,
                            timeout=300, cwd=cwd, stdin=None if text is not None else subprocess.DEVNULL)
    assert status is None or result.returncode == status, (arguments[:1], result.returncode, result.stdout[-500:], result.stderr[-500:])
    return result.stdout if status == 0 else result.stdout + result.stderr  # whatever the status, with None


def numberd_error(data_dir, *flags, status):
    """The one line with which a numberd that cannot start ends."""
    result = subprocess.run([BIN / "numberd", "--data-dir", data_dir, "--listen", "127.0.0.1:0", "--stats-listen", "127.0.0.1:0",
                             *map(str, flags)], capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    assert result.returncode == status and result.stderr.count("\n") == 1, (flags, result.returncode, result.stderr)
    return result.stderr


ORDER = ("--order", "2026-77", "--authority", "District Court", "--basis", "section 12")


def disclose(data_dir, *arguments, key=None, window=("--from", "2026-01-01", "--until", "2037-01-01"), status=0, name="records.csv"):
    """The text of that file of a disclosure, by default with the officer's key that the server made for itself; with a status
    not 0 what was printed, too."""
    with temporary_folder() as folder:
        output = folder / "disclosed"
        printed = ctl("disclose", *ORDER, *window, "--key", key or data_dir / "officer.private", "--data-dir", data_dir,
                      "--output", output, *arguments, status=status)
        assert not (folder / "disclosed.part").exists()
        written = (output / name).read_text() if output.exists() else ""
        return written if status == 0 else written + printed


class Redis:
    """A real redis-server on a port of its own, without persistence."""

    def __init__(self, *flags):
        self.flags = flags

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="numberd-redis-")
        for _ in range(5):  # between choosing the port and listening on it another program may take it
            self.port = free_port()
            self.url = f"redis://127.0.0.1:{self.port}/0"
            if self.start():
                return self
        raise AssertionError("redis-server does not start")

    def start(self):
        """False when it ended at once."""
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", self.folder, *self.flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: self.process.poll() is not None or can_connect(self.port), "redis-server is ready")
        return self.process.poll() is None

    def stop(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def __exit__(self, kind, value, trace):
        self.stop()
        shutil.rmtree(self.folder)

    def command(self, *arguments):
        result = subprocess.run(["redis-cli", "-p", str(self.port), *map(str, arguments)], capture_output=True,
                                text=True, check=True, timeout=60)
        return result.stdout.splitlines()

    def raw(self, *arguments):
        """The reply as it comes, for what is no text."""
        words = [str(argument).encode() for argument in arguments]
        with socket.create_connection(("127.0.0.1", self.port), 60) as connection, connection.makefile("rb") as stream:
            connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
            return raw_reply(stream)


def raw_reply(stream):
    """One reply of Redis, strings as bytes."""
    line = stream.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"$":
        return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
    if kind == b"*":
        return [raw_reply(stream) for _ in range(int(rest))]
    assert kind in b"+:", line
    return int(rest) if kind == b":" else rest


def forget_counters(folder):
    """As a restart of the machine does: the shared memory in which killed servers left their counters (tally.h) is gone."""
    for log in folder.rglob("querylog"):
        status = log.stat()
        pathlib.Path(f"/dev/shm/numberd-{status.st_dev:x}-{status.st_ino:x}").unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder():
    folder = tempfile.mkdtemp(prefix="numberd-test-")
    try:
        yield pathlib.Path(folder)
    finally:
        forget_counters(pathlib.Path(folder))
        shutil.rmtree(folder)


class Skipped(Exception):
    """Raised by a test that this machine does not allow; the reason is printed."""


@contextlib.contextmanager
def beyond_loopback():
    """An address of this machine that is not loopback, in a network of the test's own."""
    with contextlib.ExitStack() as stack:
        try:
            address = stack.enter_context(own_network("198.51.100.1"))
        except OSError as error:
            raise Skipped(error) from error
        yield address


def run_tests(namespace):
    """Runs every function named test_*; prints its first sentence, and a closing line."""
    failed = passed = 0
    for name, test in list(namespace.items()):
        if not name.startswith("test_"):
            continue
        started = time.monotonic()
        try:
            test()
            passed += 1
            print(f"ok    {name} ({time.monotonic() - started:.1f} s)", flush=True)
        except Skipped as reason:
            print(f"skip  {name}: {reason}", flush=True)
        except Exception:  # every kind of failure is reported, and the others still run
            import traceback
            failed += 1
            print(f"FAIL  {name}: {test.__doc__}", flush=True)
            traceback.print_exc()
    print(f"{passed} passed, {failed} failed")
    raise SystemExit(1 if failed else 0)
