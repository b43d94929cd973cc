#!/usr/bin/env bash
# The files that contain unsafe code are exactly those that UNSAFE.md lists (tests and fuzz targets aside).
set -euo pipefail
cd "$(dirname "$0")/.."
found=$(git ls-files '*.rs' ':!*/tests/*' ':!fuzz/*' | xargs grep -lE '^[^/"]*\bunsafe (\{|fn|impl|trait)' | sort)
listed=$(grep -oE '^\| `[^`]+\.rs`' UNSAFE.md | tr -d '|` ' | sort)
diff <(echo "$listed") <(echo "$found") || { echo "UNSAFE.md (<) and the code (>) differ" >&2; exit 1; }
echo "$(echo "$found" | wc -l) files"
