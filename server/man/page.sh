#!/usr/bin/env bash
# One man page: a page's text, with what the programs say of themselves in place of @HELP@, so that the two cannot differ.
#   page.sh PAGE.scd BIN OUTPUT
set -euo pipefail
page=$1 bin=$2 output=$3
help() {
    case $(basename "$page") in
    numberd.8.scd) "$bin/numberd" --help ;;
    numberd.conf.5.scd) "$bin/numberd" --print-config ;;
    numberload.1.scd) "$bin/numberload" --help ;;
    numberctl.1.scd)
        "$bin/numberctl" --help
        for verb in $("$bin/numberctl" --help | sed -nE 's/^  ([a-z-]+) +[a-z].*/\1/p'); do
            echo
            "$bin/numberctl" "$verb" --help
        done
        ;;
    *) echo "$0: no text for $page" >&2; exit 64 ;;
    esac
}
{
    sed '/^@HELP@$/,$d' "$page"
    # A literal block; the shell's own threads= of this machine would make each build another page.
    echo '```'
    help | sed 's/^threads = .*/# threads =/'
    echo '```'
    sed '1,/^@HELP@$/d' "$page"
} | scdoc >"$output.new"
mv "$output.new" "$output"
