#!/usr/bin/env bash
# Arrows between the crates go to a lower level only (ARCHITECTURE.md). Dev-dependencies on conformance are the exception.
set -euo pipefail
cd "$(dirname "$0")/.."
level() {
    case $1 in
        zpool-core) echo 0 ;;
        zpool-zbud | zpool-zsmalloc | zpool-lz4 | zpool-lzo | zpool-pagelz | zpool-zstd) echo 1 ;;
        zpool-manager | zpool-conformance) echo 2 ;;
        zswap | workload) echo 3 ;;
        zlab | benches) echo 4 ;;
        *) echo none ;;
    esac
}
bad=0
members=$(cargo tree --locked --workspace --depth 0 --prefix none --format '{p}' | cut -d' ' -f1 | sed '/^$/d' | sort -u)
for package in $members; do
    below=$(cargo tree --locked -p "$package" --all-features --edges normal,build --depth 1 --prefix none --format '{p}' | tail -n +2 | cut -d' ' -f1)
    for dependency in $below; do
        [ "$(level "$dependency")" = none ] && continue
        if [ "$(level "$dependency")" -ge "$(level "$package")" ]; then
            echo "$package must not depend on $dependency" >&2
            bad=1
        fi
    done
done
exit $bad
