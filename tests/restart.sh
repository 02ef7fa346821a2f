#!/usr/bin/env bash
# Restarts numberd N times by SIGUSR2 under load, and counts the requests that failed (restart.py).
#   tests/restart.sh [--restarts N] [--n NUMBERS] [--bin DIR]
exec bash "$(dirname "$0")/with_programs.sh" restart.py "$@"
