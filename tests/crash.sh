#!/usr/bin/env bash
# Kills numberd N times while clients write, and looks each time whether all that was acknowledged is there (crash.py).
#   tests/crash.sh --kills N [--feed] [--seed S] [--bin DIR]
exec bash "$(dirname "$0")/with_programs.sh" crash.py "$@"
