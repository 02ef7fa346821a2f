"""Nothing that was acknowledged is lost, and nothing comes back, however often the server is killed (crash.py)."""
import os

import crash
import servers


def test_kills():
    """Every number is as its owner last heard, or as it asked for thereafter, after each of many kills."""
    print(crash.run(kills=int(os.environ.get("NUMBERD_KILLS", 200)), seed=1))


def test_kills_with_a_feed():
    """The same with registrations that come from a feed, where the journal is behind."""
    print(crash.run(kills=int(os.environ.get("NUMBERD_KILLS", 200)) // 2, seed=2, with_feed=True))


if __name__ == "__main__":
    servers.run_tests(globals())
