#!/usr/bin/env bash
# The ring's algorithm in all orders of steps (ring.pml), with Spin; and that the model finds what it should: each planted
# mistake, and cursors that wrap at no multiple of the capacity.
set -euo pipefail
model=$(cd "$(dirname "$0")" && pwd)/ring.pml
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# check NAME OPTION...: prints how many states there are and how many errors the first search found.
check() {
    local name=$1
    shift
    spin "$@" -a "$model" >log
    gcc -O2 -DSAFETY -o pan pan.c
    ./pan -m1000000 >log
    states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' log)
    errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' log)
    if grep -q 'max search depth too small' log; then
        echo "$name: the search was not complete" >&2
        exit 1
    fi
    echo "$name: $states states, $errors errors"
}

check "the ring"
[ "$errors" = 0 ] && [ "$states" -gt 1000000 ] || { cat log >&2; exit 1; }
for mistake in 1 2 3 4; do
    check "mistake $mistake" -DMISTAKE=$mistake
    [ "$errors" != 0 ] || { echo "the model does not find mistake $mistake" >&2; exit 1; }
done
check "cursors that wrap at 18, with a capacity of 4" -DMOD=18
[ "$errors" != 0 ] || { echo "the model does not find the wrong wrap" >&2; exit 1; }
echo "6 passed, 0 failed"
