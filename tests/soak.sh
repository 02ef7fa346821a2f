#!/usr/bin/env bash
# Everything at once, for a while, with looks at answers, logs and memory (soak.py): first under AddressSanitizer, then in release.
#   tests/soak.sh [--minutes N] [--preset asan|release|both] [--seed S]
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=30 preset=both arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --minutes) minutes=${2:?"--minutes N"} ;;
    --preset) preset=${2:?"--preset asan|release|both"} ;;
    --seed) arguments=(--seed "${2:?"--seed S"}") ;;
    *) echo "usage: $0 [--minutes N] [--preset asan|release|both] [--seed S]" >&2; exit 64 ;;
    esac
    shift 2
done
case $preset in
both) presets=(asan release) ;;
asan | release) presets=("$preset") ;;
*) echo "$0: no preset \"$preset\": asan, release or both" >&2; exit 64 ;;
esac

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0
for preset in "${presets[@]}"; do
    printf '== %s: %s, %s minutes\n' "$(date +%H:%M:%S)" "$preset" "$minutes"
    cmake --preset "$preset" >/dev/null
    cmake --build --preset "$preset" --target numberd numberctl numberload numberflood | tail -n 1
    NUMBERD_BIN=$PWD/build/$preset/bin PYTHONDONTWRITEBYTECODE=1 \
        python3 tests/soak.py --minutes "$minutes" --preset "$preset" "${arguments[@]}" 2>&1 | tee "$log" || true
    # Without its last line it has died, and that is a failure, too.
    read -r good bad < <(sed -nE '$s/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$log" | grep . || echo 0 1)
    passed=$((passed + good)) failed=$((failed + bad))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
