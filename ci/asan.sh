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
# Tests leak on purpose: guards and handles that somebody forgets.
export ASAN_OPTIONS="detect_leaks=0 ${ASAN_OPTIONS:-}"
export CARGO_PROFILE_TEST_OPT_LEVEL=1 CARGO_PROFILE_DEV_OPT_LEVEL=1
packages=${*:-zpool-core zpool-zbud zpool-zsmalloc zpool-manager zswap zpool-lz4 zpool-lzo zpool-pagelz zpool-zstd}
# One test measures what is resident of its process, and the sanitizer's shadow would be part of it; another what zstd takes from the heap, and zstd asks for other
# sizes here.
cargo +nightly test --quiet --locked --target "$host" --tests $(printf -- '-p %s ' $packages) -- --skip reclaimed_pages_are_gone_for_the_system_too \
    --skip a_dictionary_is_held_once_and_freed_with_its_last_user
# The reference pools and those of the docs. Not the planted ones: they have bugs.
[ $# -gt 0 ] || cargo +nightly test --quiet --locked --target "$host" -p zpool-conformance --test reference --test tutorial --test compressors
