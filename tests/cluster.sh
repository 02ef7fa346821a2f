#!/usr/bin/env bash
# Real Redis Clusters on loopback: kills masters N times under lookups, the query log and changes through several servers, moves slots,
# measures how late other servers see a change, and what a new one costs the others (cluster.py).
#   tests/cluster.sh [--kills N] [--nodes N] [--numbers N] [--seconds N] [--only TEXT] [--bin DIR]
exec bash "$(dirname "$0")/with_programs.sh" cluster.py "$@"
