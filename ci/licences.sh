#!/usr/bin/env bash
# Checks two rules of linking: a crate published under MIT OR Apache-2.0 depends on no GPL code, and
# a program with GPL-2.0-only code links no Apache-2.0-only code. The criterion programs of
# `benches` are built without zpool-lzo, because criterion brings in ciborium, which is Apache-2.0
# only.
set -euo pipefail
cd "$(dirname "$0")/.."
tree() {
    cargo tree --locked -p "$1" --all-features --edges "$2" --prefix none --format '{p}: {l}' |
        sort -u
}
published="zpool-core zpool-zbud zpool-zsmalloc zpool-lz4 zpool-zstd zpool-manager"
bad=0
for package in $published zpool-conformance zswap zswap-cache; do
    crates=$(tree "$package" normal,build)
    if grep -E ': .*GPL' <<<"$crates"; then
        echo "$package must not depend on GPL code" >&2
        bad=1
    fi
done
for package in zlab benches; do
    crates=$(tree "$package" normal,build)
    if grep -E ': (Apache-2\.0|Apache-2\.0 WITH [A-Za-z-]+)( \(\*\))?$' <<<"$crates"; then
        echo "$package is GPL-2.0-only as a whole and must not link Apache-2.0-only code" >&2
        bad=1
    fi
done
if grep -rl 'zpool_lzo' benches/benches $(find benches/src -name '*.rs' -not -path '*/bin/*'); then
    echo "criterion programs must not link zpool-lzo" >&2
    bad=1
fi
exit $bad
