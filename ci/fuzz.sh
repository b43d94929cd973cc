#!/usr/bin/env bash
# Runs the fuzz targets one after the other, and prints the number of executions of each.
#
#   ci/fuzz.sh [SECONDS [TARGET...]]
#
#   SECONDS   time per target (60)
#   TARGET    of zbud, zsmalloc, lz4, lz4_flex, lzo, zstd, zstd_dict, pagelz, pagelz_dense,
#             pagelz_slow, store, tier; all of them if none is named
#
# Runs under AddressSanitizer with the flags of cargo-fuzz, which need not be installed. If it is,
# `cargo fuzz run TARGET` works too. Needs a nightly toolchain and a C++ compiler. Interesting
# inputs are in fuzz/corpus, failing ones in fuzz/artifacts. A target that takes actions prints the
# failing list for `zlab replay`. Such a list is also an input: `PROGRAM FILE`, or a file in
# fuzz/corpus.
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
[ $# -gt 0 ] || set -- zbud zsmalloc lz4 lz4_flex lzo zstd zstd_dict \
    pagelz pagelz_dense pagelz_slow store tier

host=$(rustc +nightly -vV | sed -n 's/^host: //p')
target_dir=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
flags="--cfg fuzzing -Zsanitizer=address -Ccodegen-units=1 -Cpasses=sancov-module"
for coverage in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=" -Cllvm-args=-sanitizer-coverage-$coverage"
done
RUSTFLAGS="$flags ${RUSTFLAGS:-}" CARGO_TARGET_DIR="$target_dir" \
    cargo +nightly build --release --locked --quiet --manifest-path fuzz/Cargo.toml \
    --target "$host" $(printf -- '--bin %s ' "$@")

failed=0
for target in "$@"; do
    program="$target_dir/$host/release/$target"
    corpus=fuzz/corpus/$target artifacts=fuzz/artifacts/$target
    mkdir -p "$corpus" "$artifacts"
    log=$(mktemp)
    # Actions leak guards and handles on purpose.
    if ASAN_OPTIONS="detect_leaks=0 ${ASAN_OPTIONS:-}" "$program" "$corpus" \
        -artifact_prefix="$artifacts/" -max_total_time="$seconds" -max_len=2048 -timeout=20 \
        -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1; then
        executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        echo "$target: $executions executions in $seconds s, no finding"
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
