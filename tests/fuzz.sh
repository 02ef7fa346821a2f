#!/usr/bin/env bash
# Runs the fuzz targets of the fuzz preset (cmake --build --preset fuzz) and says how many inputs each has tried.
#   tests/fuzz.sh [--seconds N] [--jobs J] [--only TARGET] [--bin DIR]
# The committed seeds (tests/fuzz/corpus/TARGET) are only read. New inputs stay in DIR/corpus/TARGET, from where the next run
# goes on; what crashes stays in DIR/crashes.
set -euo pipefail

# Target, share of the time, longest input, further options. The share of the wire is large since it has most of the
# executions, that of slow ones since they need it.
targets() {
    cat <<END
fuzz_wire    10  320
fuzz_proxy   10  128
fuzz_session  2  1024
fuzz_frame    2  4096
fuzz_rows     2  1024  -dict=$here/fuzz/fuzz_rows.dict
fuzz_config   1  512   -dict=$here/fuzz/fuzz_config.dict
fuzz_tokens   1  1024  -dict=$here/fuzz/fuzz_tokens.dict
fuzz_snapshot 2  8192
fuzz_journal  1  2048
fuzz_segment  1  4096
fuzz_feed     1  2048
fuzz_redis    2  4096  -dict=$here/fuzz/fuzz_redis.dict
END
}

usage() {
    cat <<END
usage: tests/fuzz.sh [--seconds N] [--jobs J] [--only TARGET] [--bin DIR]
  --seconds N    for all together (default: \$NUMBERD_FUZZ_SECONDS, or 60)
  --jobs J       so many targets at once (default: one a processor)
  --only TARGET  this one alone, or several, by repeating it
  --bin DIR      where the targets are (default build/fuzz/tests)
targets: $(targets | awk '{printf "%s%s", sep, $1; sep = " "}')
END
}

refuse() {
    echo "tests/fuzz.sh: $1; --help says what is understood" >&2
    exit 64
}

is_count() { [[ $1 =~ ^[1-9][0-9]{0,8}$ ]]; }

here=$(cd "$(dirname "$0")" && pwd)
seconds=${NUMBERD_FUZZ_SECONDS:-60}
jobs=$(nproc)
bin=$here/../build/fuzz/tests
only=()
while [ $# -gt 0 ]; do
    case $1 in
    --help) usage; exit 0 ;;
    --seconds | --jobs | --only | --bin) [ $# -gt 1 ] || refuse "$1 wants a value" ;;
    *) refuse "\"$1\" is not understood" ;;
    esac
    case $1 in
    --seconds) seconds=$2 ;;
    --jobs) jobs=$2 ;;
    --only) only+=("$2") ;;
    --bin) bin=$2 ;;
    esac
    shift 2
done
is_count "$seconds" || refuse "--seconds is \"$seconds\", but must be an integer above 0"
is_count "$jobs" || refuse "--jobs is \"$jobs\", but must be an integer above 0"
for target in "${only[@]}"; do
    targets | grep -q "^$target " || refuse "there is no target \"$target\""
done
[ -d "$bin" ] || refuse "there is no folder $bin: cmake --preset fuzz && cmake --build --preset fuzz, or --bin"
bin=$(cd "$bin" && pwd)

plan=$(targets | while read -r target rest; do
    [ ${#only[@]} -gt 0 ] && [[ " ${only[*]} " != *" $target "* ]] || echo "$target $rest"
done)
shares=$(awk '{sum += $2} END {print sum}' <<<"$plan")
count=$(wc -l <<<"$plan")
[ "$jobs" -le "$count" ] || jobs=$count
# In memory: the targets that read files have them there, and one that crashes leaves them behind.
logs=$(mktemp -d -p /dev/shm numberd-fuzz-XXXXXX)
trap 'rm -rf "$logs"' EXIT
export TMPDIR=$logs

# run_target TARGET SHARE LENGTH OPTION...: its line of the report, and PASS or FAIL in a file.
run_target() {
    local target=$1 share=$2 length=$3 log=$logs/$1
    local own=$((seconds * jobs * share / shares)) corpus=$bin/corpus/$1 crashes=$bin/crashes/$1
    shift 3
    mkdir -p "$corpus" "$crashes" "$here/fuzz/corpus/$target"
    local status=0
    "$bin/$target" -max_total_time=$((own > 0 ? own : 1)) -max_len="$length" -timeout=20 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="$crashes/" "$@" "$corpus" "$here/fuzz/corpus/$target" >"$log" 2>&1 || status=$?
    awk -v target="$target" -v status="$status" -v files="$(find "$corpus" -type f | wc -l)" '
        /^stat::number_of_executed_units/ {executions = $2}
        /^stat::average_exec_per_sec/ {rate = $2}
        /Test unit written to/ {crash = $NF}
        END {
            printf "%s %-13s executions %d, exec/s %d, corpus %d, crashes %d%s\n", status == 0 ? "PASS" : "FAIL", target,
                executions, rate, files, crash != "", crash == "" ? "" : ": " crash
        }' "$log" | tee "$log.line"
    [ "$status" -eq 0 ] || tail -n 60 "$log"
}

# The longest first, so that the last ones to end are short.
running=0
while read -r -a words; do
    if [ "$running" -ge "$jobs" ]; then
        wait -n || true
        running=$((running - 1))
    fi
    run_target "${words[@]}" &
    running=$((running + 1))
done < <(sort -k2,2nr -s <<<"$plan")
wait

executions=$(cat "$logs"/*.line | awk '{sub(",", "", $4); sum += $4} END {printf "%d", sum}')
passed=$(cat "$logs"/*.line | grep -c '^PASS' || true)
echo "executions $executions"
echo "$passed passed, $((count - passed)) failed"
[ "$passed" -eq "$count" ]
