#!/usr/bin/env bash
# Changes one operator, constant or statement at a time in a copy of the tree, and counts how many of these mutants the crate's tests kill.
#
#   ci/mutants.sh [MUTANTS [CRATE...]]     40 of each of zpool-zbud and zpool-zsmalloc, unless told otherwise
#   SEED=n                                 another sample
#   SKIP=n                                 go on after the first n sites of the sample, where an earlier run was ended
#   JOBS=n                                 mutants at a time (1)
#
# Prints a line a mutant, then those that survived, and fails if fewer than 90 % of those that compile were killed. A survivor is either a gap in the tests
# or a change that nobody can see: look at each. Takes about half a minute a mutant, so it is no part of .ci/run; docs/mutants.md tells what was found.
set -euo pipefail
cd "$(dirname "$0")/.."

count=${1:-40}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- zpool-zbud zpool-zsmalloc

if cargo mutants --version >/dev/null 2>&1; then
    # The same question asked of every site: hours.
    for crate in "$@"; do
        cargo mutants --package "$crate" --timeout 200 --exclude '**/check.rs' --exclude '**/validate.rs'
    done
    exit
fi
exec python3 ci/mutants.py "$count" "${SEED:-1}" "${JOBS:-1}" "$@"
