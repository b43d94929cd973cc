#!/usr/bin/env bash
# Prints the packages that are published, one per line, each after the option that chooses it.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo metadata --no-deps --locked --format-version 1 | python3 -c '
import json, sys
for package in json.load(sys.stdin)["packages"]:
    if package["publish"] != []:
        print("-p", package["name"])'
