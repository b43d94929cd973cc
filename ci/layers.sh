#!/usr/bin/env bash
# Checks that a crate depends on crates of lower levels only (ARCHITECTURE.md). Dev-dependencies are
# not looked at, because crates of levels 1 to 4 may dev-depend on zpool-conformance, and all may on
# zpool-testing.
set -euo pipefail
cd "$(dirname "$0")/.."
level() {
    case $1 in
        zpool-core) echo 0 ;;
        # For tests only, so that a dependency which is none of the tests' is found at every level.
        zpool-testing) echo 8 ;;
        zpool-zbud | zpool-zsmalloc | zpool-lz4 | zpool-lzo | zpool-pagelz | zpool-zstd) echo 1 ;;
        zpool-manager | zpool-conformance) echo 2 ;;
        zswap | workload) echo 3 ;;
        zswap-cache | zpool-region | zswap-tier-object-store | zswap-tier-redis) echo 4 ;;
        zlab | zrun-preload) echo 5 ;;
        zrun) echo 6 ;;
        benches) echo 7 ;;
        *) echo none ;;
    esac
}
bad=0
tree() { cargo tree --locked --prefix none --format '{p}' "$@" | cut -d' ' -f1 | sed '/^$/d'; }
members=$(tree --workspace --depth 0 | sort -u)
for package in $members; do
    below=$(tree -p "$package" --all-features --edges normal,build --depth 1 | tail -n +2)
    for dependency in $below; do
        [ "$(level "$dependency")" = none ] && continue
        if [ "$(level "$dependency")" -ge "$(level "$package")" ]; then
            echo "$package must not depend on $dependency" >&2
            bad=1
        fi
    done
done
exit $bad
