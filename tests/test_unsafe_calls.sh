#!/usr/bin/env bash
# No call that writes without a bound in what is shipped, and no formatting at all where bytes from the network are
# handled. (That formats are literals the compiler sees to: -Wformat=2 in CMakeLists.txt.)
#   bash tests/test_unsafe_calls.sh SOURCE_FOLDER
set -euo pipefail
cd "$1"

failed=0
# forbid PATTERN REASON FILE...
forbid() {
    if grep -nHP "$1" "${@:3}"; then
        echo "^ $2"
        failed=$((failed + 1))
    fi
}

mapfile -t shipped < <(find hashing ring persist server loadtest -name '*.[ch]')
forbid '\b(v?sprintf|strcpy|strcat|stpcpy|gets)\s*\(' 'writes as much as there is: snprintf, memcpy with a checked length' \
    "${shipped[@]}"
forbid '\b(strncpy|strncat|stpncpy)\s*\(' 'leaves text without its end, or counts from the wrong one: snprintf, memcpy' \
    "${shipped[@]}"
# hiredis does not let the compiler check its formats.
forbid '\bredis(v|Append|vAppend|Async|vAsync|Format|vFormat)?Command\s*\((?![^,]*,\s*")' 'takes a format that is not a literal' \
    $(find persist server -name '*.[ch]')

# These have bytes of others in their hands: the protocol's parts by name, and who reads a socket or keeps what was read.
# Not the library for clients, whose messages are its own text and codes, each with snprintf.
mapfile -t networked < <({
    printf '%s\n' server/wire.[ch] server/session.[ch] server/requests.[ch] server/buffer.[ch]
    find server -name 'proxy.[ch]'
    grep -lE '\b(recv|recvmsg|recvfrom|buffer_append|buffer_reserve)\(' server/*.[ch]
} | grep -vx 'server/client\.c' | sort -u)
# A message without anything put into it is none.
forbid 'printf\s*\((?![^"%]*"[^"%]*"\))' 'formats in a file that handles bytes from the network' "${networked[@]}"

[ "$failed" -eq 0 ] && echo '4 passed, 0 failed' || echo "$((4 - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
