#!/usr/bin/env bash
# Checks the packages as crates.io would get them.
#
#   1. `cargo publish --dry-run` takes all of them: metadata, files, order.
#   2. Their tests and examples compile from the packaged files alone. They run in the checkout.
#   3. A crate of a reader who has seen README.md only builds and runs against those files, and
#      compiles against the git address, with that of this checkout in its place (ci/reader.py).
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
# The same folder as ever: what crates.io has is built once for all.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

rm -rf "$CARGO_TARGET_DIR/package"
# Compiling them is left to step 2, which does it once for all.
cargo publish --workspace --dry-run --no-verify --allow-dirty --locked --quiet
cargo package $(ci/published.sh) --no-verify --allow-dirty --locked --quiet
mkdir "$scratch/packages"
# -m: files in a package are all of one old date, by which cargo would take them for built.
for crate in "$CARGO_TARGET_DIR"/package/*.crate; do
    tar -xmzf "$crate" -C "$scratch/packages"
done
cp Cargo.lock "$scratch"
ci/reader.py README.md "$scratch"
cd "$scratch"
cargo check --workspace --all-targets --quiet
for program in reader/src/bin/*.rs; do
    cargo run --quiet -p reader --bin "$(basename "$program" .rs)"
done
ls packages | sed 's/^/packaged, and built alone: /'
cd "$root"
# The address in README.md is a placeholder, so this checkout's stands in for it. cargo cannot fetch
# from a shallow clone.
if [ "$(git rev-parse --is-shallow-repository 2>/dev/null)" != false ]; then
    echo "no complete clone: the programs of README.md were not built from git"
    exit 0
fi
ci/reader.py README.md "$scratch/git" --git "file://$root"
cp Cargo.lock "$scratch/git"
cd "$scratch/git" && cargo check --quiet
echo "the programs of README.md build outside, from packages and from git"
