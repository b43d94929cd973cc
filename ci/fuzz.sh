#!/usr/bin/env bash
# Runs each fuzz target for so many seconds, one after the other, and prints the number of executions.
#
#   ci/fuzz.sh [SECONDS [TARGET...]]     60 seconds; all targets
#
# Under AddressSanitizer, with the flags that cargo-fuzz gives (which need not be installed; `cargo fuzz run TARGET` works, too, where it is). Needs a nightly
# toolchain and a C++ compiler. Inputs that were worth keeping are in fuzz/corpus, those that failed in fuzz/artifacts. Of a target that takes actions, the list
# that failed is printed as `zlab replay` takes it; and a list that others printed is an input: `PROGRAM FILE`, or a file in fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "skipped: fuzzing needs a nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
if ! command -v "${CXX:-c++}" >/dev/null 2>&1; then
    echo "skipped: fuzzing needs a C++ compiler"
    exit 0
fi
seconds=${1:-60}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- zbud zsmalloc lz4 lzo zstd zstd_dict \
    pagelz pagelz_dense pagelz_slow store

host=$(rustc +nightly -vV | sed -n 's/^host: //p')
target_dir=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
RUSTFLAGS="--cfg fuzzing -Zsanitizer=address $coverage ${RUSTFLAGS:-}" CARGO_TARGET_DIR="$target_dir" \
    cargo +nightly build --release --locked --quiet --manifest-path fuzz/Cargo.toml --target "$host" $(printf -- '--bin %s ' "$@")

failed=0
for target in "$@"; do
    program="$target_dir/$host/release/$target"
    corpus=fuzz/corpus/$target artifacts=fuzz/artifacts/$target
    mkdir -p "$corpus" "$artifacts"
    log=$(mktemp)
    # Guards and handles that somebody forgets leak on purpose.
    if ASAN_OPTIONS="detect_leaks=0 ${ASAN_OPTIONS:-}" "$program" "$corpus" -artifact_prefix="$artifacts/" -max_total_time="$seconds" \
        -max_len=2048 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions in $seconds s, no finding"
    else
        failed=1
        tail -n 60 "$log"
        echo "$target: FAILED; its list of actions, if it has one:"
        input=$(ls -t "$artifacts"/* 2>/dev/null | head -n 1)
        [ -z "$input" ] || PRINT_ACTIONS=1 "$program" "$input" 2>/dev/null || true
    fi
    rm -f "$log"
done
exit $failed
