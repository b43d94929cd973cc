#!/usr/bin/env bash
# Runs the suites and tests under ThreadSanitizer. Needs nightly with rust-src, because std is built
# with the sanitizer, which would not see std's locks and channels otherwise. It does not model
# fences. The false reports that this causes are listed in ci/tsan.supp, with reasons, and name no
# code of ours.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "skipped: sanitizers need a nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
if [ ! -d "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library" ]; then
    echo "skipped: the thread sanitizer needs std's source" \
        "(rustup component add rust-src --toolchain nightly)"
    exit 0
fi
if grep -vE '^(#|$)' ci/tsan.supp | grep -E 'zpool|zswap|workload|conformance'; then
    echo "ci/tsan.supp names our own code" >&2
    exit 1
fi
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/tsan"
# Makes rustix call libc instead of the kernel, so that the sanitizer sees memory being unmapped and
# mapped again.
export RUSTFLAGS="-Zsanitizer=thread --cfg rustix_use_libc ${RUSTFLAGS:-}"
export TSAN_OPTIONS="suppressions=$PWD/ci/tsan.supp halt_on_error=1 ${TSAN_OPTIONS:-}"
export CARGO_PROFILE_TEST_OPT_LEVEL=1 CARGO_PROFILE_DEV_OPT_LEVEL=1
packages=${*:-zpool-core zpool-zbud zpool-zsmalloc zpool-manager zswap zswap-cache}
# One test adds up what this process maps and excludes from core dumps, and that would include the
# sanitizer's shadow.
cargo +nightly test -Zbuild-std --quiet --locked --target "$host" --tests \
    $(printf -- '-p %s ' $packages) -- --skip pool_memory_is_left_out_of_core_dumps_when_asked
