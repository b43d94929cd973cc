#!/usr/bin/env bash
# Runs the loom models, bounded as each says. They need a build of their own: every lock and atomic is loom's there.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTFLAGS="--cfg zpool_loom ${RUSTFLAGS:-}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
for package in zpool-core zpool-zsmalloc zpool-manager; do
    if ls "$(cargo metadata --no-deps --format-version 1 --locked | grep -o "\"manifest_path\":\"[^\"]*/Cargo.toml\"" | cut -d'"' -f4 | while read -r m; do grep -q "^name = \"$package\"" "$m" && dirname "$m"; done)"/tests/loom*.rs >/dev/null 2>&1; then
        cargo test --release --locked -p "$package" --test 'loom*'
    fi
done
