#!/usr/bin/env bash
# The released programs are hardened as CMakeLists.txt says (numberd_hardening): readelf looks for what each flag leaves in
# a program. Small programs that lack one each show that a lack would be seen.
#   bash tests/test_hardening.sh FOLDER    the one with the programs
set -euo pipefail
programs=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# faults PROGRAM: what it lacks, a word each.
faults() {
    local headers dynamic symbols
    headers=$(readelf -Whl "$1")
    dynamic=$(readelf -Wd "$1")
    symbols=$(readelf -W --dyn-syms "$1")
    # A shared library is a DYN, too.
    grep -q 'Type: *DYN ' <<<"$headers" && grep -q '(FLAGS_1).* PIE' <<<"$dynamic" || echo pie
    grep -q '^ *GNU_RELRO ' <<<"$headers" || echo relro
    grep -q '(FLAGS) .*BIND_NOW' <<<"$dynamic" || echo now
    grep -q '^ *GNU_STACK .* RW  *0x' <<<"$headers" || echo noexecstack
    # Constants in the segment of the code can be executed.
    ! grep -q ' \.text .* \.rodata ' <<<"$headers" || echo separate-code
    grep -q ' UND __stack_chk_fail@' <<<"$symbols" || echo stack-protector
    grep -qE ' UND __[a-z]*(cpy|printf|set|read)_chk@' <<<"$symbols" || echo fortify
    ! grep -qE '\((RPATH|RUNPATH)\)' <<<"$dynamic" || echo rpath
}

passed=0
# expect PROGRAM FAULT...
expect() {
    local program=$1 found
    shift
    found=$(faults "$program" | tr '\n' ' ')
    if [ "$found" != "${*:+$* }" ]; then
        echo "$(basename "$program") lacks: ${found:-nothing}; expected: ${*:-nothing}" >&2
        exit 1
    fi
    passed=$((passed + 1))
}

for name in numberd numberctl numberload; do
    expect "$programs/$name"
done

cat >"$work/small.c" <<'END'
#include <stdio.h>
#include <string.h>
int main(int count, char **words)
{
    char room[16];
    memcpy(room, words[0], (size_t)count);
    return puts(room);
}
END
all=(-O2 -fstack-protector-strong -D_FORTIFY_SOURCE=3 -fPIE -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code)
# small FAULT... [-- OPTION...]: with all options, then these, which take something back.
small() {
    local expected=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        expected+=("$1")
        shift
    done
    gcc "${all[@]}" "${@:2}" "$work/small.c" -o "$work/small" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    expect "$work/small" "${expected[@]}"
}
small
small pie -- -fno-pie -no-pie
small relro -- -Wl,-z,norelro
small now -- -Wl,-z,lazy
small noexecstack -- -Wl,-z,execstack
small separate-code -- -Wl,-z,noseparate-code
small stack-protector -- -fno-stack-protector
small fortify -- -U_FORTIFY_SOURCE
small rpath -- -Wl,-rpath,/nowhere
echo "$passed passed, 0 failed"
