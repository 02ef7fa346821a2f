#!/usr/bin/env bash
# Runs one of the tests' Python files with the programs of --bin DIR, by default of NUMBERD_BIN or the release build.
#   tests/with_programs.sh FILE.py [--bin DIR] [ARGUMENT]...
set -euo pipefail
bin=${NUMBERD_BIN:-$(dirname "$0")/../build/release/bin}
file=${1:?"FILE.py"}
shift
arguments=()
while [ $# -gt 0 ]; do
    if [ "$1" = --bin ] && [ $# -gt 1 ]; then
        bin=$2
        shift 2
    else
        arguments+=("$1")
        shift
    fi
done
NUMBERD_BIN=$(realpath "$bin") PYTHONDONTWRITEBYTECODE=1 exec python3 "$(dirname "$0")/$file" "${arguments[@]}"
