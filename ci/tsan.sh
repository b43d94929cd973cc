#!/usr/bin/env bash
# Runs the suites and tests under ThreadSanitizer. Needs nightly with rust-src: std is built with it, since its locks and channels are not seen otherwise. Fences
# are not modelled: what that makes it report is listed, with reasons, in ci/tsan.supp, where nothing of ours is named.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "skipped: sanitizers need a nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
if [ ! -d "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library" ]; then
    echo "skipped: the thread sanitizer needs std's source (rustup component add rust-src --toolchain nightly)"
    exit 0
fi
if grep -vE '^(#|$)' ci/tsan.supp | grep -E 'zpool|zswap|workload|conformance'; then
    echo "ci/tsan.supp names our own code" >&2
    exit 1
fi
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/tsan"
# rustix calls libc then instead of the kernel, so that memory which is unmapped and mapped again is seen to be another.
export RUSTFLAGS="-Zsanitizer=thread --cfg rustix_use_libc ${RUSTFLAGS:-}"
export TSAN_OPTIONS="suppressions=$PWD/ci/tsan.supp halt_on_error=1 ${TSAN_OPTIONS:-}"
export CARGO_PROFILE_TEST_OPT_LEVEL=1 CARGO_PROFILE_DEV_OPT_LEVEL=1
packages=${*:-zpool-core zpool-zbud zpool-zsmalloc zpool-manager zswap}
# One test adds up what this process maps and leaves out of core dumps, and the sanitizer's own shadow, which comes and goes with what it shadows, is left out, too.
cargo +nightly test -Zbuild-std --quiet --locked --target "$host" --tests $(printf -- '-p %s ' $packages) -- --skip pool_memory_is_left_out_of_core_dumps_when_asked
