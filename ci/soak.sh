#!/usr/bin/env bash
# Runs the threads of zswap's model test for as long as told, with each policy: ci/soak.sh [SECONDS]   (600 unless told otherwise)
set -euo pipefail
cd "$(dirname "$0")/.."
ZSWAP_SOAK_SECONDS=${1:-600} cargo test --release --locked -p zswap --test model_threads
