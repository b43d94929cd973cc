#!/usr/bin/env bash
# Plants bugs in a copy of the tree, one at a time, and checks that the named tests find each.
#
#   ci/planted.sh [NAME...]     all bugs, or these
#
# A bug that no test finds fails this script, and so does one whose place in the source is gone.
# Builds in target/planted, so the second run is quick.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 ci/planted.py "$@"
