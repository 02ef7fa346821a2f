#!/usr/bin/env bash
# The query log in real Redis Clusters on loopback: kills the master of the log's slot N times under lookups (test_cluster.py), and
# moves slots. Takes about 4 seconds a kill.
#   tests/cluster.sh [--kills N] [--bin DIR]
exec bash "$(dirname "$0")/with_programs.sh" test_cluster.py "$@"
