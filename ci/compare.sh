#!/usr/bin/env bash
# Compares the figures of the report programs between this checkout and another one, in one run.
#
#   ci/compare.sh [--rounds N] [--pages FILE]... BASE [PROGRAM...]
#
#   BASE      folder of the other checkout, the state before
#   PROGRAM   of overhead, zsmalloc, store, metadata, manager; all of them if none is named.
#             The first three need pages.
#   --pages   a file of pages that those three run on; give several for several workloads
#   --rounds  runs of each program on each side (5)
#   ARGS_overhead="--codec lz4", ARGS_zsmalloc="--only churn", ...   further arguments for a program
#   OUT=folder   where builds and reports are kept (target/compare)
#
# Each side is built into a folder of its own, so that neither replaces the other. The two sides run
# in turns, ABBA, on the same pages. Prints, for each figure, both medians and their ratio, and
# marks what got worse by more than 2 %. Fails if anything did. On a busy machine, give more rounds:
# where the ranges of both sides overlap, the line says so.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '4,13s/^# \{0,3\}//p' "$0" >&2; exit 2; }

rounds=5 pages=()
while [ $# -gt 0 ]; do
    case $1 in
        --rounds) rounds=${2:?}; shift 2 ;;
        --pages) pages+=("$(realpath "${2:?}")"); shift 2 ;;
        -*) usage ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] && [ "$rounds" -gt 0 ] || usage
base=$(realpath "$1"); shift
[ $# -gt 0 ] || set -- overhead zsmalloc store metadata manager
for program in "$@"; do
    case $program in
        overhead | zsmalloc | store)
            [ ${#pages[@]} -gt 0 ] || { echo "$program needs --pages" >&2; exit 2; } ;;
        metadata | manager) ;;
        *) usage ;;
    esac
done

out=${OUT:-target/compare}
rm -rf "$out/reports"
mkdir -p "$out/reports"
out=$(realpath "$out")
bins=(); for program in "$@"; do bins+=(--bin "$program"); done
for side in base head; do
    [ $side = base ] && from=$base || from=$PWD
    (cd "$from" &&
        CARGO_TARGET_DIR="$out/$side" cargo build --release --locked -p benches "${bins[@]}")
done

# One run; the report says by its name what it is of.
run() {
    local side=$1 program=$2 round=$3 further=ARGS_$2 arguments=() files=("")
    read -ra arguments <<<"${!further:-}"
    case $program in overhead | zsmalloc | store) files=("${pages[@]}") ;; esac
    local file name
    for file in "${files[@]}"; do
        name=$(basename "${file:-none}" | tr . _)
        "$out/$side/release/$program" ${file:+"$file"} "${arguments[@]}" --json \
            >"$out/reports/$program.$name.$round.$side.json"
    done
}

for ((round = 1; round <= rounds; round++)); do
    for program in "$@"; do
        echo "round $round of $rounds: $program" >&2
        if [ $((round % 2)) = 1 ]; then sides="base head"; else sides="head base"; fi
        for side in $sides; do run "$side" "$program" "$round"; done
    done
done
python3 ci/compare.py "$out/reports"
