#!/usr/bin/env bash
# The files that contain unsafe code are exactly those that UNSAFE.md lists (tests and fuzz targets aside).
set -euo pipefail
cd "$(dirname "$0")/.."
files=$(git ls-files -co --exclude-standard '*.rs' ':!*/tests/*' ':!fuzz/*' | sort -u | while read -r f; do [ -e "$f" ] && echo "$f"; done)
found=$(grep -lE '^[^/"]*\bunsafe (\{|fn|impl|trait)' $files | sort)
listed=$(grep -oE '^\| `[^`]+\.rs`' UNSAFE.md | tr -d '|` ' | sort)
diff <(echo "$listed") <(echo "$found") || { echo "UNSAFE.md (<) and the code (>) differ" >&2; exit 1; }
echo "$(echo "$found" | wc -l) files"
