#!/usr/bin/env bash
# Compares the public API with that of the last release, the newest tag `vX.Y.Z`, if there is one
# and cargo-semver-checks is installed (`cargo install cargo-semver-checks --locked`).
set -euo pipefail
cd "$(dirname "$0")/.."
baseline=$(git tag --list 'v[0-9]*' --sort=-v:refname | head -n 1)
if [ -z "$baseline" ]; then
    echo "no tag of a release to compare with: nothing was published yet"
elif ! cargo semver-checks --version >/dev/null 2>&1; then
    echo "cargo-semver-checks is not installed, so the API was not compared with $baseline"
else
    cargo semver-checks --workspace --baseline-rev "$baseline"
fi
