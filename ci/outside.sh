#!/usr/bin/env bash
# Checks that a crate outside the workspace that depends on zswap with default features builds, and
# that no crate in it builds C.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/src"
cat >"$scratch/Cargo.toml" <<TOML
[package]
name = "outside"
version = "0.0.0"
edition = "2024"

[dependencies]
zswap = { path = "$root/zswap" }

[workspace]
TOML
cp "$root/zswap/examples/first.rs" "$scratch/src/main.rs"
cp "$root/Cargo.lock" "$scratch/Cargo.lock"
cd "$scratch"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/outside"
# A compiler that does not exist: a build script that wants one fails.
CC=/nonexistent/cc CXX=/nonexistent/c++ cargo run --quiet
crates=$(cargo tree --edges normal,build --prefix none --format '{p}')
builds_c='^(cc|cmake|bindgen|pkg-config|[a-z0-9_-]+-sys) '
if grep -E "$builds_c" <<<"$crates" | grep -v '^linux-raw-sys '; then
    echo "zswap with default features must not compile C" >&2
    exit 1
fi
echo "builds and runs, no C"
