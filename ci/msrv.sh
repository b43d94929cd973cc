#!/usr/bin/env bash
# Checks that the workspace compiles with the oldest Rust that its manifests promise, if that
# toolchain is installed. clippy's `incompatible_msrv` finds most of what would not.
set -euo pipefail
cd "$(dirname "$0")/.."
oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if ! cargo "+$oldest" --version >/dev/null 2>&1; then
    echo "Rust $oldest is not installed, so only clippy checked it:" \
        "rustup toolchain install $oldest --profile minimal"
    exit 0
fi
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/msrv" \
    cargo "+$oldest" check --workspace --all-features --locked
echo "compiles with Rust $oldest"
