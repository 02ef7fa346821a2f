"""A network of one's own, in which this machine may have any address: what comes from there is from beyond loopback, and goes nowhere."""
import contextlib
import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def own_network(address):
    """This thread and what it starts have a network namespace with loopback and that address alone. OSError where that is not
    allowed (it takes root)."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "no network namespace of one's own is allowed here")
        try:
            for command in (("link", "set", "lo", "up"), ("address", "add", f"{address}/32", "dev", "lo")):
                subprocess.run(["ip", *command], check=True, capture_output=True)
            yield address
        finally:
            if libc.setns(before, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "the network before is gone")
    finally:
        os.close(before)
