#!/usr/bin/env bash
# Runs the parts of zswap's tests that only long runs finish.
#
#   ci/soak.sh [SECONDS]     about this long in all (600)
#
#   model_threads   threads against maps, with each policy, while plug-ins fail and pools switch
#   soak            orders of keys and kinds of hashes, limits that change, stores that were full,
#                   many retired pools
#   drain_threads   ten million operations while two threads drain and pools switch, on top of that
#
# Seeds differ from run to run; a failure names its seed. Building takes time of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
# Six parts, one after another: two policies, four tests. Each ends its last round after its time.
export ZSWAP_SOAK_SECONDS=$(((seconds + 5) / 6))
suite="cargo test --release --locked -p zswap --test suite --"
$suite model_threads:: soak:: --test-threads=1
ZSWAP_DRAIN_OPERATIONS=10000000 \
    $suite drain_threads:: --nocapture
