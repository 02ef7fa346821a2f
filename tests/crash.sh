#!/usr/bin/env bash
# Kills numberd N times while clients write, and looks each time whether all that was acknowledged is there (crash.py).
#   tests/crash.sh --kills N [--seed S] [--bin DIR]
set -euo pipefail
cd "$(dirname "$0")"
arguments=()
bin=${NUMBERD_BIN:-../build/release/bin}
while [ $# -gt 0 ]; do
    if [ "$1" = --bin ] && [ $# -gt 1 ]; then
        bin=$(cd "$OLDPWD" && realpath "$2")
        shift 2
    else
        arguments+=("$1")
        shift
    fi
done
NUMBERD_BIN=$bin PYTHONDONTWRITEBYTECODE=1 exec python3 crash.py "${arguments[@]}"
