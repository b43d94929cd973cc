#!/usr/bin/env bash
# Runs the tests of the tiers against a real Redis server, and fails if there is none. Debian's
# package is installed first if the server is missing and this is root.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v redis-server >/dev/null && ! command -v valkey-server >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get install --yes --no-install-recommends redis-server
    else
        echo "no redis-server: install it, for instance by apt-get install redis-server" >&2
        exit 1
    fi
fi
cargo test --locked -p zswap-tier-object-store -p zswap-tier-redis
