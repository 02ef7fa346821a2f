"""All that is tried with a real Redis Cluster: the query log in it, and servers that share a feed of registrations. Started by cluster.sh."""
import argparse
import os

parser = argparse.ArgumentParser(prog="cluster.sh", description=__doc__)
parser.add_argument("--kills", type=int, default=50, help="of masters, for each of the two (50)")
parser.add_argument("--nodes", type=int, default=4, help="servers that share a feed while masters are killed, hang, or slots move (4)")
parser.add_argument("--numbers", type=int, default=10_000_000, help="that a new server finds (10 million, which takes 2 GB and some minutes)")
parser.add_argument("--seconds", type=int, default=20, help="for which the lag is measured (20)")
parser.add_argument("--only", metavar="TEXT", default="", help="tests with that in their name")
arguments = parser.parse_args()
os.environ["NUMBERD_CLUSTER_KILLS"] = str(arguments.kills)

import servers  # noqa: E402 -- these read it
import test_cluster  # noqa: E402
import test_feed_cluster  # noqa: E402

test_feed_cluster.NODES = arguments.nodes
test_feed_cluster.JOIN_NUMBERS = arguments.numbers
test_feed_cluster.LAG_SECONDS = arguments.seconds
test_feed_cluster.RATE, test_feed_cluster.ROUNDS, test_feed_cluster.BARS_COUNT = 20000, 5, True
tests = {f"test_{module.__name__[5:]}_{name[5:]}": test for module in (test_cluster, test_feed_cluster)
         for name, test in vars(module).items() if name.startswith("test_") and callable(test) and test.__module__ == module.__name__}
servers.run_tests({name: test for name, test in tests.items() if arguments.only in name})
