#!/usr/bin/env bash
# Restarts numberd N times by SIGUSR2 under load, and counts the requests that failed (restart.py).
#   tests/restart.sh [--restarts N] [--n NUMBERS] [--bin DIR]
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
NUMBERD_BIN=$(realpath "$bin") PYTHONDONTWRITEBYTECODE=1 exec python3 restart.py "${arguments[@]}"
