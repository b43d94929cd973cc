#!/usr/bin/env bash
# Runs the suites and tests under AddressSanitizer. Needs nightly. C in zstd is not instrumented.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "skipped: sanitizers need a nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/asan"
export RUSTFLAGS="-Zsanitizer=address ${RUSTFLAGS:-}"
# Tests leak guards and handles on purpose.
export ASAN_OPTIONS="detect_leaks=0 ${ASAN_OPTIONS:-}"
export CARGO_PROFILE_TEST_OPT_LEVEL=1 CARGO_PROFILE_DEV_OPT_LEVEL=1
packages=${*:-zpool-core zpool-zbud zpool-zsmalloc zpool-manager zswap zpool-lz4 zpool-lzo}
[ $# -gt 0 ] || packages+=" zpool-pagelz zpool-zstd"
test=(cargo +nightly test --quiet --locked --target "$host")
# One test measures the resident bytes of its process, which would include the sanitizer's shadow.
# Another measures what zstd takes from the heap, and zstd asks for other sizes here.
"${test[@]}" --tests $(printf -- '-p %s ' $packages) -- \
    --skip reclaimed_pages_are_not_resident \
    --skip dictionary_is_shared_and_freed_with_last_user
# The reference pools and those of the docs. The planted ones have bugs.
[ $# -gt 0 ] ||
    "${test[@]}" -p zpool-conformance --test reference --test tutorial --test compressors
