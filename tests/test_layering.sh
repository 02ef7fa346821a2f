#!/usr/bin/env bash
# The direction of the folders (CMakeLists.txt): no folder includes what it must not know. The build's include paths
# forbid most of it; this also covers the libraries, whose headers every compiler finds.
set -u
cd "$1" || exit 2
failed=0

# forbid FOLDER PATTERN: no #include in FOLDER matches the pattern.
forbid() {
    local found
    found=$(grep -rnE "^ *# *include *[<\"]($2)" "$1" --include='*.c' --include='*.h')
    [ -z "$found" ] && return
    printf '%s\n' "$found"
    failed=$((failed + 1))
}

libraries='event2|curl/|hiredis|sodium|openssl|zstd|jansson|ini\.h|csv\.h|jemalloc'
forbid hashing "$libraries|ring/|persist/|server/|loadtest/|tests/"
forbid ring "$libraries|xxhash|hashing/|persist/|server/|loadtest/|tests/"
forbid persist 'event2|jemalloc|server/|loadtest/|tests/'
forbid persist/registrations 'ring/|persist/querylog/'
forbid persist/redis 'hashing/|ring/|persist/(querylog|registrations)/'
forbid persist/querylog 'hashing/|persist/registrations/'
forbid loadtest 'event2|server/(session|connections|worker|acceptor|requests|recorder)|tests/'
# Of the load tester only the benchmarks know the table and what it stands on, the files of registrations, and the query log.
for file in loadtest/load_*.[ch] loadtest/numberload.c loadtest/population.[ch]; do
    if grep -nHE '^ *# *include *["<](hashing/(table|directory|epoch|hash|pages|layout|lookup)|persist/|ring/|hiredis/)' "$file"; then
        failed=$((failed + 1))
    fi
done
# In server/ only the programs' own files may know persist.
for file in server/*.[ch]; do
    case $file in server/numberd.c | server/app.h | server/app_*.c | server/log.[ch] | server/suspicions.[ch] | server/config.[ch] | server/config_settings.[ch] | server/ports.[ch] | server/privileges.[ch] | server/succession.[ch] | server/supervisor.[ch] | server/loader.[ch] | server/durability.[ch] | server/feeding.[ch] | server/sharing.[ch] | server/snapshots.[ch] | server/replacement.[ch] | server/ctl_*.[ch]) continue ;; esac
    if grep -nHE '^ *# *include *"(persist|loadtest|tests)/' "$file"; then
        failed=$((failed + 1))
    fi
done
[ "$failed" -eq 0 ] && echo '1 passed, 0 failed' || echo "0 passed, $failed failed"
[ "$failed" -eq 0 ]
