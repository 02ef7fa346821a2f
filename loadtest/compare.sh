#!/usr/bin/env bash
# numberd beside a floor, Redis and memcached under the same load: installs what is missing, builds, measures, prints a table.
#   bash loadtest/compare.sh [--json] [--list] [--only NAME] [--n N] [--quick] [--dir DIR] [--chart FILE] [--table FILE]
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in
*" --list "* | *" --help "* | *" -h "*) ;;
*)
    for program in redis-server memcached taskset; do
        command -v "$program" >/dev/null || { bash server/install-dependencies.sh test >&2 && break; }
    done
    cmake --preset release >/dev/null
    cmake --build --preset release --target numberd numberctl numberload bench_table | tail -n 1 >&2
    ;;
esac
exec /usr/bin/python3 loadtest/compare.py --bin build/release/bin "$@"
