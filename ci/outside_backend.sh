#!/usr/bin/env bash
# Checks that a crate outside the workspace, with a minimal pool of its own, gets the
# whole suite with one line. The pool is that of the tutorial "Writing a back end". The crate has
# nothing besides what is written here.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/src" "$scratch/tests"
cat >"$scratch/Cargo.toml" <<TOML
[package]
name = "shelf"
version = "0.0.0"
edition = "2024"

[dependencies]
zpool-core = { path = "$root/zpool-core" }

[dev-dependencies]
zpool-conformance = { path = "$root/conformance" }

[workspace]
TOML
cp "$root/conformance/tests/tutorial/shelf.rs" "$scratch/src/lib.rs"
cp "$root/Cargo.lock" "$scratch/Cargo.lock"
cat >"$scratch/tests/conformance.rs" <<'RUST'
use shelf::Shelf;
use zpool_core::HandleMint;

zpool_conformance::pool_suite!(shelf_pool, [], |_| {
    Ok(Box::new(Shelf { mint: HandleMint::new(), shelf: Default::default() }))
});
RUST
cd "$scratch"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/outside"
echo "$(grep -cvE '^(//.*)?$' src/lib.rs) lines of pool"
cargo test --quiet --test conformance
