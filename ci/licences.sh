#!/usr/bin/env bash
# Checks two rules of linking: a crate published under MIT OR Apache-2.0 depends on no GPL code, and
# a program with GPL-2.0-only code links no Apache-2.0-only code. The criterion programs of
# `benches` are built without zpool-lzo, because criterion brings in ciborium, which is Apache-2.0
# only. Of the report programs, only `rivals` links Apache-2.0-only code, by foyer and moka.
set -euo pipefail
cd "$(dirname "$0")/.."
tree() {
    cargo tree --locked -p "$1" --all-features --edges "$2" --prefix none --format '{p}: {l}' |
        sort -u
}
bad=0
for package in $(ci/published.sh | sed 's/^-p //' | grep -vx zpool-lzo); do
    crates=$(tree "$package" normal,build)
    if grep -E ': .*GPL' <<<"$crates"; then
        echo "$package must not depend on GPL code" >&2
        bad=1
    fi
done
apache_only() {
    sed 's/ (\*)$//' | grep -E ': (.* AND )?(Apache-2\.0|Apache-2\.0 WITH [A-Za-z-]+)$' || true
}
of_rivals=$(
    for crate in foyer-memory moka; do
        cargo tree --locked -p "$crate" --edges normal,build --prefix none --format '{p}: {l}'
    done | apache_only | sort -u
)
for package in zlab benches; do
    crates=$(tree "$package" normal,build | apache_only | sort -u)
    if [ "$package" = benches ]; then crates=$(comm -23 <(echo "$crates") <(echo "$of_rivals")); fi
    if [ -n "$crates" ]; then
        printf '%s\n%s\n' "$crates" "$package with lzo must not link Apache-2.0-only code" >&2
        bad=1
    fi
done
if grep -rlE '\b(foyer_memory|moka)::' --include='*.rs' benches | grep -v '^benches/src/bin/rivals/'
then
    echo "only rivals may link foyer and moka" >&2
    bad=1
fi
if grep -rlE 'zpool_lzo|lzo1x' benches/src/bin/rivals; then
    echo "rivals must not link GPL code" >&2
    bad=1
fi
if grep -rl 'zpool_lzo' benches/benches $(find benches/src -name '*.rs' -not -path '*/bin/*'); then
    echo "criterion programs must not link zpool-lzo" >&2
    bad=1
fi
exit $bad
