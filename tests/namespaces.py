"""A network namespace with a way to this one that can be cut: packets are swallowed on it, as by a switch that has failed, and nobody is told.

    here 10.213.0.1 -- 10.213.0.2 middle 10.213.0.5 -- 10.213.0.6 there"""
import concurrent.futures
import contextlib
import ctypes
import os
import subprocess

import servers

CLONE_NEWNET = 0x40000000


def run(*words):
    result = subprocess.run(words, capture_output=True, text=True, timeout=30)
    if result.returncode != 0:
        raise servers.Skipped(f"network namespaces: {result.stderr.strip()}")


class Namespace:
    here, there = "10.213.0.1", "10.213.0.6"

    def __enter__(self):
        self.middle, self.name = (f"numberd-{os.getpid()}-{which}" for which in ("middle", "there"))
        self.stack = contextlib.ExitStack()
        try:
            for name in (self.middle, self.name):
                run("ip", "netns", "add", name)
                self.stack.callback(run, "ip", "netns", "del", name)
            self.connect()
        except BaseException:
            self.stack.close()
            raise
        return self

    def connect(self):
        wire = f"nd{os.getpid()}"
        run("ip", "link", "add", wire, "type", "veth", "peer", "name", "near", "netns", self.middle)
        run("ip", "-n", self.middle, "link", "add", "far", "type", "veth", "peer", "name", "wire", "netns", self.name)
        for place, device, address in (((), wire, self.here), (("-n", self.middle), "near", "10.213.0.2"),
                                       (("-n", self.middle), "far", "10.213.0.5"), (("-n", self.name), "wire", self.there)):
            run("ip", *place, "address", "add", f"{address}/30", "dev", device)
            run("ip", *place, "link", "set", device, "up")
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        run("ip", "route", "add", self.there, "via", "10.213.0.2")
        run("ip", "-n", self.name, "route", "add", self.here, "via", "10.213.0.5")
        self.cut(False)

    def cut(self, is_cut):
        run("ip", "netns", "exec", self.middle, "sh", "-c", f"echo {int(not is_cut)} > /proc/sys/net/ipv4/ip_forward")

    def __exit__(self, *_):
        self.stack.close()

    @property
    def wrapper(self):
        """Before the command of a program that runs there."""
        return ("ip", "netns", "exec", self.name)

    def do(self, function):
        """What the function returns when a thread calls it that is there; its sockets stay there."""
        def enter():
            with open(f"/run/netns/{self.name}") as place:
                assert ctypes.CDLL(None, use_errno=True).setns(place.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            return function()

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(enter).result()
