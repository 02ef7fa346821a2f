#!/usr/bin/env bash
# Builds the directory, the ring and their unit tests for arm64 and runs them under qemu-aarch64: with the NEON lookup,
# and test_directory with the scalar one, too. Installs nothing (server/install-dependencies.sh test does). The emulator
# keeps this processor's memory order, so this checks the code for arm64, not its order of reads and writes; test_histories
# is not among them: the emulator ran out of memory with it.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(uname -m)" = aarch64 ]; then
    echo "arm64: this machine is one; the tests have run natively"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# The two libraries' headers are the same for all processors; the rest of /usr/include is not.
ln -s /usr/include/xxhash.h /usr/include/cmocka.h "$folder"
compile=(aarch64-linux-gnu-gcc -std=c17 -O2 -D_GNU_SOURCE -DLOOKUP_HAS_NEON -Wall -Wextra -Werror -I. "-I$folder")
libraries=(-L/usr/lib/aarch64-linux-gnu -lcmocka -lpthread)
sources=(hashing/{phone,arena,epoch,table,directory,lookup,lookup_scalar,lookup_neon}.c)

passed=0
run() {
    local name=$1
    shift
    if "$@" >"$folder/log" 2>&1; then
        passed=$((passed + 1))
    else
        cat "$folder/log" >&2
        echo "arm64: $name failed" >&2
        exit 1
    fi
}
for name in phone hash arena table directory hostile; do
    "${compile[@]}" "${sources[@]}" "tests/test_$name.c" -o "$folder/test_$name" "${libraries[@]}"
    run "$name" timeout 300 qemu-aarch64 "$folder/test_$name"
done
run "directory, scalar" env NUMBERD_LOOKUP=scalar timeout 300 qemu-aarch64 "$folder/test_directory"
"${compile[@]}" tests/test_ring.c -o "$folder/test_ring" "${libraries[@]}"
run ring timeout 300 qemu-aarch64 "$folder/test_ring"
echo "arm64: $passed passed, 0 failed"
