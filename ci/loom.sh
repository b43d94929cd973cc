#!/usr/bin/env bash
# Runs the loom models, each with its own bounds. They need a build of their own, in which every
# lock and atomic is loom's.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTFLAGS="--cfg zpool_loom ${RUSTFLAGS:-}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
for folder in zpool-core zpool-zsmalloc pool-manager zswap zpool-region; do
    package=$(sed -n 's/^name = "\(.*\)"/\1/p' "$folder/Cargo.toml" | head -n 1)
    # Models of private parts are unit tests called loom_*, the others are test programs.
    cargo test --release --locked -p "$package" --lib loom_
    for model in "$folder"/tests/loom*.rs; do
        [ -e "$model" ] || continue
        cargo test --release --locked -p "$package" --test "$(basename "$model" .rs)"
    done
done
