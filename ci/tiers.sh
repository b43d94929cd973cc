#!/usr/bin/env bash
# Runs the tests of the tiers, those of Redis against a real server. Where the server is missing and
# this is root, Debian's package is installed first. Without a server, its tests say that they are
# skipped.
#
#   ci/tiers.sh [--install]
#
#   --install   only install the server: the tests of the workspace then use it
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v redis-server >/dev/null && ! command -v valkey-server >/dev/null &&
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get install --yes --no-install-recommends redis-server ||
        echo "skipped: redis-server is not installed and cannot be: see apt-get's message" >&2
fi
[ "${1:-}" = --install ] || cargo test --locked -p zswap-tier-object-store -p zswap-tier-redis
