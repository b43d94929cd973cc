#!/usr/bin/env bash
# Changes one operator, constant or statement at a time in a copy of the tree, and counts how many
# of these mutants the tests kill.
#
#   ci/mutants.sh [MUTANTS [CRATE...]]
#               a sample of 100 over zpool-core, pool-manager, zpool-zbud, zpool-zsmalloc and zswap
#               together, unless told otherwise
#   SEED=n      another sample (1); the same seed and tree give the same sample
#   SKIP=n      goes on after the first n sites of the sample, where an earlier run was ended
#   BUDGET=n    seconds that the test programs of a crate take together at most (60); the slowest
#               ones are left out
#   LIST=1      prints the sample, and runs nothing
#
# Prints a line per mutant, then those that survived, and fails if fewer than 90 % of those that
# compile were killed. A survivor is a gap in the tests, or a change that no test can see. The
# latter go into ci/mutants.equivalent, with a reason, and are then left out. Builds in
# target/mutants, with every test program in the order of its time, so it is quickest on a quiet
# machine; too slow for .ci/run. docs/mutants.md says what was found.
set -euo pipefail
cd "$(dirname "$0")/.."

count=${1:-100}
[ $# -gt 0 ] && shift
exec python3 ci/mutants.py "$count" "${SEED:-1}" "${SKIP:-0}" "$@"
