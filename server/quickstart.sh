#!/usr/bin/env bash
# From a fresh Debian 12 to a running numberd: installs, builds, starts, imports a sample, looks numbers up, shows the
# trace that this left and where the stats page is. Without arguments the server then stays in the foreground until
# Ctrl-C; with --check everything is stopped, and the status is 0 only if every answer was right.
set -euo pipefail
cd "$(dirname "$0")/.."

check=no
case "${1:-}" in
'') ;;
--check) check=yes ;;
-h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
*) echo "usage: bash server/quickstart.sh [--check]" >&2; exit 64 ;;
esac

step() { printf '== %s\n' "$*"; }
wrong=0
# expect WHAT EXPECTED GOT: shows what was got, and remembers when it is not what should be.
expect() {
    printf '   %s: %s\n' "$1" "$3"
    [ "$2" = "$3" ] || { printf '   WRONG, expected: %s\n' "$2" >&2; wrong=$((wrong + 1)); }
}

step "packages"
bash server/install-dependencies.sh build

step "build (release)"
cmake --preset release >/dev/null
cmake --build --preset release | tail -n 1
bin=build/release/bin

work=$(mktemp -d)
server_pid=
cleanup() {
    if [ -n "$server_pid" ] && kill "$server_pid" 2>/dev/null; then wait "$server_pid" || true; fi
    rm -rf "$work"
}
trap cleanup EXIT
if [ $check = yes ]; then
    data=$work/data
    address=127.0.0.1:0
    stats=127.0.0.1:0
else
    data=build/quickstart-data
    address=127.0.0.1:4164
    stats=127.0.0.1:4165
fi

step "start numberd, data in $data"
"$bin/numberd" --data-dir "$data" --listen "$address" --stats-listen "$stats" 2>"$work/log" &
server_pid=$!
until grep -q 'ready:' "$work/log"; do
    kill -0 "$server_pid" 2>/dev/null || { cat "$work/log" >&2; server_pid=; exit 69; }
    sleep 0.05
done
read -r address stats < <(sed -nE 's|.* lookups on ([^,]*), stats on http://([^/]*)/.*|\1 \2|p' "$work/log")
echo "   lookups on $address, stats on http://$stats/"

step "import a sample: three accounts by hand (one hidden), 10,000 generated"
printf 'number,account,flags\n+447700900123,1001,0\n+12025550123,1002,0\n+33639980123,1003,1\n' >"$work/sample.csv"
"$bin/numberload" generate --count 10000 | tail -n +2 >>"$work/sample.csv"
report=$("$bin/numberctl" import --server "$address" --rejects "$work/rejects" "$work/sample.csv")
expect "import" "10003 rows" "${report%%:*}"

step "look numbers up"
bubble() {
    local status
    status=$("$bin/numberctl" lookup --server "$address" --requester 42 --ip 203.0.113.9 "$1" | cut -f2)
    case $status in
    registered) echo "registered: blue bubble, over the service" ;;
    'not registered') echo "not registered: green bubble, as SMS" ;;
    *) echo "$status" ;;
    esac
}
expect "+447700900123" "registered: blue bubble, over the service" "$(bubble +447700900123)"
expect "+12025550123" "registered: blue bubble, over the service" "$(bubble +12025550123)"
expect "+33639980123 (hidden)" "not registered: green bubble, as SMS" "$(bubble +33639980123)"
expect "+447700900999" "not registered: green bubble, as SMS" "$(bubble +447700900999)"
expect "the generated ones and their neighbours" "10000 registered, 10000 neighbours not registered, 0 wrong" \
    "$("$bin/numberload" verify --server "$address" --count 10000)"

step "the trace that this left: who asked about +447700900123"
sleep 0.3 # events reach the log within a tenth of a second
"$bin/numberctl" disclose --order 2026-77 --authority "District Court" --basis "section 12" --from 2026-01-01 --until 2037-01-01 \
    --number +447700900123 --key "$data/officer.private" --data-dir "$data" --output "$work/disclosed" | sed 's/^/   /'
sed 's/^/   /' "$work/disclosed/records.csv" | tee "$work/trace"
expect "the officer's signature" "as the officer signed it" "$("$bin/numberctl" verify "$work/disclosed" --key "$data/officer.verify")"
expect "its last line, without the time" "+447700900123,registered,42,203.0.113.9" "$(tail -n 1 "$work/trace" | cut -d, -f2-5)"

step "the stats page: http://$stats/"
expect "readiness" "ready" "$(curl -s "http://$stats/readyz")"

if [ $check = yes ]; then
    step "stop"
    kill "$server_pid"
    status=0
    wait "$server_pid" || status=$?
    server_pid=
    expect "exit status of numberd" 0 "$status"
    [ $wrong -eq 0 ] && step "everything was right" || step "$wrong answers were wrong"
    [ $wrong -eq 0 ]
    exit
fi
[ $wrong -eq 0 ] || { echo "$wrong answers were wrong" >&2; exit 1; }
step "the server runs; try: $bin/numberctl lookup +447700900123   Ctrl-C stops it"
trap 'kill "$server_pid" 2>/dev/null' INT TERM
while kill -0 "$server_pid" 2>/dev/null; do wait "$server_pid" || true; done
server_pid=
tail -n 3 "$work/log"
