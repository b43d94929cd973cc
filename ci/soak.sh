#!/usr/bin/env bash
# Runs the parts of zswap's tests that only long runs finish, then a storm with a tier.
#
#   ci/soak.sh [SECONDS [DIR]]   about this long for the tests, and as long for the storm (600).
#                                The tier is an unnamed file of up to 1 GiB in DIR (target)
#
#   model_threads   threads against maps, with each policy, while plug-ins fail and pools switch
#   soak            orders of keys and kinds of hashes, limits that change, stores that were full,
#                   many retired pools
#   drain_threads   ten million operations while two threads drain and pools switch, on top of that
#   storm --tier    a store whose keys hold blocks of 16 times its limit, of which 3/4 are there at
#                   any time. So the limit is less than an eighth of the data, and the rest is in
#                   the file. Pools switch meanwhile, and every block that comes back is verified
#
# Seeds differ from run to run; a failure names its seed. Building takes time of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
dir=${2:-target}
# Six parts, one after another: two policies, four tests. Each ends its last round after its time.
export ZSWAP_SOAK_SECONDS=$(((seconds + 5) / 6))
suite="cargo test --release --locked -p zswap --test suite --"
$suite model_threads:: soak:: --test-threads=1
ZSWAP_DRAIN_OPERATIONS=10000000 \
    $suite drain_threads:: --nocapture
mkdir -p "$dir"
cargo run --release --locked -p zlab -- storm --phase loaded --threads 2 --seconds "$seconds" \
    --limit-mib 64 --policy evict --tier "$dir" --tier-mib 1024
